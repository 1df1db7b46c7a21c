"""Running a job's command where an executor has put it: in a worker of Ray, in a job of Slurm."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LEASH = str(Path(__file__).with_name("leash.py"))


def leashed(command: Sequence[str], cores: Sequence[int] | None = None) -> list[str]:
    """The command so that it dies with this process, on these cores or on all."""
    place = ",".join(map(str, cores)) if cores is not None else "all"
    return [sys.executable, "-S", "-E", LEASH, str(os.getpid()), place, *command]


def start(
    command: Sequence[str], log: str | Path, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """The command as a process whose output is appended to `log`."""
    with open(log, "ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,  # Ctrl-C is the sweep's, which asks in its own way
        )


def run(command: Sequence[str], log: str, env: Mapping[str, str]) -> int:
    """Runs the command to its end; its exit code. A KeyboardInterrupt has it save and end."""
    process = start(leashed(command), log, env)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        return process.wait()
