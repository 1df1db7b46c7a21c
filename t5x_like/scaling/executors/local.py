"""Processes on this machine, each on cores of its own."""

import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from t5x_like.errors import UserError
from t5x_like.scaling.executors.executor import Executor, Handle, Job, environment

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclasses.dataclass
class Local(Executor):
    """`workers` processes at a time.

    A job that is on the way when this process is killed is killed with it (on Linux), so that
    two never write to one run.

    Attributes:
      workers: processes at a time; None for one for each `cores_per_worker` cores.
      cores_per_worker: that a process may use; None leaves all to each.
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
            # More workers than there are cores for share them.
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
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        parent = os.getpid()

        def prepare() -> None:
            if libc is not None:
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != parent:  # it died before this took hold
                    os._exit(1)
                if cores is not None:
                    os.sched_setaffinity(0, cores)

        with open(job.log, "ab") as log:
            self._process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=True,  # Ctrl-C is this process's, which asks in its own way
                preexec_fn=prepare,
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
