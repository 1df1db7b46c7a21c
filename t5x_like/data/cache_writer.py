"""Writing a cache shard by shard, in several processes, so that it can be interrupted anywhere.

Each `cache_worker` writes shards. A split's `info` appears when all its shards are there, and
`COMPLETED` when all the splits are. Nothing that is half-written ever has a final name.
"""

import concurrent.futures
import contextlib
import fcntl
import importlib.metadata
import json
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from t5x_like.data import cache_layout, cache_worker
from t5x_like.errors import UserError
from t5x_like.protocols import Task


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a cache folder for one writer; a second one waits, and then finds the work done."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(
    task: Task,
    folder: Path,
    splits: Sequence[str] | None,
    num_shards: int,
    num_workers: int | None,
    progress: bool,
) -> int:
    """Writes what is missing of a cache, see `cache.cache_task`; returns the shards written."""
    fingerprint = task.fingerprint()
    _clear_stale(folder, fingerprint)
    wanted = list(splits) if splits is not None else None
    if _is_done(folder, wanted):
        return 0
    workers = min(num_workers or os.cpu_count() or 1, num_shards)
    pickled = _pickled(task)
    if workers == 1 or pickled is None:
        worker = cache_worker.Worker(task)
        names = _known(task, wanted, worker.splits())
        todo = _todo(folder, names, num_shards, fingerprint)
        with _bar(task.name, len(todo), progress) as update:
            for split, shard in todo:
                worker.write(folder, split, shard, num_shards, fingerprint, lambda n: update(0, n))
                update(1, 0)
    else:
        context = multiprocessing.get_context("spawn")
        counter = context.Value("q", 0)
        with concurrent.futures.ProcessPoolExecutor(
            workers, mp_context=context, initializer=cache_worker.start, initargs=(pickled, counter)
        ) as pool:
            # One question for each worker, so that all import TensorFlow at the same time.
            answers = [pool.submit(cache_worker.splits_of) for _ in range(workers)]
            names = _known(task, wanted, answers[0].result())
            todo = _todo(folder, names, num_shards, fingerprint)
            with _bar(task.name, len(todo), progress) as update:
                _run(pool, folder, todo, num_shards, fingerprint, counter, update)
    for split in names:
        _finish_split(folder, split, num_shards)
    _describe(task, folder, fingerprint)
    (folder / cache_layout.COMPLETED).touch()
    for path in folder.glob(".*.part-*.json"):
        path.unlink()
    return len(todo)


def _run(
    pool: concurrent.futures.Executor,
    folder: Path,
    todo: Sequence[tuple[str, int]],
    shards: int,
    fingerprint: str,
    counter: Any,
    update: Callable[[int, int], None],
) -> None:
    waiting = {pool.submit(cache_worker.write, folder, s, i, shards, fingerprint) for s, i in todo}
    seen = 0
    try:
        while waiting:
            done, waiting = concurrent.futures.wait(
                waiting, 0.2, concurrent.futures.FIRST_COMPLETED
            )
            for future in done:
                future.result()
            update(len(done), counter.value - seen)
            seen = counter.value
    except BaseException:
        for future in waiting:
            future.cancel()
        raise


def _pickled(task: Task) -> bytes | None:
    try:
        return pickle.dumps(task)
    except (pickle.PicklingError, TypeError, AttributeError):
        return None  # lambdas and TensorFlow objects stay in this process


def _known(task: Task, wanted: list[str] | None, available: list[str]) -> list[str]:
    for split in wanted or ():
        if split not in available:
            raise UserError(
                f"task {task.name!r} has no split {split!r}; it has {', '.join(available)}"
            )
    names = wanted if wanted is not None else available
    if not names:
        raise UserError(f"the source of task {task.name!r} has no splits")
    return names


def _clear_stale(folder: Path, fingerprint: str) -> None:
    """Removes what an interrupted run left behind, and all of a cache made from something else."""
    for path in folder.glob(".*.tmp"):
        path.unlink()
    description = cache_layout.task_path(folder)
    if not description.exists():
        if (folder / cache_layout.COMPLETED).exists():
            raise UserError(
                f"{folder} holds a finished cache that another tool wrote (no task.json); it can "
                "be read as it is; to build it anew, delete the folder"
            )
        return
    if cache_layout.read_json(description).get("fingerprint") == fingerprint:
        return
    (folder / cache_layout.COMPLETED).unlink(missing_ok=True)
    for split in cache_layout.splits(folder):
        cache_layout.info_path(folder, split).unlink()
        cache_layout.stats_path(folder, split).unlink(missing_ok=True)
    for pattern in ("*.tfrecord-*-of-*", ".*.index-*-of-*", ".*.part-*.json"):
        for path in folder.glob(pattern):
            path.unlink()
    description.unlink()


def _is_done(folder: Path, wanted: list[str] | None) -> bool:
    if not (folder / cache_layout.COMPLETED).exists():
        return False
    for split in wanted if wanted is not None else cache_layout.splits(folder):
        if not cache_layout.info_path(folder, split).exists():
            return False
        shards = cache_layout.read_info(folder, split).num_shards
        if not all(
            cache_layout.shard_path(folder, split, i, shards).exists() for i in range(shards)
        ):
            return False
    return True


def _todo(
    folder: Path, splits: Sequence[str], shards: int, fingerprint: str
) -> list[tuple[str, int]]:
    todo = []
    for split in splits:
        if cache_layout.info_path(folder, split).exists():
            found = cache_layout.read_info(folder, split).num_shards
            if all(cache_layout.shard_path(folder, split, i, found).exists() for i in range(found)):
                continue
            cache_layout.info_path(folder, split).unlink()
        ours = {cache_layout.shard_path(folder, split, i, shards) for i in range(shards)}
        for path in folder.glob(f"{split}.tfrecord-*-of-*"):
            if path not in ours:  # of an interrupted run with another number of shards
                path.unlink()
        for shard in range(shards):
            part = cache_worker.part_path(folder, split, shard, shards)
            path = cache_layout.shard_path(folder, split, shard, shards)
            with contextlib.suppress(OSError, ValueError, KeyError):
                done = json.loads(part.read_text(encoding="utf-8"))
                if done["fingerprint"] == fingerprint and done["bytes"] == path.stat().st_size:
                    continue
            todo.append((split, shard))
    return todo


def _finish_split(folder: Path, split: str, shards: int) -> None:
    if cache_layout.info_path(folder, split).exists():
        return
    parts = [
        cache_layout.read_json(cache_worker.part_path(folder, split, shard, shards))
        for shard in range(shards)
    ]
    stats: dict[str, int] = {}
    for part in parts:
        for name, value in part["stats"].items():
            if name.endswith("_max_tokens"):
                stats[name] = max(stats.get(name, 0), value)
            else:
                stats[name] = stats.get(name, 0) + value
    if not stats["examples"]:
        raise UserError(f"split {split!r} of the source has no examples (cache {folder})")
    cache_layout.write_json(cache_layout.stats_path(folder, split), stats)
    cache_layout.write_json(
        cache_layout.info_path(folder, split),
        {
            "num_shards": shards,
            "features": parts[0]["features"],
            "seqio_version": importlib.metadata.version("seqio"),
        },
    )


def _describe(task: Task, folder: Path, fingerprint: str) -> None:
    """Writes `task.json`, from which a host without the vocabulary's library can train."""
    features: dict[str, dict[str, Any]] = {}
    for name, feature in task.output_features.items():
        features[name] = {
            "dtype": "int32",
            "rank": 1,
            "add_eos": bool(feature.add_eos),
            "vocabulary": dict(feature.vocabulary.spec()),
        }
    specs = {name: feature["vocabulary"] for name, feature in features.items()}
    cache_layout.write_json(
        cache_layout.task_path(folder),
        {
            "features": features,
            "fingerprint": fingerprint,
            "source": repr(getattr(task, "source", None)),
            "objectives": {task.name: repr(task.objective(specs))},
        },
    )


@contextlib.contextmanager
def _bar(name: str, shards: int, show: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error: shards done, and examples so far."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("caching {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("shards, {task.fields[examples]:,} examples"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task(name, total=shards, examples=0)
        examples = 0

        def update(more_shards: int, more_examples: int) -> None:
            nonlocal examples
            examples += more_examples
            bar.update(task, advance=more_shards, examples=examples)

        yield update
