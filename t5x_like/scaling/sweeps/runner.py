"""Runs a sweep to its end, and resumes it after an interruption."""

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from t5x_like import checkpoints, config
from t5x_like.data import CacheStatus, cache_status, status_of_description
from t5x_like.distributed.preemption import Preempted, StopRequest, stop_on_signal
from t5x_like.errors import UserError
from t5x_like.host import command, directory_lock
from t5x_like.host import files as storage
from t5x_like.scaling.sweeps import earlier_runs
from t5x_like.scaling.sweeps.cells import GIN_FILE, LOG_FILE, Cell, cell_directory
from t5x_like.scaling.sweeps.executors.dry_run import Print
from t5x_like.scaling.sweeps.executors.executor import Executor, Job, environment, python_command
from t5x_like.scaling.sweeps.executors.local import Local
from t5x_like.scaling.sweeps.jobs import Work, drive
from t5x_like.scaling.sweeps.learning_rate_search import Factors
from t5x_like.scaling.sweeps.progress import SweepProgress
from t5x_like.scaling.sweeps.results import FAILED_FILE, SWEEP_FILE, cell_state, read_sweep
from t5x_like.scaling.sweeps.suites import measure, suites_of
from t5x_like.scaling.sweeps.sweep import Sweep


def run_sweep(
    *,
    sweep: Sweep,
    sweep_dir: str,
    executor: Executor | None = None,
    retries: int = 1,
    cache_dir: str | None = None,
    suites: Sequence[str] = (),
) -> dict[str, Any]:
    """Trains the runs that are not finished yet, measures them, and returns a summary.

    Args:
      sweep: the sweep.
      sweep_dir: its directory; runs that are finished there are not run again.
      executor: where jobs run; processes on this machine when None.
      retries: how often a failed run is started again, each time from its checkpoint.
      cache_dir: of the tokenized tasks; None leaves it to the base's gin files.
      suites: gin files of `t5x-like eval`, each of a task or mixture and what is measured of it;
        finished runs are measured by each once.

    Returns:
      `runs`, `done`, `failed` (names), `not_measured` (run and suite), `learning_rate_factors`,
      `directory`.

    Raises:
      UserError: the directory holds another sweep, or a cell cannot be built.
      Preempted: a signal asked to stop; finished runs are kept.
    """
    executor = executor if executor is not None else Local()
    sweep = with_cache_dir(sweep, cache_dir)
    root = sweep_root(sweep_dir)
    *_, planned = sweep.stage_cells()  # errors in the sweep come before anything is written
    if sweep.learning_rate_search and (far := sweep.learning_rate_search.too_cheap_for(planned)):
        print(f"warning: {far}", file=sys.stderr, flush=True)
    chosen = suites_of(suites)
    with _locked(root), stop_on_signal() as stop:
        search = sweep.search_cells()
        if search:
            _write_plan(root, sweep, [], search, {})
            _run(root, sweep, search, executor, retries, stop, "learning rates")
            if isinstance(executor, Print):
                print("# then start the sweep again: its runs depend on these")
                return {**_summary(root, search, {}), "not_measured": []}
        factors = _best_factors(root, sweep, search)
        *stages, cells = sweep.stage_cells(factors)
        earlier = [cell for stage in stages for cell in stage]
        _write_plan(root, sweep, cells, search, factors, earlier)
        _run(root, sweep, [*earlier, *cells], executor, retries, stop, sweep.name)
        summary = _summary(root, [*earlier, *cells], factors)
        finished = {
            cell.name: cell.directory(root)
            for cell in cells
            if isinstance(executor, Print) or _status(root, cell) == "done"
        }
        title = f"{sweep.name}, measured"
        missing = measure(finished, chosen, executor, retries, stop, title)
        return {**summary, "not_measured": missing}


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
    """Runs cells, each as soon as what it starts from exists, the most expensive first."""
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
    jobs = [_Training(root, group) for group in _together(todo, sweep.vectorize)]
    progress = SweepProgress(title, {cell.name: cell.cost for cell in todo})
    # A run that is done changes no more: its records are read once, not at every look.
    done: dict[str, dict[str, Any]] = {}

    def rows() -> list[dict[str, Any]]:
        states = {
            name: done.get(name) or _state(root, record, jobs) for name, record in records.items()
        }
        done.update((name, state) for name, state in states.items() if state["status"] == "done")
        return list(states.values())

    try:
        drive(jobs, rows, executor, retries, stop, progress)
    finally:
        progress.close()


class _Training(Work):
    """A run, or several as one program."""

    hindered = "the run that it starts from has no such checkpoint"

    def __init__(self, root: Path, cells: Sequence[Cell]) -> None:
        self._root, self._cells = root, cells
        files = [str(cell.directory(root) / GIN_FILE) for cell in cells]
        if len(files) == 1:
            command = python_command("t5x_like", "train", f"--gin_file={files[0]}")
        else:
            command = python_command("t5x_like.scaling.sweeps.vectorized", *files)
        log = cells[0].directory(root) / LOG_FILE
        job = Job(cells[0].name, command, log)
        super().__init__([cell.name for cell in cells], job, sum(cell.cost for cell in cells))
        needed = [stem for stem in (cells[0].stem, cells[0].start) if stem]
        self._needed = [(str(cell_directory(root, stem.cell)), stem.step) for stem in needed]

    @property
    def ready(self) -> bool:
        """Whether the checkpoint that it starts from is complete."""
        return all(step in checkpoints.checkpoint_steps(place) for place, step in self._needed)

    def is_done(self) -> bool:
        return all(_status(self._root, cell) == "done" for cell in self._cells)

    def give_up(self, reason: str) -> None:
        for cell in self._cells:
            storage.write_whole(cell.directory(self._root) / FAILED_FILE, reason + "\n")


def _state(root: Path, record: Mapping[str, Any], jobs: Sequence[_Training]) -> dict[str, Any]:
    """The row of a run in the progress table."""
    state = {**record, **cell_state(root, dict(record))}
    if state["status"] == "running":
        mine = [job for job in jobs if record["name"] in job.names]
        state["status"] = "running" if any(job.handle is not None for job in mine) else "waiting"
    return state


def _together(cells: Sequence[Cell], vectorize: bool) -> list[list[Cell]]:
    """Groups the runs that can share a program."""
    if not vectorize:
        return [[cell] for cell in cells]
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        free = ("SEED", "LEARNING_RATE")
        rest = sorted((k, repr(v)) for k, v in cell.bindings.items() if k not in free)
        # One program starts from no parameters of others.
        key = (cell.files, cell.family, tuple(rest), cell.stem, cell.start and cell.name)
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
    factors: Mapping[str, Factors],
    earlier: Sequence[Cell] = (),
) -> None:
    """Writes `sweep.json`, after checking that the directory holds no other sweep.

    Raises:
      UserError: a run of the same name is of another configuration.
    """
    path = root / SWEEP_FILE
    old = {"cells": [], "search": [], "earlier": [], **(read_sweep(root) if path.exists() else {})}
    earlier_runs.check_search(root, old, search)
    known = (*old["earlier"], *old["cells"], *old["search"])
    earlier_runs.check(root, sweep.name, known, (*earlier, *cells, *search))
    kept = old["cells"] if not cells else [cell.record() for cell in cells]
    plan = {
        "name": sweep.name,
        "family": sweep.family,
        "variants": [variant.name for variant in sweep.variants],
        "published": sweep.published,
        "learning_rate_factors": dict(factors) or old.get("learning_rate_factors", {}),
        "cells": kept,
        "search": [cell.record() for cell in search],
        "stages": [stage.name for stage in sweep.stages],
        "earlier": [cell.record() for cell in earlier],
    }
    _write_if_new(path, json.dumps(plan, indent=1) + "\n")


def _write_if_new(path: Path, text: str) -> None:
    """Replaces a file, unless it holds the text already: its time of change stays."""
    if not path.exists() or path.read_text() != text:
        storage.write_whole(path, text)


def _best_factors(root: Path, sweep: Sweep, search: Sequence[Cell]) -> dict[str, Factors]:
    """What the search found for each variant, from the losses of its runs."""
    if not search or sweep.learning_rate_search is None:
        return {}
    found = {}
    for variant in sweep.variants:
        cells = [cell for cell in search if cell.variant == variant.name]
        losses = [cell_state(root, cell.record())["loss"] for cell in cells]
        best, advice = sweep.learning_rate_search.best_factors(cells, losses)
        said = ", ".join(f"x{factor} at {flops:.3g} FLOPs" for flops, factor in best)
        print(f"{variant.name or sweep.name}: learning rate {said}{advice}", flush=True)
        found[variant.name] = best
    return found


def _summary(root: Path, cells: Sequence[Cell], factors: Mapping[str, Factors]) -> dict[str, Any]:
    states = {cell.name: _status(root, cell) for cell in cells}
    return {
        "directory": str(root),
        "runs": len(cells),
        "done": sum(status == "done" for status in states.values()),
        "failed": [name for name, status in states.items() if status == "failed"],
        "learning_rate_factors": dict(factors),
    }


def _status(root: Path, cell: Cell) -> str:
    return str(cell_state(root, cell.record())["status"])


def _build_caches(root: Path, cells: Sequence[Cell], stop: StopRequest) -> None:
    """Tokenizes the data of the runs once, before several runs would do it at once."""
    for cell in {cell.family: cell for cell in cells}.values():
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
        in_parts = config.has_macro("SHARD_STORE") and config.macro("SHARD_STORE") is not None
        verify = not config.is_bound_to("DatasetConfig", "verify_source", False)
    look = status_of_description if in_parts else cache_status
    found = [look(member, directory, verify_source=verify).status for member, _ in task.tasks]
    return all(status is CacheStatus.READY for status in found)


if __name__ == "__main__":
    command.run("sweep")
