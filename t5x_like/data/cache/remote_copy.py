"""A task's cache in an object store, copied once to this host, where it is memory-mapped."""

import hashlib
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etils import epath

from t5x_like.data.cache import layout
from t5x_like.errors import UserError
from t5x_like.host import disk_space
from t5x_like.host import files as storage

_COPIES_AT_ONCE = 8


def local_cache_dir(cache_dir: str | os.PathLike[str], cache_name: str) -> str:
    """The directory of caches to read a task's from: `cache_dir`, or that of a copy.

    A remote cache is copied to `t5x_like/remote` below `XDG_CACHE_HOME` or `~/.cache`, into a
    folder named by a hash of what the cache holds, renamed into place when it is whole. A cache
    that changes is therefore copied anew.

    Raises:
      UserError: there is no finished cache, or `gs://` cannot be read here.
      DiskFull: this host has no room for the copy.
    """
    if not storage.is_remote(cache_dir):
        return os.fspath(cache_dir)
    folder = storage.location(cache_dir).joinpath(*cache_name.split(":"))
    if not (folder / layout.COMPLETED).exists():
        raise UserError(
            f"there is no finished cache at {folder}: run `t5x-like cache` with a local "
            "CACHE_DIR and copy that there (`gcloud storage rsync --recursive`)"
        )
    files = {path.name: path for path in folder.iterdir() if path.is_file()}
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    copy = root / "t5x_like" / "remote" / _fingerprint(folder, files)
    if not copy.exists():
        _copy(folder, files, copy, layout.cache_path(".", cache_name))
    return str(copy)


def forget(directory: str) -> None:
    """Removes the copy that `local_cache_dir` gave."""
    shutil.rmtree(directory)


def _fingerprint(folder: epath.Path, files: dict[str, epath.Path]) -> str:
    """A hash of the place, the names and sizes, and the small files' contents."""
    digest = hashlib.sha256(str(folder).encode())
    for name, path in sorted(files.items()):
        digest.update(f"\0{name}\0{path.stat().length}\0".encode())
        if name.endswith(".json"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _copy(folder: epath.Path, files: dict[str, epath.Path], target: Path, inside: Path) -> None:
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
