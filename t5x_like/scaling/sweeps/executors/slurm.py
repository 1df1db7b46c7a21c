"""Runs jobs in Slurm, through submitit."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t5x_like.distributed.preemption import EXIT_CODE as PREEMPTED
from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.scaling.sweeps.executors import child
from t5x_like.scaling.sweeps.executors.executor import Executor, Handle, Job, environment

# Beside a run's log: the job that a killed sweep has left in the queue.
JOB_FILE = "slurm_job.json"
_ALIVE = ("PENDING", "RUNNING", "REQUEUED", "CONFIGURING", "RESIZING", "SUSPENDED", "COMPLETING")


@dataclasses.dataclass
class Slurm(Executor):
    """Submits each job of the sweep as a Slurm job.

    Jobs outlive the sweep's own process. A restarted sweep finds those that are still in the queue,
    and waits for them instead of submitting them again. A job that reaches its time limit is
    requeued and resumes from its checkpoint.

    Attributes:
      folder: for submitit's scripts and logs; visible to all nodes.
      parameters: of `submitit.AutoExecutor.update_parameters`, such as `{'timeout_min': 240,
        'slurm_partition': 'gpu', 'gpus_per_node': 1, 'cpus_per_task': 8}`.
      cluster: `slurm`, or `local` for processes on this machine under submitit, as a test.
      slots: jobs submitted at a time; None for all.
    """

    folder: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cluster: str = "slurm"
    slots: int | None = None

    def submit(self, job: Job) -> Handle:
        """See `Executor`."""
        note = job.log.with_name(JOB_FILE)
        if self.cluster == "slurm" and (left := self._left(note)) is not None:
            return left
        submitit = self._submitit()
        executor = submitit.AutoExecutor(folder=str(Path(self.folder).absolute()),
                                         cluster=self.cluster)  # fmt: skip
        try:
            executor.update_parameters(name=f"t5x-{job.name}", **self.parameters)
        except (NameError, TypeError, ValueError) as error:
            raise UserError(f"executors.Slurm.parameters: {error}") from error
        # submitit writes this to disk, so the environment with its secrets is left out.
        # Slurm itself passes that to the job.
        added = {"PYTHONPATH": environment()["PYTHONPATH"]}
        command = Command(list(job.command), str(job.log), added)
        submitted = executor.submit(command)
        files.write_whole(note, json.dumps({"job_id": submitted.job_id}))
        return _SlurmJob(submitted)

    def _left(self, note: Path) -> Handle | None:
        """The job of an earlier start that is still in the queue."""
        if not note.exists():
            return None
        import submitit

        job_id = json.loads(note.read_text())["job_id"]
        job: Any = submitit.SlurmJob(folder=str(Path(self.folder).absolute()), job_id=job_id)
        return _SlurmJob(job) if job.state.split()[0] in _ALIVE else None

    def _submitit(self) -> Any:
        try:
            import submitit
        except ImportError as error:
            raise UserError(
                "executors.Slurm needs submitit: pip install 't5x-like[slurm]', or EXECUTOR="
                "@executors.Local()."
            ) from error
        if self.cluster == "slurm" and submitit.SlurmExecutor.affinity() < 0:
            raise UserError(
                "executors.Slurm: this machine has no `srun`; submit from a login node."
            )
        return submitit


@dataclasses.dataclass
class Command:
    """The command that a Slurm job runs.

    Attributes:
      command: the program and its arguments.
      log: file that its output is appended to.
      env: additions to the job's environment.
    """

    command: list[str]
    log: str
    env: dict[str, str]

    def __call__(self) -> int:
        """Runs it, and returns its exit code."""
        return child.run(self.command, self.log, {**os.environ, **self.env})

    def checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """Called by submitit at the time limit: requeues the same command, which resumes."""
        from submitit.helpers import DelayedSubmission

        del args, kwargs
        return DelayedSubmission(self)


class _SlurmJob(Handle):
    def __init__(self, job: Any) -> None:
        self._job = job
        self._stopped = False

    def poll(self) -> int | None:
        if not self._job.done():
            return None
        error = self._job.exception()
        if error is None:
            return int(self._job.result())
        return PREEMPTED if self._stopped else 1

    def stop(self) -> None:
        self._stopped = True
        self._job.cancel()
