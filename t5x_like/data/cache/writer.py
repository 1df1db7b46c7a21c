"""Writing a cache shard by shard, in several processes, so that it can be interrupted anywhere.

Each `cache_worker` writes shards. A split's `info` appears when all its shards are there, and
`COMPLETED` when all the splits are. Nothing that is half-written ever has a final name.
"""

import contextlib
import fcntl
import importlib.metadata
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from t5x_like.data.cache import layout, reader, tfrecord
from t5x_like.data.cache import pool as cache_pool
from t5x_like.data.cache import worker as cache_worker
from t5x_like.distributed.workers import can_send
from t5x_like.errors import UserError
from t5x_like.host.progress import ProgressBar
from t5x_like.protocols import Task

LOCK = ".lock"
_SHARDS = 8  # of a split, where nobody says how many


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a cache folder and holds it for one writer.

    A second writer waits, and then finds the work done. Where nothing was written, the folders
    that were made are removed again.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with _own_lock(folder) as file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            if [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                with contextlib.suppress(OSError):  # not empty
                    for path in made:
                        path.rmdir()


def _own_lock(folder: Path) -> TextIO:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        # A link is not followed: the file that it names would be emptied.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.fdopen(os.open(folder / LOCK, flags, 0o666), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            print(
                f"waiting for process {file.read() or '?'}, which writes the cache {folder}",
                file=sys.stderr,
                flush=True,
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), (folder / LOCK).stat()):
                return file
        file.close()  # its holder removed the folder


def build(
    task: Task,
    folder: Path,
    splits: Sequence[str] | None,
    num_shards: int | None,
    num_workers: int | None,
    progress: bool,
) -> int:
    """Writes what is missing of a cache, see `cache.cache_task`; returns the shards written."""
    fingerprint = task.fingerprint()
    _clear_unfinished(folder, fingerprint)
    damaged = _remove_damaged(folder)
    wanted = list(dict.fromkeys([*splits, *damaged])) if splits is not None else None
    num_shards = _shards(folder, wanted, num_shards)
    if _is_done(folder, wanted):
        return 0
    workers = min(num_workers or os.cpu_count() or 1, num_shards)
    try:
        if workers == 1 or not can_send(task):
            names, written, warnings = _write_here(
                task, folder, wanted, num_shards, fingerprint, progress
            )
        else:
            with cache_pool.Pool(task, folder, workers) as pool:
                names = _known(task, wanted, pool.splits())
                todo = _todo(folder, names, num_shards, fingerprint)
                written = len(todo)
                with _bar(task.name, written, progress, sys.stderr) as update:
                    warnings = pool.write(todo, num_shards, fingerprint, update)
        stats = {split: _stats(task, folder, split, num_shards) for split in names}
        _describe(task, folder, fingerprint)  # first: a split without it could be of another source
        for split in names:
            _finish_split(folder, split, num_shards, stats[split])
        layout.complete(folder)
    except BaseException as error:
        _remove(folder, ".*.tmp")  # of workers that were ended
        if getattr(error, "exit_code", None) == UserError.exit_code:
            # The source has to change, and nothing that was made of it can be kept.
            _remove_unfinished(folder)
        raise
    warnings += [_spelled(task, split, stats[split]) for split in names]
    for warning in filter(None, dict.fromkeys(warnings)):
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    _remove(folder, ".*.part-*.json")
    return written


def _spelled(task: Task, split: str, stats: Mapping[str, int]) -> str:
    """One line about special tokens that the text of a split spells out, or nothing."""
    count = stats.get(layout.SPECIAL_TOKENS, 0)
    if not count:
        return ""
    found = f"{task.name} {split}: the text spells out {count:,} special tokens (as <extra_id_0>)"
    if getattr(task, "spelled_special_tokens", "ids") == "text":
        return f"{found}, which stay text; SPECIAL_TOKENS='ids' makes them tokens"
    return f"{found}, which became these tokens; SPECIAL_TOKENS='text' leaves them text"


def _write_here(
    task: Task,
    folder: Path,
    wanted: list[str] | None,
    num_shards: int,
    fingerprint: str,
    progress: bool,
) -> tuple[list[str], int, list[str]]:
    """Writes all shards in this process: splits, shards written, what the sources warned of."""
    # The bar needs a standard error of its own, because the process's is muted.
    with os.fdopen(os.dup(2), "w") as screen, cache_worker.muted():
        worker = cache_worker.Worker(task)
        names = _known(task, wanted, worker.splits())
        todo = _todo(folder, names, num_shards, fingerprint)
        with _bar(task.name, len(todo), progress, screen) as update:
            for split, shard in todo:
                worker.write(folder, split, shard, num_shards, fingerprint, lambda n: update(0, n))
                update(1, 0)
    return names, len(todo), worker.warnings


def _remove(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


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


def _clear_unfinished(folder: Path, fingerprint: str) -> None:
    """Removes what an interrupted run left behind of a cache that is described nowhere.

    Raises:
      UserError: the folder holds a cache of another tool, or of something else.
    """
    _remove(folder, ".*.tmp")
    description = layout.task_path(folder)
    finished = (folder / layout.COMPLETED).exists()
    damaged = layout.damage(folder) if finished else {}
    if finished and not description.exists() and not damaged:
        raise UserError(
            f"{folder} holds a finished cache that another tool wrote (no task.json); it can "
            "be read as it is; to build it anew, move the folder away"
        )
    try:
        recorded = layout.read_json(description).get("fingerprint")
    except UserError:
        recorded = None
    if description.name not in damaged and recorded is not None:
        if recorded == fingerprint:
            return
        raise UserError(
            f"{folder} holds the cache of another source (fingerprint {recorded}): remove it "
            f"with `t5x-like cache --prune {folder.name}`, or choose another CACHE_DIR"
        )
    (folder / layout.COMPLETED).unlink(missing_ok=True)
    for split in layout.splits(folder):
        _remove_split(folder, split)
    if description.exists():
        _remove(folder, "*.tfrecord-*-of-*", ".*.index-*-of-*", ".*.part-*.json")
        description.unlink()


def _remove_split(folder: Path, split: str) -> None:
    layout.info_path(folder, split).unlink(missing_ok=True)
    layout.stats_path(folder, split).unlink(missing_ok=True)
    _remove(folder, f"{split}.tfrecord-*-of-*", f".{split}.*.index-*-of-*")


def _remove_unfinished(folder: Path) -> None:
    """Leaves the splits that are finished, and of a cache that has none, nothing."""
    _remove(folder, ".*.part-*.json")
    finished = set(layout.splits(folder))
    for path in folder.glob("*.tfrecord-*-of-*"):
        if path.name.rpartition(".tfrecord-")[0] not in finished:
            path.unlink()
    for path in folder.glob(".*.index-*-of-*"):
        if not any(path.name.startswith(f".{split}.") for split in finished):
            path.unlink()
    if not finished:
        _remove(folder, layout.TASK, layout.COMPLETED)


def _is_whole(folder: Path, split: str) -> bool:
    """Whether a split is finished and undamaged."""
    try:
        reader.open_shards(folder, split)
    except UserError:
        return False
    return True


def _remove_damaged(folder: Path) -> list[str]:
    """Removes the splits of a finished cache that are damaged; returns their names."""
    if not (folder / layout.COMPLETED).exists():
        return []
    changed = layout.damage(folder)
    lost = [name[len("info.") : -len(".json")] for name in changed if name.startswith("info.")]
    damaged = [
        split
        for split in dict.fromkeys([*layout.splits(folder), *lost])
        if layout.info_path(folder, split).name in changed
        or layout.stats_path(folder, split).name in changed
        or not _is_whole(folder, split)
    ]
    if changed or damaged:
        # Not finished any more: who is killed from here on leaves no damaged cache behind.
        (folder / layout.COMPLETED).unlink()
    for split in damaged:
        _remove_split(folder, split)
    return damaged


def _shards(folder: Path, wanted: list[str] | None, asked: int | None) -> int:
    """How many shards to write, where finished splits have as many as are asked for."""
    for split in layout.splits(folder) if asked else ():
        there = layout.read_info(folder, split).num_shards
        if there != asked and (wanted is None or split in wanted):
            raise UserError(
                f"{folder} has split {split!r} in {there} shards, and num_shards is {asked}: "
                f"remove it first (cache --prune {folder.name}), or leave num_shards out."
            )
    return asked or _SHARDS


def _is_done(folder: Path, wanted: list[str] | None) -> bool:
    if not (folder / layout.COMPLETED).exists():
        return False
    return set(wanted or ()) <= set(layout.splits(folder))


def _todo(
    folder: Path, splits: Sequence[str], shards: int, fingerprint: str
) -> list[tuple[str, int]]:
    todo = []
    for split in splits:
        if layout.info_path(folder, split).exists():
            if _is_whole(folder, split):
                continue
            _remove_split(folder, split)
        ours = {layout.shard_path(folder, split, i, shards) for i in range(shards)}
        for path in folder.glob(f"{split}.tfrecord-*-of-*"):
            if path not in ours:  # of an interrupted run with another number of shards
                path.unlink()
        todo += [
            (split, shard)
            for shard in range(shards)
            if not _is_written(folder, split, shard, shards, fingerprint)
        ]
    return todo


def _is_written(folder: Path, split: str, shard: int, shards: int, fingerprint: str) -> bool:
    """Whether an interrupted run has finished a shard."""
    path = layout.shard_path(folder, split, shard, shards)
    try:
        done = layout.read_json(cache_worker.part_path(folder, split, shard, shards))
        if done["fingerprint"] != fingerprint or done["bytes"] != path.stat().st_size:
            return False
        index = layout.index_path(folder, split, "records", shard, shards)
        return len(tfrecord.RecordFile(path, index)) == done["stats"]["examples"]
    except (OSError, ValueError, KeyError, TypeError):  # a UserError is a ValueError
        return False


def _stats(task: Task, folder: Path, split: str, shards: int) -> dict[str, int]:
    """The counts of a split, all of whose shards are there.

    Raises:
      UserError: there are no examples.
    """
    if layout.info_path(folder, split).exists():
        return {}
    stats: dict[str, int] = {}
    written = [
        layout.read_json(cache_worker.part_path(folder, split, shard, shards))
        for shard in range(shards)
    ]
    parts = [one["stats"] for one in written]
    for part in parts:
        for name, value in part.items():
            if any(one["examples"] and name not in one for one in parts):
                continue  # an earlier version, whose shards these are, did not count it
            if name.endswith("_max_tokens"):
                stats[name] = max(stats.get(name, 0), value)
            else:
                stats[name] = stats.get(name, 0) + value
    dropped = Counter[str]()
    for one in written:
        dropped.update(one.get("dropped", {}))
    stats |= {layout.DROPPED + reason: count for reason, count in dropped.items()}
    if not stats["examples"]:
        why = getattr(getattr(task, "source", None), "why_empty", None)
        advice = why(split) if why else "look at what its source and its preprocessing leave"
        raise UserError(f"{task.name}: split {split!r} of the source has no examples: {advice}")
    return stats


def _finish_split(folder: Path, split: str, shards: int, stats: dict[str, int]) -> None:
    if layout.info_path(folder, split).exists():
        return
    part = layout.read_json(cache_worker.part_path(folder, split, 0, shards))
    layout.write_json(layout.stats_path(folder, split), stats)
    layout.write_json(
        layout.info_path(folder, split),
        {
            "num_shards": shards,
            "features": part["features"],
            "seqio_version": importlib.metadata.version("seqio"),
        },
    )


def _describe(task: Task, folder: Path, fingerprint: str) -> None:
    """Writes `task.json`, from which a host without the vocabulary's library can train."""
    if layout.task_path(folder).exists():
        return  # of the same fingerprint
    features: dict[str, dict[str, Any]] = {}
    for name, feature in task.output_features.items():
        features[name] = {
            "dtype": "int32",
            "rank": 1,
            "add_eos": bool(feature.add_eos),
            "vocabulary": dict(feature.vocabulary.spec()),
        }
    specs = {name: feature["vocabulary"] for name, feature in features.items()}
    layout.write_json(
        layout.task_path(folder),
        {
            "features": features,
            "fingerprint": fingerprint,
            "source": repr(getattr(task, "source", None)),
            "objectives": {task.name: repr(task.objective(specs))},
        },
    )


@contextlib.contextmanager
def _bar(
    name: str, shards: int, show: bool, screen: TextIO
) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, where the screen is a terminal: shards done, and examples so far."""
    examples = 0
    with ProgressBar(
        shards,
        label=f"caching {name}",
        unit="shards",
        stream=screen,
        shown=show,
        estimate=False,  # all shards are written at the same time
        summary=False,
    ) as bar:

        def update(more_shards: int, more_examples: int) -> None:
            nonlocal examples
            examples += more_examples
            bar.add(more_shards, [f"{examples:,} examples"])

        yield update
