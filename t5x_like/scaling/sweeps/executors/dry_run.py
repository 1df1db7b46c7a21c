"""Prints the commands of a sweep instead of running them."""

import dataclasses

from t5x_like.scaling.sweeps.executors.executor import Executor, Handle, Job, shell_line


@dataclasses.dataclass
class Print(Executor):
    """Prints one command a line, and runs nothing.

    The gin files are written, so that the commands can be copied; a sweep that is started again
    later finds their results.
    """

    slots: int | None = None

    def submit(self, job: Job) -> Handle:
        """Prints the command."""
        print(shell_line(job.command), flush=True)
        return _Printed()


class _Printed(Handle):
    def poll(self) -> int | None:
        return None

    def stop(self) -> None:
        pass
