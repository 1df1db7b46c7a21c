"""Runs a sweep to its end, and resumes it after an interruption."""

import contextlib
import dataclasses
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from t5x_like import checkpoints, config
from t5x_like.data import CacheStatus, cache_status
from t5x_like.distributed.preemption import (
    EXIT_CODE,
    EXIT_CODE_INTERRUPTED,
    Preempted,
    StopRequest,
    stop_on_signal,
)
from t5x_like.errors import UserError
from t5x_like.host import command, directory_lock
from t5x_like.host import files as storage
from t5x_like.scaling.sweeps.cells import GIN_FILE, LOG_FILE, Cell
from t5x_like.scaling.sweeps.executors.dry_run import Print
from t5x_like.scaling.sweeps.executors.executor import (
    Executor,
    Handle,
    Job,
    environment,
    python_command,
)
from t5x_like.scaling.sweeps.executors.local import Local
from t5x_like.scaling.sweeps.progress import SweepProgress
from t5x_like.scaling.sweeps.results import FAILED_FILE, SWEEP_FILE, cell_state, read_sweep
from t5x_like.scaling.sweeps.sweep import Sweep

POLL_SECONDS = 0.25
# Fields of a run that must not change when a sweep is resumed.
_FIXED = ("parameters", "tokens", "steps", "batch_tokens", "learning_rate", "seed", "stem")


def run_sweep(
    *,
    sweep: Sweep,
    sweep_dir: str,
    executor: Executor | None = None,
    retries: int = 1,
    cache_dir: str | None = None,
) -> dict[str, Any]:
    """Trains the runs that are not finished yet, and returns a summary.

    Args:
      sweep: the sweep.
      sweep_dir: its directory; runs that are finished there are not run again.
      executor: where jobs run; processes on this machine when None.
      retries: how often a failed run is started again, each time from its checkpoint.
      cache_dir: of the tokenized tasks; None leaves it to the base's gin files.

    Returns:
      `runs`, `done`, `failed` (names), `learning_rate_factors`, `directory`.

    Raises:
      UserError: the directory holds another sweep, or a cell cannot be built.
      Preempted: a signal asked to stop; finished runs are kept.
    """
    executor = executor if executor is not None else Local()
    sweep = with_cache_dir(sweep, cache_dir)
    root = sweep_root(sweep_dir)
    sweep.cells()  # errors in the sweep come before anything is written
    with _locked(root), stop_on_signal() as stop:
        search = sweep.search_cells()
        if search:
            _write_plan(root, sweep, [], search, {})
            _run(root, sweep, search, executor, retries, stop, "learning rates")
            if isinstance(executor, Print):
                print("# then start the sweep again: its runs depend on these")
                return _summary(root, search, {})
        factors = _best_factors(root, sweep, search)
        cells = sweep.cells(factors)
        _write_plan(root, sweep, cells, search, factors)
        _run(root, sweep, cells, executor, retries, stop, sweep.name)
        return _summary(root, cells, factors)


def with_cache_dir(sweep: Sweep, cache_dir: str | None) -> Sweep:
    """The sweep whose runs find their data there; None leaves it to the base's gin files."""
    if cache_dir is None:
        return sweep
    return dataclasses.replace(sweep, bindings={"CACHE_DIR": cache_dir, **sweep.bindings})


def sweep_root(sweep_dir: str) -> Path:
    """The absolute directory of a sweep.

    Raises:
      UserError: it is in an object store.
    """
    if storage.is_remote(sweep_dir):
        raise UserError(f"SWEEP_DIR '{sweep_dir}': a sweep is run from a file system.")
    return Path(sweep_dir).expanduser().absolute()


def _run(
    root: Path,
    sweep: Sweep,
    cells: Sequence[Cell],
    executor: Executor,
    retries: int,
    stop: StopRequest,
    title: str,
) -> None:
    """Runs cells, each as soon as its stem's checkpoint exists, the most expensive first."""
    for cell in cells:
        directory = cell.directory(root)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FAILED_FILE).unlink(missing_ok=True)
        _write_if_new(directory / GIN_FILE, cell.gin_text(sweep.name, root))
    records = {cell.name: cell.record() for cell in cells}
    todo = [cell for cell in cells if cell_state(root, records[cell.name])["status"] != "done"]
    if not todo:
        return
    _build_caches(root, todo, stop)
    jobs = [_Task(root, group) for group in _together(todo, sweep.vectorize)]
    jobs.sort(key=lambda job: -job.cost)
    progress = SweepProgress(title, {cell.name: cell.cost for cell in todo})
    try:
        _drive(root, jobs, records, executor, retries, stop, progress)
    finally:
        progress.close()


class _Task:
    """A job and its state."""

    def __init__(self, root: Path, cells: Sequence[Cell]) -> None:
        self.cells = cells
        self.names = [cell.name for cell in cells]
        self.cost = sum(cell.cost for cell in cells)
        files = [str(cell.directory(root) / GIN_FILE) for cell in cells]
        if len(files) == 1:
            command = python_command("t5x_like", "train", f"--gin_file={files[0]}")
        else:
            command = python_command("t5x_like.scaling.sweeps.vectorized", *files)
        self.log = cells[0].directory(root) / LOG_FILE
        self.job = Job(cells[0].name, command, self.log)
        stem = cells[0].stem
        self._stem = (str(root / "cells" / stem.cell), stem.step) if stem else None
        self.handle: Handle | None = None
        self.failures = 0
        self.ended = False

    @property
    def ready(self) -> bool:
        """Whether the checkpoint that it starts from is complete."""
        return self._stem is None or self._stem[1] in checkpoints.checkpoint_steps(self._stem[0])


def _drive(
    root: Path,
    jobs: Sequence[_Task],
    records: Mapping[str, Any],
    executor: Executor,
    retries: int,
    stop: StopRequest,
    progress: SweepProgress,
) -> None:
    printing = isinstance(executor, Print)
    while waiting := [job for job in jobs if not job.ended]:
        if stop.signal_name:
            _stop_all(jobs)
            line = f"{stop.signal_name} received: the same command resumes the sweep."
            raise Preempted(line, stop.signal_name)
        running = [job for job in waiting if job.handle is not None]
        for job in running:
            _settle(root, job, records, retries, progress)
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
        if stuck:  # their stem has failed
            for job in idle:
                _give_up(root, job, "the run that it branches off has no such checkpoint")
                progress.say(f"{job.names[0]}  failed: what it branches off has failed")
        if printing:
            continue
        progress.update([_state(root, record, jobs) for record in records.values()])
        time.sleep(POLL_SECONDS)


def _settle(
    root: Path, job: _Task, records: Mapping[str, Any], retries: int, progress: SweepProgress
) -> None:
    """Checks whether a running job has ended, and how."""
    assert job.handle is not None
    code = job.handle.poll()
    if code is None:
        return
    job.handle = None
    undone = [n for n in job.names if cell_state(root, records[n])["status"] != "done"]
    if code == 0 and not undone:
        job.ended = True
    elif code not in (
        EXIT_CODE,
        EXIT_CODE_INTERRUPTED,
    ):  # a preempted job has saved its state, and is started again
        job.failures += 1
        reason = _last_line(job.log) or f"exit code {code}"
        # Starting again does not help after a user error.
        if code == 2 or job.failures > retries:
            _give_up(root, job, reason)
            progress.say(f"{job.names[0]}  failed: {reason} (see {job.log})")
        else:
            progress.say(f"{job.names[0]}  starts again: {reason}")


def _give_up(root: Path, job: _Task, reason: str) -> None:
    job.ended = True
    for cell in job.cells:
        storage.write_whole(cell.directory(root) / FAILED_FILE, reason + "\n")


def _state(root: Path, record: Mapping[str, Any], jobs: Sequence[_Task]) -> dict[str, Any]:
    """The row of a run in the progress table."""
    state = {**record, **cell_state(root, dict(record))}
    if state["status"] == "running":
        mine = [job for job in jobs if record["name"] in job.names]
        state["status"] = "running" if any(job.handle is not None for job in mine) else "waiting"
    return state


def _stop_all(jobs: Sequence[_Task]) -> None:
    """Asks every running job to save and end."""
    handles = [job.handle for job in jobs if job.handle is not None]
    for handle in handles:
        handle.stop()
    while any(handle.poll() is None for handle in handles):
        time.sleep(POLL_SECONDS)


def _together(cells: Sequence[Cell], vectorize: bool) -> list[list[Cell]]:
    """Groups the runs that can share a program."""
    if not vectorize:
        return [[cell] for cell in cells]
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        free = ("SEED", "LEARNING_RATE")
        rest = sorted((k, repr(v)) for k, v in cell.bindings.items() if k not in free)
        key = (cell.files, cell.family, tuple(rest), cell.stem)
        groups.setdefault(key, []).append(cell)
    return list(groups.values())


# -- What is on disk -----------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Locks the directory against other processes."""
    storage.make_writable(storage.location(root), "SWEEP_DIR")
    held = directory_lock.lock(root, "SWEEP_DIR", "sweep")
    try:
        yield
    finally:
        held.release()


def _write_plan(
    root: Path,
    sweep: Sweep,
    cells: Sequence[Cell],
    search: Sequence[Cell],
    factors: Mapping[str, float],
) -> None:
    """Writes `sweep.json`, after checking that the directory holds no other sweep.

    Raises:
      UserError: a run of the same name has other settings.
    """
    path = root / SWEEP_FILE
    old = {"search": [], **read_sweep(root)} if path.exists() else {"cells": [], "search": []}
    planned = {cell.name: cell.record() for cell in (*cells, *search)}
    for record in (*old["cells"], *old["search"]):
        new = planned.get(record["name"], record)
        for field in _FIXED:
            if new.get(field) != record.get(field):
                raise UserError(
                    f"SWEEP_DIR '{root}' holds another sweep: its run {record['name']} has {field} "
                    f"{record.get(field)}, this one's {new[field]}. Choose another SWEEP_DIR."
                )
    kept = old["cells"] if not cells else [cell.record() for cell in cells]
    plan = {
        "name": sweep.name,
        "family": sweep.family,
        "variants": [variant.name for variant in sweep.variants],
        "learning_rate_factors": dict(factors) or old.get("learning_rate_factors", {}),
        "cells": kept,
        "search": [cell.record() for cell in search],
    }
    _write_if_new(path, json.dumps(plan, indent=1) + "\n")


def _write_if_new(path: Path, text: str) -> None:
    """Replaces a file, unless it holds the text already: its time of change stays."""
    if not path.exists() or path.read_text() != text:
        storage.write_whole(path, text)


def _best_factors(root: Path, sweep: Sweep, search: Sequence[Cell]) -> dict[str, float]:
    if not search or sweep.learning_rate_search is None:
        return {}
    found = {}
    for variant in sweep.variants:
        cells = [cell for cell in search if cell.variant == variant.name]
        losses = [cell_state(root, cell.record())["loss"] for cell in cells]
        found[variant.name] = best = sweep.learning_rate_search.best(losses)
        ends = sweep.learning_rate_search.factors[0], sweep.learning_rate_search.factors[-1]
        advice = ", the end of the range: give factors beyond it" if best in ends else ""
        print(f"{variant.name or sweep.name}: learning rate x{best}{advice}", flush=True)
    return found


def _summary(root: Path, cells: Sequence[Cell], factors: Mapping[str, float]) -> dict[str, Any]:
    states = {cell.name: cell_state(root, cell.record())["status"] for cell in cells}
    return {
        "directory": str(root),
        "runs": len(cells),
        "done": sum(status == "done" for status in states.values()),
        "failed": [name for name, status in states.items() if status == "failed"],
        "learning_rate_factors": dict(factors),
    }


def _build_caches(root: Path, cells: Sequence[Cell], stop: StopRequest) -> None:
    """Tokenizes the data of the runs once, before several runs would do it at once."""
    seen = set()
    for cell in cells:
        key = cell.family.gin_files
        if key in seen:
            continue
        seen.add(key)
        gin_file = cell.directory(root) / GIN_FILE
        if _cache_is_ready(str(gin_file)):
            continue
        command = python_command("t5x_like", "cache", f"--gin_file={gin_file}")
        done = subprocess.run(command, env=environment(), check=False)
        if stop.signal_name:
            line = f"{stop.signal_name} received while the cache was built."
            raise Preempted(line, stop.signal_name)
        if done.returncode:
            raise UserError(f"the data of {gin_file} could not be prepared (see above).")


def _cache_is_ready(gin_file: str) -> bool:
    with config.isolated():
        config.parse([gin_file])
        task: Any = config.macro("TASK")
        directory = config.macro("CACHE_DIR")
    found = [cache_status(member, directory).status for member, _ in task.tasks]
    return all(status is CacheStatus.READY for status in found)


def _last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


if __name__ == "__main__":
    command.run("sweep")
