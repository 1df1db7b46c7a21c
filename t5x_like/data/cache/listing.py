"""The caches in a directory: what there is, and removing what is not wanted any more.

Runs never remove a cache. `t5x-like cache --list` and `--prune` do this.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from t5x_like.data.cache import layout, writer
from t5x_like.errors import UserError

# All that caching writes; whatever else is in a folder stays.
_OURS = (
    layout.COMPLETED,
    layout.TASK,
    "info.*.json",
    "stats.*.json",
    "*.tfrecord-*-of-*",
    ".*.index-*-of-*",
    ".*.part-*.json",
    ".*.tmp",
    writer.LOCK,
)
_SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True)
class ListedCache:
    """A folder of a cache.

    Attributes:
      name: its path in the cache directory.
      folder: where it is.
      finished: whether it has `COMPLETED`.
      splits: names of the splits that are finished.
      size: bytes of its files.
      last_used: when a run last opened it, or it was built; seconds since 1970.
    """

    name: str
    folder: Path
    finished: bool
    splits: tuple[str, ...]
    size: int
    last_used: float

    @property
    def unused_days(self) -> float:
        """Days since it was last used."""
        return (time.time() - self.last_used) / _SECONDS_A_DAY


def caches(cache_dir: str | os.PathLike[str]) -> list[ListedCache]:
    """All caches in a directory, by name; links are not followed."""
    root = Path(cache_dir).expanduser()
    found = []
    for place, folders, names in os.walk(root):
        folders.sort()
        if layout.COMPLETED in names or writer.LOCK in names or layout.TASK in names:
            found.append(_listed(root, Path(place)))
    return found


def _listed(root: Path, folder: Path) -> ListedCache:
    files = [path.stat() for path in _files(folder)]
    completed = folder / layout.COMPLETED
    with contextlib.suppress(OSError):
        files.insert(0, completed.stat())
    return ListedCache(
        name=os.fspath(folder.relative_to(root)),
        folder=folder,
        finished=completed.exists(),
        splits=tuple(layout.splits(folder)),
        size=sum(status.st_size for status in files),
        last_used=files[0].st_mtime if files else folder.stat().st_mtime,
    )


def _files(folder: Path) -> Iterator[Path]:
    seen = {path: None for pattern in _OURS for path in sorted(folder.glob(pattern))}
    yield from (path for path in seen if path.is_file() and not path.is_symlink())


def chosen(
    found: Sequence[ListedCache], names: Sequence[str], unused_days: float | None
) -> list[ListedCache]:
    """The caches to remove: those of these names, or those not used for so many days.

    Raises:
      UserError: there is none of a name, or neither names nor days are given.
    """
    if not names and unused_days is None:
        raise UserError(
            "--prune needs the names of caches as --list shows them, or --unused_days=N for those "
            "that no run has opened for N days."
        )
    known = {cache.name for cache in found}
    for name in names:
        if name not in known:
            raise UserError(
                f"there is no cache {name!r} here: there are {', '.join(sorted(known)) or 'none'}."
            )
    return [
        cache
        for cache in found
        if (not names or cache.name in names)
        and (unused_days is None or cache.unused_days >= unused_days)
    ]


def prune(cache: ListedCache) -> str | None:
    """Removes a cache, unless it is being read or written; returns why it was not."""
    with contextlib.ExitStack() as held:
        for path in [cache.folder / writer.LOCK, *cache.folder.glob("*.tfrecord-*-of-*")]:
            with contextlib.suppress(FileNotFoundError):
                file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                held.callback(os.close, file)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    doing = "written" if path.name == writer.LOCK else "read"
                    return f"it is being {doing} by another process"
        # COMPLETED first: who opens it now finds it unfinished.
        for path in _files(cache.folder):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is in it
            cache.folder.rmdir()
    link = layout.path_for_seqio(cache.folder)
    if link is not None and layout.is_link_for_seqio(link) and not link.exists():
        link.unlink()
    return None
