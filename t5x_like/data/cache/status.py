"""Where a task's cache is, and whether it can be read."""

import contextlib
import contextvars
import dataclasses
import enum
import os
import tempfile
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from etils import epath

from t5x_like.data.cache import layout, remote_copy
from t5x_like.data.cache.choice import Chosen, Seen, choose, lacking_of, seen
from t5x_like.data.cache.reader import open_shards
from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.protocols import Task

_BUILD_IT = "build it with `t5x-like cache` and this run's --gin_file and --gin flags"


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
      remedy: what would do where the cache cannot be built; "" where building it does.
    """

    status: CacheStatus
    path: Path
    reason: str
    remedy: str = ""


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
    now = seen(task)
    if not files.is_remote(cache_dir):
        chosen = choose(task, Path(cache_dir).expanduser(), now.fingerprint, verify_source)
        return _status(task, chosen, split, now)
    away, inside = _remote_choice(task, cache_dir, now.fingerprint, verify_source)

    def copied() -> tuple[Path, CacheReport]:
        copy = remote_copy.local_copy(away.folder, inside, split if split_alone else None)
        return copy, _status(task, _at(copy, away), split, now)

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
    now = seen(task)
    if not files.is_remote(cache_dir):
        root = Path(cache_dir).expanduser().absolute()
        here = choose(task, root, now.fingerprint, verify_source)
        return epath.Path(here.folder), _status(task, here, split, now, records=False)
    away, inside = _remote_choice(task, cache_dir, now.fingerprint, verify_source)
    copy = place / inside
    remote_copy.copy_description(away.folder, copy)
    return away.folder, _status(task, _at(copy, away), split, now, records=False)


def status_of_description(
    task: Task,
    cache_dir: str | os.PathLike[str],
    split: str | None = None,
    *,
    verify_source: bool = True,
) -> CacheReport:
    """As `cache_status`, as far as JSON files tell: no record is read, nor copied from a bucket.

    Raises:
      UserError: a remote directory has no finished cache.
    """
    with tempfile.TemporaryDirectory(prefix="t5x-like-cache-") as place:
        return described(task, cache_dir, split, Path(place), verify_source=verify_source)[1]


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


def _at(copy: Path, chosen: Chosen[epath.Path]) -> Chosen[Path]:
    """A cache of a bucket that was copied to this machine."""
    others = tuple(copy.with_name(other.name) for other in chosen.others)
    return Chosen(copy, others, chosen.verify, chosen.alike)


def _status(
    task: Task, chosen: Chosen[Path], split: str | None, now: Seen, *, records: bool = True
) -> CacheReport:
    """The state of a cache; of one that is not ready, and cannot be built here, also why not."""
    if now.fingerprint is None and chosen.others:
        return _undecided(task, chosen, now)
    found = _found(task, chosen, split, now.fingerprint, records)
    needs_source = found.status is not CacheStatus.READY and not found.remedy
    if now.fingerprint is not None or not needs_source or not task.source_is_local:
        return found
    there = (
        f"There is no cache of {task.name!r} at {found.path}"
        if found.status is CacheStatus.MISSING
        else f"Its cache cannot be read: {found.reason}"
    )
    remedy = "give the file, or a CACHE_DIR that has a whole cache of it"
    return dataclasses.replace(found, reason=f"{now.lacking} {there}", remedy=remedy)


def _undecided(task: Task, chosen: Chosen[Path], now: Seen) -> CacheReport:
    """Where the source cannot be seen, and there is not one cache alone that may be of it."""
    names, parent = ", ".join(path.name for path in chosen.others), chosen.folder.parent
    if len(chosen.others) == 1:
        there = f"The cache of {task.name!r} in {parent} ({names}) is of other files or settings"
        remedy = "--gin.data.DatasetConfig.verify_source=False to take that cache all the same"
    elif chosen.alike:
        there = f"There are several caches of {task.name!r} in {parent} ({names})"
        remedy = "a CACHE_DIR that has the one alone"
    else:
        there = f"The caches of {task.name!r} in {parent} ({names}) are of other files or settings"
        remedy = "a CACHE_DIR that has a cache of it"
    return CacheReport(
        CacheStatus.STALE, chosen.folder, f"{now.lacking} {there}", f"give the file, or {remedy}"
    )


def _found(
    task: Task, chosen: Chosen[Path], split: str | None, fingerprint: str | None, records: bool
) -> CacheReport:
    folder = chosen.folder

    def report(status: CacheStatus, reason: str, remedy: str = "") -> CacheReport:
        return CacheReport(status, folder, reason, remedy)

    if chosen.others:
        names = ", ".join(path.name for path in chosen.others)
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
                f"{', '.join(found) or 'none'}",
                "choose one of them with SPLIT, hold one out of plain text with HELD_OUT, or, if "
                f"the source has it, {_BUILD_IT}",
            )
        names_of_splits = found if split is None else [split]
        layout.recorded_vocabularies(folder)
        for name in names_of_splits:
            if next(folder.glob(f"{name}.array_record-*"), None):
                return report(
                    CacheStatus.INCOMPLETE,
                    f"the split {name!r} in {folder} is in ArrayRecord, which is not read",
                    "give seqio_cache_tasks --output_format=tfrecord",
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


def refuse_unless_ready(report: CacheReport) -> None:
    """Raises `UserError` where a cache cannot be read, with what to do."""
    if report.status is CacheStatus.READY:
        return
    if report.remedy:
        raise UserError(f"{report.reason}: {report.remedy}.")
    raise UserError(f"{report.reason}, {_BUILD_IT}")


def check_source(
    task: Task, cache_dir: str | os.PathLike[str], *, verify_source: bool = True
) -> None:
    """Refuses a task whose files are not here, and that has no cache which would do without them.

    Neither the files nor records are read. What is in a bucket is not looked at.

    Args:
      task: the task.
      cache_dir: the cache directory.
      verify_source: as for `cache_status`.

    Raises:
      UserError: what is missing, and what would do.
    """
    if task.source_is_local and not files.is_remote(cache_dir) and lacking_of(task):
        refuse_unless_ready(status_of_description(task, cache_dir, verify_source=verify_source))


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
