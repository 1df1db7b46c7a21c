"""Runs the jobs of a sweep: as many at a time as the executor takes, each again when it fails."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from t5x_like.distributed.preemption import (
    EXIT_CODE,
    EXIT_CODE_INTERRUPTED,
    Preempted,
    StopRequest,
)
from t5x_like.scaling.sweeps.executors.dry_run import Print
from t5x_like.scaling.sweeps.executors.executor import Executor, Handle, Job
from t5x_like.scaling.sweeps.progress import SweepProgress

POLL_SECONDS = 0.25
# Between two looks at what all runs have written: of a hundred runs one takes milliseconds, which
# the runs on this machine would otherwise have.
SHOW_SECONDS = 2.0
Rows = Callable[[], Sequence[Mapping[str, Any]]]
"""Gives the rows of the progress table."""


class Work:
    """A job, and how far it has come.

    Args:
      names: of what it does, for display.
      job: what is started.
      cost: what it costs; the most expensive come first.

    Attributes:
      handle: of the job while it runs.
      failures: how often it has failed.
      ended: whether it is not started again.
      hindered: why it can never start; "" where it can.
    """

    hindered = ""

    def __init__(self, names: Sequence[str], job: Job, cost: float) -> None:
        self.names, self.job, self.cost = list(names), job, cost
        self.handle: Handle | None = None
        self.failures = 0
        self.ended = False

    @property
    def ready(self) -> bool:
        """Whether what it starts from is there."""
        return True

    def is_done(self) -> bool:
        """Whether it has done its work, once it has ended with exit code 0."""
        raise NotImplementedError

    def give_up(self, reason: str) -> None:
        """It has failed for good; one line says why."""
        raise NotImplementedError


def drive(
    jobs: Sequence[Work],
    rows: Rows,
    executor: Executor,
    retries: int,
    stop: StopRequest,
    progress: SweepProgress,
) -> None:
    """Runs jobs to their ends, the most expensive first.

    Args:
      jobs: those that have something left to do.
      rows: what is shown meanwhile.
      executor: where they run.
      retries: how often a failed job is started again.
      stop: whether a signal has asked to stop.
      progress: where they are shown.

    Raises:
      Preempted: a signal has asked to stop, and all jobs have.
    """
    printing = isinstance(executor, Print)
    jobs = sorted(jobs, key=lambda job: -job.cost)
    shown = -math.inf
    while waiting := [job for job in jobs if not job.ended]:
        if stop.signal_name:
            _stop_all(jobs)
            line = f"{stop.signal_name} received: the same command resumes the sweep."
            raise Preempted(line, stop.signal_name)
        running = [job for job in waiting if job.handle is not None]
        for job in running:
            _settle(job, retries, progress)
        free = (
            len(jobs)
            if executor.slots is None
            else executor.slots - len([job for job in running if job.handle is not None])
        )
        idle = [job for job in waiting if job.handle is None and not job.ended]
        startable = [job for job in idle if printing or job.ready]
        for job in startable[: max(free, 0)]:
            job.handle = executor.submit(job.job)
            job.ended = printing
        stuck = idle and not startable and not [job for job in waiting if job.handle is not None]
        if stuck:
            for job in idle:
                _give_up(job, job.hindered)
                progress.say(f"{job.names[0]}  failed: {job.hindered}")
        if printing:
            continue
        if time.monotonic() - shown >= SHOW_SECONDS or all(job.ended for job in jobs):
            progress.update(rows())
            shown = time.monotonic()
        time.sleep(POLL_SECONDS)


def _settle(job: Work, retries: int, progress: SweepProgress) -> None:
    """Checks whether a running job has ended, and how."""
    assert job.handle is not None
    code = job.handle.poll()
    if code is None:
        return
    job.handle = None
    if code == 0 and job.is_done():
        job.ended = True
    elif code not in (
        EXIT_CODE,
        EXIT_CODE_INTERRUPTED,
    ):  # a preempted job has saved its state, and is started again
        job.failures += 1
        reason = _last_line(job.job.log) or f"exit code {code}"
        # Starting again does not help after a user error.
        if code == 2 or job.failures > retries:
            _give_up(job, reason)
            progress.say(f"{job.names[0]}  failed: {reason} (see {job.job.log})")
        else:
            progress.say(f"{job.names[0]}  starts again: {reason}")


def _give_up(job: Work, reason: str) -> None:
    job.ended = True
    job.give_up(reason)


def _stop_all(jobs: Sequence[Work]) -> None:
    """Asks every running job to save and end."""
    handles = [job.handle for job in jobs if job.handle is not None]
    for handle in handles:
        handle.stop()
    while any(handle.poll() is None for handle in handles):
        time.sleep(POLL_SECONDS)


def _last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
