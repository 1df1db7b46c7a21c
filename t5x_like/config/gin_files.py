"""Where gin files are found: as given, in search paths, packaged, or in an object store."""

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from t5x_like.errors import UserError
from t5x_like.host import files


def packaged_gin_configs() -> Path:
    """The `gin_configs` directory: installed inside `t5x_like`, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "gin_configs"
    return installed if installed.is_dir() else package.parent / "gin_configs"


def find_gin_file(name: str, search_paths: Sequence[str] = ()) -> Path | epath.Path:
    """The gin file called `name`.

    Looked for as given (relative to the working directory), then below each of
    `search_paths`, then below the packaged `gin_configs`; a `gs://` name there alone.

    Raises:
      UserError: no such file; names the places searched and the nearest packaged files.
    """
    if files.is_remote(name):
        if _is_remote_file(name):
            return files.location(name)
        raise UserError(f"gin file '{name}' not found.")
    packaged = packaged_gin_configs()
    for root in (Path(), *map(Path, search_paths), packaged, packaged.parent):
        path = root / name
        if path.is_file():
            return path
    known = sorted(str(path.relative_to(packaged)) for path in packaged.rglob("*.gin"))
    searched = ", ".join(["the working directory", *search_paths, str(packaged)])
    raise UserError(f"gin file '{name}' not found in {searched}.{nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean ...?`, or nothing when no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _is_remote_file(name: str) -> bool:
    return files.is_remote(name) and files.location(name).is_file()


def _open_remote(name: str) -> Any:
    return files.location(name).open()


# What gin opens a file with, and how it asks whether there is one.
READERS = [(_open_remote, _is_remote_file), (open, os.path.isfile)]
