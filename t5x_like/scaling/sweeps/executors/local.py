"""Runs jobs as processes on this machine, each on its own cores."""

import dataclasses
import os
from collections.abc import Sequence

from t5x_like.errors import UserError
from t5x_like.scaling.sweeps.executors import child
from t5x_like.scaling.sweeps.executors.executor import Executor, Handle, Job, environment


@dataclasses.dataclass
class Local(Executor):
    """Runs `workers` processes at a time.

    When this process is killed, its jobs are killed with it (on Linux), so that two processes never
    write to one run.

    Attributes:
      workers: processes at a time; None for one per `cores_per_worker` cores.
      cores_per_worker: cores that a process may use; None for all.
    """

    workers: int | None = None
    cores_per_worker: int | None = 1

    def __post_init__(self) -> None:
        cores = _cores()
        each = self.cores_per_worker or len(cores)
        count = self.workers if self.workers is not None else max(1, len(cores) // each)
        if count < 1 or each < 1:
            raise UserError(f"{count} workers of {each} cores: both must be 1 or more.")
        self.slots: int | None = count
        self._places: list[Sequence[int]] = [
            # More workers than cores: they share them.
            [cores[(i * each + k) % len(cores)] for k in range(min(each, len(cores)))]
            for i in range(count)
        ]
        self._running: list[_Process | None] = [None] * count

    def submit(self, job: Job) -> Handle:
        """See `Executor`."""
        free = [i for i, process in enumerate(self._running) if not process or process.ended]
        if not free:
            raise RuntimeError(f"all {self.slots} workers are busy")
        cores = self._places[free[0]] if self.cores_per_worker else None
        process = _Process(job, cores)
        self._running[free[0]] = process
        return process


class _Process(Handle):
    def __init__(self, job: Job, cores: Sequence[int] | None) -> None:
        self._process = child.start(
            child.ended_with_parent(job.command, cores), job.log, environment()
        )

    @property
    def ended(self) -> bool:
        return self.poll() is not None

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        if not self.ended:
            self._process.terminate()


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
