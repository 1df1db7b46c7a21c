"""Commands written out, to be run by whatever there is."""

import dataclasses

from t5x_like.scaling.sweeps.executors.executor import Executor, Handle, Job, shell_line


@dataclasses.dataclass
class Print(Executor):
    """Runs nothing: the sweep prints one command a line and ends.

    The gin files are written, so that the commands can be copied; a sweep started again later
    finds what they have done.
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
