"""Runs a job's command inside a worker of Ray or a job of Slurm."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from t5x_like.distributed.preemption import EXIT_CODE as PREEMPTED

POLL_SECONDS = 0.2
PARENT_DEATH = str(Path(__file__).with_name("parent_death.py"))


def ended_with_parent(command: Sequence[str], cores: Sequence[int] | None = None) -> list[str]:
    """Wraps the command so that it dies with this process, on given cores or on all."""
    place = ",".join(map(str, cores)) if cores is not None else "all"
    return [sys.executable, "-S", "-E", PARENT_DEATH, str(os.getpid()), place, *command]


def start(
    command: Sequence[str], log: str | Path, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Starts the command as a process whose output is appended to `log`."""
    with open(log, "ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,  # Ctrl-C goes to the sweep, which stops its jobs itself
        )


def run(command: Sequence[str], log: str, env: Mapping[str, str]) -> int:
    """Runs the command, and returns its exit code; KeyboardInterrupt makes it save and end."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As in all that a shell script starts in the background: no interrupt would arrive.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start(ended_with_parent(command), log, env)
    try:
        # Not `wait`: Ray's interrupt arrives between two Python calls, not inside one.
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
        return process.returncode
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return PREEMPTED
