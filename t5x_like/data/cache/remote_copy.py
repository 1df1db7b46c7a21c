"""A task's cache in an object store, copied once to this host."""

import hashlib
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etils import epath

from t5x_like.data.cache import layout
from t5x_like.host import disk_space
from t5x_like.host import files as storage

_COPIES_AT_ONCE = 8


def local_copy(folder: epath.Path, inside: str, split: str | None = None) -> Path:
    """The copy of a remote cache, made where there is none of what it holds now.

    It is below `t5x_like/remote` in `XDG_CACHE_HOME` or `~/.cache`, in a folder named by a hash of
    what the cache holds, renamed into place when it is whole. A cache that changes is therefore
    copied anew.

    Args:
      folder: of the finished cache.
      inside: its path in the cache directory, which it keeps in the copy.
      split: of which alone the records are copied; None copies all.

    Raises:
      DiskFull: this host has no room for the copy.
    """
    files = {
        path.name: path
        for path in folder.iterdir()
        if _is_wanted(path.name, split) and path.is_file()
    }
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    copy = root / "t5x_like" / "remote" / _fingerprint(folder, files)
    if not copy.exists():
        _copy(folder, files, copy, inside)
    return copy / inside


def _is_wanted(name: str, split: str | None) -> bool:
    of_any = ".tfrecord-" not in name and ".index-" not in name
    return split is None or of_any or name.lstrip(".").startswith(f"{split}.")


def copy_description(folder: epath.Path, target: Path) -> None:
    """Copies what says of a remote cache what it holds: its JSON files and `COMPLETED`.

    Raises:
      DiskFull: there is no room for them.
    """
    target.mkdir(parents=True)
    with disk_space.explained(target):
        for path in folder.iterdir():
            if path.name == layout.COMPLETED or path.name.endswith(".json"):
                _fetch(path, target / path.name)


def forget(copy: Path, inside: str) -> None:
    """Removes the copy that `local_copy` gave."""
    shutil.rmtree(copy.parents[len(Path(inside).parts) - 1])


def _fingerprint(folder: epath.Path, files: dict[str, epath.Path]) -> str:
    """A hash of the place, the names and sizes, and the small files' contents."""
    digest = hashlib.sha256(str(folder).encode())
    for name, path in sorted(files.items()):
        digest.update(f"\0{name}\0{path.stat().length}\0".encode())
        if name.endswith(".json"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _copy(folder: epath.Path, files: dict[str, epath.Path], target: Path, inside: str) -> None:
    size = sum(path.stat().length for path in files.values())
    line = f"copying the cache {folder} ({size / 1e6:.1f} MB) to {target}"
    print(line, file=sys.stderr, flush=True)
    disk_space.require(target, size)
    try:
        with storage.new_directory(target) as temporary:
            (temporary / inside).mkdir(parents=True)
            with disk_space.explained(target, size), ThreadPoolExecutor(_COPIES_AT_ONCE) as pool:
                targets = [temporary / inside / name for name in files]
                list(pool.map(_fetch, files.values(), targets))
    except OSError:
        if not target.exists():  # else another process was first
            raise


def _fetch(source: epath.Path, target: Path) -> None:
    with source.open("rb") as remote, target.open("wb") as local:
        shutil.copyfileobj(remote, local, 1 << 22)
