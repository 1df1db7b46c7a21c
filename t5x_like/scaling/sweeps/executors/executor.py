"""What runs the commands of a sweep: one small interface."""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import t5x_like


@dataclasses.dataclass(frozen=True)
class Job:
    """A command, which may be started again: it goes on from its checkpoints.

    Attributes:
      name: for people.
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
    """Where jobs run.

    Attributes:
      slots: jobs to hold at a time; None leaves the queue to the cluster.
    """

    slots: int | None

    def submit(self, job: Job) -> Handle:
        """Starts or queues a job.

        Raises:
          UserError: what it needs is not there.
        """


def python_command(module: str, *arguments: str) -> tuple[str, ...]:
    """This Python running a module of the engine."""
    return sys.executable, "-m", module, *arguments


def environment(added: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, in which the engine is found from any directory."""
    root = str(Path(t5x_like.__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([root, inherited] if inherited else [root])
    return {**os.environ, "PYTHONPATH": path, **(added or {})}


def shell_line(command: Sequence[str]) -> str:
    """The command as a shell takes it."""
    import shlex

    return shlex.join(command)
