"""The interface of executors, which run the commands of a sweep."""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import t5x_like


@dataclasses.dataclass(frozen=True)
class Job:
    """A command, which resumes from its checkpoints when it is started again.

    Attributes:
      name: for display.
      command: the program and its arguments.
      log: file that its output is appended to.
    """

    name: str
    command: tuple[str, ...]
    log: Path


class Handle(Protocol):
    """A job that was submitted."""

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it waits or runs."""

    def stop(self) -> None:
        """Asks it to save and end; returns at once."""


class Executor(Protocol):
    """Runs jobs.

    Attributes:
      slots: jobs at a time; None leaves queueing to the cluster.
    """

    slots: int | None

    def submit(self, job: Job) -> Handle:
        """Starts or queues a job.

        Raises:
          UserError: something that it needs is missing.
        """


def python_command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of the engine with this Python."""
    return sys.executable, "-m", module, *arguments


def environment(added: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, with the engine importable from any directory."""
    root = str(Path(t5x_like.__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([root, inherited] if inherited else [root])
    return {**os.environ, "PYTHONPATH": path, **(added or {})}


def shell_line(command: Sequence[str]) -> str:
    """Formats the command for a shell."""
    import shlex

    return shlex.join(command)
