"""Measures the finished runs of a sweep on tasks, by suites: gin files of `t5x-like eval`."""

import hashlib
import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t5x_like import config
from t5x_like.data import CacheStatus, cache_status
from t5x_like.distributed.preemption import Preempted, StopRequest
from t5x_like.errors import UserError
from t5x_like.host import files as storage
from t5x_like.scaling.sweeps.cells import included
from t5x_like.scaling.sweeps.executors.dry_run import Print
from t5x_like.scaling.sweeps.executors.executor import Executor, Job, environment, python_command
from t5x_like.scaling.sweeps.jobs import Work, drive
from t5x_like.scaling.sweeps.progress import SweepProgress

EVAL_FILE = "runs/eval.gin"
# In a run's directory: the suites that it was measured by.
MEASURED_FILE = "measured.json"


@dataclass(frozen=True)
class Suite:
    """A gin file that names a task or mixture, and what is measured of it; or a paper's table.

    Attributes:
      gin_file: as it can be found from any directory.
      digest: of all that it binds: another text is another suite.
    """

    gin_file: str
    digest: str

    @property
    def name(self) -> str:
        """For display, and of its log."""
        return Path(self.gin_file).stem

    def arguments(self, directory: Path) -> list[str]:
        """The gin files of a run and of the suite, in order."""
        files = (str(directory / "config.gin"), EVAL_FILE, self.gin_file)
        return [f"--gin_file={name}" for name in files]


def suites_of(gin_files: Sequence[str]) -> list[Suite]:
    """The suites of these files.

    Raises:
      UserError: a file is not there, cannot be read, or is given twice; two are of the same task
        and split.
    """
    found: list[Suite] = []
    records: dict[tuple[Any, ...], str] = {}
    for gin_file in gin_files:
        with config.isolated():
            config.parse([EVAL_FILE, gin_file])
            text = config.full_text()
            names = () if config.has_macro("SUITE") else ("MIXTURE_OR_TASK_NAME", "SPLIT")
            of = tuple(config.macro(name) if config.has_macro(name) else None for name in names)
        digest = hashlib.sha256(text.encode()).hexdigest()
        if of and of in records and digest not in [suite.digest for suite in found]:
            task, split = of[0] or "a run's own task", of[1]
            raise UserError(
                f"SUITES has '{records[of]}' and '{gin_file}', both of {task}, split "
                f"{split!r}, whose records would be one: list all measurements in one file."
            )
        records[of] = gin_file
        found.append(Suite(included(gin_file), digest))
    for suite in found:
        if [other.digest for other in found].count(suite.digest) > 1:
            raise UserError(f"SUITES has '{suite.gin_file}' twice: once measures all of it.")
    return found


def measure(
    cells: Mapping[str, Path],
    suites: Sequence[Suite],
    executor: Executor,
    retries: int,
    stop: StopRequest,
    title: str,
) -> list[str]:
    """Measures runs by suites, but for what they were measured by before.

    Args:
      cells: the directories of finished runs by name.
      suites: what is measured.
      executor: where the jobs run.
      retries: how often a failed one is started again.
      stop: whether a signal has asked to stop.
      title: of the progress table.

    Returns:
      What could not be measured, `RUN SUITE`.

    Raises:
      UserError: the data of a suite cannot be prepared.
      Preempted: a signal has asked to stop.
    """
    jobs: list[_Measuring] = []
    for suite in suites:
        first: _Measuring | None = None
        for name, directory in cells.items():
            if suite.digest not in measured_by(directory):
                jobs.append(_Measuring(name, directory, suite, first))
                first = first or jobs[-1]
    if not jobs:
        return []
    if not isinstance(executor, Print):
        _build_caches(jobs, stop)
    progress = SweepProgress(title, {job.names[0]: job.cost for job in jobs})
    try:
        drive(jobs, lambda: [job.row() for job in jobs], executor, retries, stop, progress)
    finally:
        progress.close()
    return [job.names[0] for job in jobs if job.failed]


def measured_by(directory: Path) -> dict[str, str]:
    """The digests of the suites that a run was measured by, and their names.

    Raises:
      UserError: the file that says so is damaged.
    """
    path = directory / MEASURED_FILE
    if not path.exists():
        return {}
    try:
        return {str(digest): str(name) for digest, name in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"'{path}' is damaged: delete it, and the run is measured again."
        ) from error


class _Measuring(Work):
    """One run measured by one suite.

    The first run of a suite goes ahead of the others: a paper's table tokenizes what it needs.
    """

    def __init__(
        self, name: str, directory: Path, suite: Suite, first: "_Measuring | None"
    ) -> None:
        self.directory, self.suite, self._first = directory, suite, first
        self.failed = False
        command = python_command("t5x_like", "eval", *suite.arguments(directory))
        label = f"{name} {suite.name}"
        log = directory / f"log-{suite.name}.txt"
        super().__init__([label], Job(label, command, log), cost=1.0)

    @property
    def ready(self) -> bool:
        """Whether the first run of the suite has been measured, or has failed."""
        return self._first is None or self._first.ended

    def is_done(self) -> bool:
        known = measured_by(self.directory) | {self.suite.digest: self.suite.gin_file}
        text = json.dumps(known, indent=1) + "\n"
        storage.write_whole(self.directory / MEASURED_FILE, text)
        return True

    def give_up(self, reason: str) -> None:
        self.failed = True

    def row(self) -> dict[str, Any]:
        """As the progress table shows it."""
        status = "failed" if self.failed else "done" if self.ended else "waiting"
        nothing = dict.fromkeys(("train_loss", "loss", "tokens_per_second"), math.nan)
        numbers = {"parameters": 0, "tokens": 0, "step": int(self.ended), "steps": 1}
        running = "running" if self.handle is not None else status
        return {"name": self.names[0], "status": running, **numbers, **nothing}


def _build_caches(jobs: Sequence[_Measuring], stop: StopRequest) -> None:
    """Tokenizes the data of the suites once, before several jobs would miss it."""
    seen = set()
    for job in jobs:
        arguments = job.suite.arguments(job.directory)
        ready, key = _cache_state([name.removeprefix("--gin_file=") for name in arguments])
        if ready or key in seen:
            continue
        seen.add(key)
        command = python_command("t5x_like", "cache", *arguments)
        done = subprocess.run(command, env=environment(), check=False)
        if stop.signal_name:
            line = f"{stop.signal_name} received while the cache was built."
            raise Preempted(line, stop.signal_name)
        if done.returncode:
            raise UserError(f"the data of {job.suite.gin_file} could not be prepared (see above).")


def _cache_state(gin_files: Sequence[str]) -> tuple[bool, tuple[str, ...]]:
    """Whether what a suite measures is tokenized for a run, and what that is."""
    with config.isolated():
        config.parse(gin_files)
        task: Any = config.macro("TASK")
        directory = config.macro("CACHE_DIR")
    found = [cache_status(member, directory) for member, _ in task.tasks]
    ready = all(one.status is CacheStatus.READY for one in found)
    return ready, tuple(str(one.path) for one in found)
