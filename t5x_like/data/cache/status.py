"""The state of a task's cache, and building it.

Only building imports seqio, and so TensorFlow, and does so in worker processes. What is written
is seqio's own layout, so that `seqio` reads it with `use_cached=True`, and a cache that seqio's
Beam tool wrote is read just as well.
"""

import contextlib
import contextvars
import dataclasses
import enum
import json
import os
import re
import time
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from etils import epath

from t5x_like.data.cache import layout, remote_copy, writer
from t5x_like.data.cache.reader import open_shards
from t5x_like.errors import UserError
from t5x_like.host import disk_space, files
from t5x_like.protocols import Task


class CacheStatus(enum.Enum):
    """Whether a cache can be trained from."""

    READY = "ready"
    MISSING = "missing"
    INCOMPLETE = "incomplete"
    STALE = "stale"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class CacheReport:
    """What is known of a cache.

    Attributes:
      status: whether it can be used.
      path: the task's folder.
      reason: one line that says why, for people.
    """

    status: CacheStatus
    path: Path
    reason: str


def cache_status(
    task: Task,
    cache_dir: str | os.PathLike[str],
    split: str | None = None,
    *,
    verify_source: bool = True,
) -> CacheReport:
    """Whether a task's cache is there, whole, undamaged, and made from what the task declares.

    Every file is looked at: see `reader.open_shards` for what is read of the records.

    Args:
      task: the task.
      cache_dir: the cache directory, which holds a folder for each source of each task; of a
        remote one (`gs://…`), the folder is copied to this host first, and once more where the
        copy is damaged.
      split: a split that must be there; None asks for any.
      verify_source: whether a fingerprint that differs makes the cache stale.

    Raises:
      DataFault: the disk cannot be read.
    """
    if not files.is_remote(cache_dir):
        root = Path(cache_dir).expanduser()
        fingerprint = _fingerprint(task)
        return _status(task, _choose(task, root, fingerprint, verify_source), split, fingerprint)
    return _remote_status(task, files.location(cache_dir), split, verify_source)


def _remote_status(
    task: Task, root: epath.Path, split: str | None, verify_source: bool
) -> CacheReport:
    fingerprint = _fingerprint(task)
    chosen = _choose(task, root, fingerprint, verify_source)
    if not (chosen.folder / layout.COMPLETED).exists():
        raise UserError(
            f"there is no finished cache at {chosen.folder}: run `t5x-like cache` with a local "
            "CACHE_DIR and copy that there (`gcloud storage rsync --recursive`)"
        )
    inside = os.fspath(chosen.folder.relative_to(root))

    def copied() -> tuple[Path, CacheReport]:
        copy = remote_copy.local_copy(chosen.folder, inside)
        found = dataclasses.replace(chosen, folder=copy)
        return copy, _status(task, found, split, fingerprint)

    copy, report = copied()
    if report.status in (CacheStatus.DAMAGED, CacheStatus.INCOMPLETE):
        remote_copy.forget(copy, inside)
        copy, report = copied()
    return report


@dataclass(frozen=True)
class _Chosen(Generic[layout.AnyPath]):
    """The folder that a task's cache is read from.

    Attributes:
      folder: of the cache, or where it would be.
      others: caches of the same name, of other sources or vocabularies or of unknown ones.
      verify: whether what it was made from is compared with the task.
    """

    folder: layout.AnyPath
    others: tuple[layout.AnyPath, ...]
    verify: bool


def _choose(
    task: Task, root: layout.AnyPath, fingerprint: str | None, verify_source: bool
) -> "_Chosen[layout.AnyPath]":
    """Where a task's cache is: the folder of its fingerprint, or an earlier version's folder.

    Where the source is not to be verified, the only cache that there is; where it cannot be seen,
    the only one of a source that was declared alike.
    """
    plain = layout.cache_path(root, task.cache_name)
    there = [
        folder
        for folder in layout.folders(root, task.cache_name)
        if (folder / layout.COMPLETED).exists()
    ]
    if fingerprint is not None:
        own = layout.cache_folder(root, task.cache_name, fingerprint)
        if own.exists():
            return _Chosen(own, (), verify_source)
        if plain in there and _recorded(plain) in (None, fingerprint):
            return _Chosen(plain, (), verify_source)
        if verify_source or len(there) != 1:
            return _Chosen(own, tuple(there), verify_source)
    declared = there if not verify_source else [f for f in there if _is_declared_alike(f, task)]
    if len(declared) == 1:
        return _Chosen(declared[0], (), False)
    return _Chosen(plain, tuple(declared or there), False)


# Files may lie elsewhere on the host that has built a cache.
_PLACES = re.compile(r"\w*dir\w*=(?:'[^']*'|None)|[^\s'\"=(]*/")


def _is_declared_alike(folder: Path | epath.Path, task: Task) -> bool:
    """Whether a cache's source has the same files and settings, as far as both are known."""
    path = folder / layout.TASK
    source = getattr(task, "source", None)
    if source is None or not path.exists():
        return True
    try:
        recorded = json.loads(files.read_whole(path)).get("source", "None")
        here = repr(source)
    except (OSError, ValueError, AttributeError, RecursionError):
        return True
    return recorded == "None" or _PLACES.sub("", recorded) == _PLACES.sub("", here)


def _recorded(folder: Path | epath.Path) -> str | None:
    """The fingerprint that a cache was made from; None where seqio's own tools have made it."""
    path = folder / layout.TASK
    if not path.exists():
        return None
    try:
        return str(json.loads(files.read_whole(path)).get("fingerprint"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""  # damaged: what it was made from is not known


def build_folder(task: Task, cache_dir: str | os.PathLike[str]) -> Path:
    """The folder to build a task's cache in, or to complete it.

    Raises:
      UserError: the cache directory is not a local path, or the task cannot be cached here.
    """
    if files.is_remote(cache_dir):
        raise UserError(
            f"the cache directory {os.fspath(cache_dir)} is not a local path; caches are written "
            "to local disks: copy it there afterwards"
        )
    return _choose(task, Path(cache_dir).expanduser(), task.fingerprint(), True).folder


def _status(
    task: Task, chosen: _Chosen[Path], split: str | None, fingerprint: str | None
) -> CacheReport:
    folder = chosen.folder

    def report(status: CacheStatus, reason: str) -> CacheReport:
        return CacheReport(status, folder, reason)

    if chosen.others:
        names = ", ".join(path.name for path in chosen.others)
        if fingerprint is None and len(chosen.others) == 1:
            return report(
                CacheStatus.STALE,
                f"the source of {task.name!r} is not on this host, and the cache of that name in "
                f"{folder.parent} ({names}) is of other files or settings: give those that it was "
                "built of, or data.DatasetConfig.verify_source = False to take it all the same",
            )
        if fingerprint is None:
            return report(
                CacheStatus.STALE,
                f"the source of {task.name!r} is not on this host, and {folder.parent} has several "
                f"caches of it ({names}): name a CACHE_DIR that has the one alone",
            )
        return report(
            CacheStatus.STALE,
            f"there is no cache of {task.name!r} as it is now: those in {folder.parent} ({names}) "
            "were made from another source, vocabulary or preprocessing",
        )
    if not folder.exists():
        return report(CacheStatus.MISSING, f"there is no cache of {task.name!r} at {folder}")
    if not (folder / layout.COMPLETED).exists():
        return report(
            CacheStatus.INCOMPLETE, f"the cache at {folder} was not finished: it has no COMPLETED"
        )
    for reason in layout.damage(folder).values():
        return report(CacheStatus.DAMAGED, reason)
    try:
        if chosen.verify and fingerprint is not None and layout.task_path(folder).exists():
            recorded = layout.read_json(layout.task_path(folder)).get("fingerprint")
            if recorded != fingerprint:
                return report(
                    CacheStatus.STALE,
                    f"the cache at {folder} was made from another source, vocabulary or "
                    f"preprocessing (fingerprint {str(recorded)[:12]}, now {fingerprint[:12]})",
                )
        found = layout.splits(folder)
        if split is not None and split not in found:
            return report(
                CacheStatus.MISSING,
                f"the cache at {folder} has no split {split!r}; it has "
                f"{', '.join(found) or 'none'}: choose one of them with SPLIT, hold one out of "
                "plain text with HELD_OUT, or, if the source has it",
            )
        names_of_splits = found if split is None else [split]
        layout.recorded_vocabularies(folder)
        for path in (path for name in names_of_splits for path in _files(folder, name)):
            if not path.exists():
                return report(CacheStatus.INCOMPLETE, f"{path} is missing")
        for name in names_of_splits:
            open_shards(folder, name)
    except UserError as error:
        reason = str(error).removesuffix("; build the cache again")
        return report(CacheStatus.DAMAGED, reason)
    return report(CacheStatus.READY, f"the cache at {folder} is whole")


def _files(folder: Path, split: str) -> Iterator[Path]:
    """What belongs to a split, beside its `info`."""
    shards = layout.read_info(folder, split).num_shards
    yield from (layout.shard_path(folder, split, i, shards) for i in range(shards))
    yield layout.stats_path(folder, split)


def _fingerprint(task: Task) -> str | None:
    """The task's fingerprint, or None where its source cannot be seen from this host."""
    try:
        return task.fingerprint()
    except (OSError, ImportError):
        return None


def require_cache(
    task: Task, cache_dir: str | os.PathLike[str], split: str, *, verify_source: bool = True
) -> Path:
    """The folder of a cache that is ready.

    Raises:
      UserError: it is not; the message says why and what to do.
    """
    known, key = _known.get(), (id(task), os.fspath(cache_dir), split)
    if known is not None and key in known:
        return known[key]
    report = cache_status(task, cache_dir, split, verify_source=verify_source)
    if report.status is not CacheStatus.READY:
        raise UserError(
            f"{report.reason}, build it with `t5x-like cache` and this run's --gin_file and --gin "
            "flags"
        )
    with contextlib.suppress(OSError):  # a cache may be read-only
        os.utime(report.path / layout.COMPLETED)  # when it was last used
    if known is not None:
        known[key] = report.path
    return report.path


# Task (by its identity), cache directory and split of caches that were found ready.
_Known = MutableMapping[tuple[int, str, str], Path]
_known: contextvars.ContextVar[_Known | None] = contextvars.ContextVar("known", default=None)


@contextlib.contextmanager
def remembered(known: _Known) -> Iterator[None]:
    """Looks at each cache once, for work that opens the same ones again and again.

    Verifying a cache reads the files of its source, which takes long where there are many.

    Args:
      known: what was found, kept by the caller for as long as its tasks.
    """
    before = _known.set(known)
    try:
        yield
    finally:
        _known.reset(before)


@dataclass(frozen=True)
class CacheCounts:
    """What `cache_task` did.

    Attributes:
      path: the task's folder.
      examples: of each split.
      tokens: of each split, by feature, padding and EOS not counted.
      dropped: of each split, documents and lines that filters dropped, by reason.
      written: shards written now; the others were there already.
      seconds: how long it took.
    """

    path: Path
    examples: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    written: int = 0
    seconds: float = 0.0


def cache_task(
    task: Task,
    cache_dir: str | os.PathLike[str],
    splits: Sequence[str] | None = None,
    *,
    num_shards: int = 8,
    num_workers: int | None = None,
    progress: bool = True,
) -> CacheCounts:
    """Tokenizes a task into its cache, or does nothing where that is done.

    What is finished is kept: after an interruption the shards that are there are not made again.
    What is damaged is made again. Where the source, the vocabulary or the preprocessing has
    changed, a folder of its own is made, and the earlier cache stays as it is. The bytes written
    depend on the task and `num_shards` only.

    Args:
      task: the task; a mixture's tasks are cached one by one.
      cache_dir: the cache directory.
      splits: names of splits; None takes all that the source has.
      num_shards: files for each split.
      num_workers: processes; None takes one for each core, up to `num_shards`. A task that
        cannot be sent to another process is cached in this one.
      progress: whether to show a bar on standard error, where that is a terminal.

    Returns:
      The counts of the splits that were asked for.

    Raises:
      UserError: a split is unknown or without examples, or the folder cannot be written.
      DiskFull: there is no room; what is finished stays.
      DataFault: a worker process was killed.
    """
    if num_shards < 1 or (num_workers is not None and num_workers < 1):
        raise UserError(f"num_shards is {num_shards}, num_workers {num_workers}: 1 or more.")
    started = time.monotonic()
    folder = build_folder(task, cache_dir)
    try:
        with disk_space.explained(folder), writer.locked(folder):
            written = writer.build(task, folder, splits, num_shards, num_workers, progress)
            layout.link_for_seqio(folder)
    except OSError as error:
        if hasattr(error, "exit_code"):
            raise  # the task's own, about its source
        raise UserError(f"the cache {folder} cannot be written: {error}") from None
    counts = CacheCounts(folder, written=written, seconds=time.monotonic() - started)
    for split in splits if splits is not None else layout.splits(folder):
        stats = layout.read_json(layout.stats_path(folder, split))
        counts.examples[split] = int(stats["examples"])
        counts.tokens[split] = {
            name.removesuffix("_tokens"): int(value)
            for name, value in stats.items()
            if name.endswith("_tokens") and not name.endswith("_max_tokens")
        }
        counts.dropped[split] = {
            name.removeprefix(layout.DROPPED): int(value)
            for name, value in stats.items()
            if name.startswith(layout.DROPPED)
        }
    return counts
