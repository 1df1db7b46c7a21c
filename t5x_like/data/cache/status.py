"""Where a task's cache is, and whether it can be read."""

import contextlib
import contextvars
import dataclasses
import enum
import json
import os
import re
import tempfile
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from etils import epath

from t5x_like.data.cache import layout, remote_copy
from t5x_like.data.cache.reader import open_shards
from t5x_like.errors import UserError
from t5x_like.host import files
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
    split_alone: bool = False,
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
      split_alone: whether of a remote cache that split alone is copied.

    Raises:
      DataFault: the disk cannot be read.
    """
    fingerprint = fingerprint_of(task)
    if not files.is_remote(cache_dir):
        root = Path(cache_dir).expanduser()
        return _status(task, choose(task, root, fingerprint, verify_source), split, fingerprint)
    chosen, inside = _remote_choice(task, cache_dir, fingerprint, verify_source)

    def copied() -> tuple[Path, CacheReport]:
        copy = remote_copy.local_copy(chosen.folder, inside, split if split_alone else None)
        found = dataclasses.replace(chosen, folder=copy)
        return copy, _status(task, found, split, fingerprint)

    copy, report = copied()
    if report.status in (CacheStatus.DAMAGED, CacheStatus.INCOMPLETE):
        remote_copy.forget(copy, inside)
        copy, report = copied()
    return report


def described(
    task: Task,
    cache_dir: str | os.PathLike[str],
    split: str | None,
    place: Path,
    *,
    verify_source: bool = True,
) -> tuple[epath.Path, CacheReport]:
    """Where a task's cache is, and its state as far as its JSON files tell: no record is read.

    Args:
      task: the task.
      cache_dir: the cache directory.
      split: a split that must be there; None asks for any.
      place: a folder of this machine for the JSON files of a remote cache.
      verify_source: whether a fingerprint that differs makes the cache stale.

    Returns:
      The folder of the cache, and a report whose `path` is where its JSON files are on this
      machine.

    Raises:
      UserError: a remote directory has no finished cache.
    """
    fingerprint = fingerprint_of(task)
    if not files.is_remote(cache_dir):
        root = Path(cache_dir).expanduser().absolute()
        here = choose(task, root, fingerprint, verify_source)
        report = _status(task, here, split, fingerprint, records=False)
        return epath.Path(here.folder), report
    chosen, inside = _remote_choice(task, cache_dir, fingerprint, verify_source)
    copy = place / inside
    remote_copy.copy_description(chosen.folder, copy)
    found = dataclasses.replace(chosen, folder=copy)
    return chosen.folder, _status(task, found, split, fingerprint, records=False)


def status_of_description(
    task: Task, cache_dir: str | os.PathLike[str], split: str | None = None
) -> CacheReport:
    """As `cache_status`, as far as JSON files tell: no record is read, nor copied from a bucket.

    Raises:
      UserError: a remote directory has no finished cache.
    """
    with tempfile.TemporaryDirectory(prefix="t5x-like-cache-") as place:
        return described(task, cache_dir, split, Path(place))[1]


def _remote_choice(
    task: Task, cache_dir: str | os.PathLike[str], fingerprint: str | None, verify_source: bool
) -> "tuple[Chosen[epath.Path], str]":
    """The folder of a finished cache in a bucket, and its path in the cache directory."""
    root = files.location(cache_dir)
    chosen = choose(task, root, fingerprint, verify_source)
    if not (chosen.folder / layout.COMPLETED).exists():
        raise UserError(
            f"there is no finished cache at {chosen.folder}: run `t5x-like cache` with a local "
            "CACHE_DIR and copy that there (`gcloud storage rsync --recursive`)"
        )
    return chosen, os.fspath(chosen.folder.relative_to(root))


@dataclass(frozen=True)
class Chosen(Generic[layout.AnyPath]):
    """The folder that a task's cache is read from.

    Attributes:
      folder: of the cache, or where it would be.
      others: caches of the same name, of other sources or vocabularies or of unknown ones.
      verify: whether what it was made from is compared with the task.
    """

    folder: layout.AnyPath
    others: tuple[layout.AnyPath, ...]
    verify: bool


def choose(
    task: Task, root: layout.AnyPath, fingerprint: str | None, verify_source: bool
) -> "Chosen[layout.AnyPath]":
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
            return Chosen(own, (), verify_source)
        if plain in there and _recorded(plain) in (None, fingerprint):
            return Chosen(plain, (), verify_source)
        if verify_source or len(there) != 1:
            return Chosen(own, tuple(there), verify_source)
    declared = there if not verify_source else [f for f in there if _is_declared_alike(f, task)]
    if len(declared) == 1:
        return Chosen(declared[0], (), False)
    return Chosen(plain, tuple(declared or there), False)


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


def _status(
    task: Task,
    chosen: Chosen[Path],
    split: str | None,
    fingerprint: str | None,
    *,
    records: bool = True,
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
        for name in names_of_splits:
            if next(folder.glob(f"{name}.array_record-*"), None):
                return report(
                    CacheStatus.INCOMPLETE,
                    f"the split {name!r} in {folder} is in ArrayRecord, which is not read: give "
                    "seqio_cache_tasks --output_format=tfrecord",
                )
        if not records:
            for name in names_of_splits:
                layout.read_info(folder, name)
            return report(CacheStatus.READY, f"the cache at {folder} is described whole")
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


def fingerprint_of(task: Task) -> str | None:
    """The task's fingerprint, or None where its source cannot be seen from this host."""
    try:
        return task.fingerprint()
    except (OSError, ImportError):
        return None


def refuse_unless_ready(report: CacheReport) -> None:
    """Raises `UserError` where a cache cannot be read, with what to do."""
    if report.status is not CacheStatus.READY:
        raise UserError(
            f"{report.reason}, build it with `t5x-like cache` and this run's --gin_file and --gin "
            "flags"
        )


def require_cache(
    task: Task,
    cache_dir: str | os.PathLike[str],
    split: str,
    *,
    verify_source: bool = True,
    split_alone: bool = False,
) -> Path:
    """The folder of a cache that is ready; the arguments are those of `cache_status`.

    Raises:
      UserError: it is not; the message says why and what to do.
    """
    known, key = _known.get(), (id(task), os.fspath(cache_dir), split)
    if known is not None and key in known:
        return known[key]
    report = cache_status(
        task, cache_dir, split, verify_source=verify_source, split_alone=split_alone
    )
    refuse_unless_ready(report)
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
