"""Where gin files are found: as given, in search paths, packaged, or in an object store."""

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from etils import epath

from t5x_like.errors import UserError
from t5x_like.host import files


@dataclasses.dataclass(frozen=True)
class GinText:
    """A gin file that is not written to a disk.

    Attributes:
      name: in messages and in the places that `--dry_run` shows.
      text: its contents.
    """

    name: str
    text: str


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
        found = files.location(name)
        try:
            if found.is_file():
                return found
        except Exception as error:  # whatever the store's client raises
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"gin file '{name}' cannot be read: {reason}.") from error
        raise UserError(f"gin file '{name}' not found.")
    packaged = packaged_gin_configs()
    for root in (Path(), *map(Path, search_paths), packaged, packaged.parent):
        path = root / name
        try:
            if path.is_file():
                return path
            other = name and path.exists()
        except OSError as error:
            raise UserError(f"gin file '{name}' cannot be read: {error.strerror}.") from error
        if other and root != packaged.parent:
            raise UserError(f"gin file '{name}' is a directory or a device: give a file.")
    known = sorted(str(path.relative_to(packaged)) for path in packaged.rglob("*.gin"))
    searched = ", ".join(["the working directory", *search_paths, str(packaged)])
    raise UserError(f"gin file '{name}' not found in {searched}.{nearest(name, known)}")


def is_packaged(path: Path | epath.Path) -> bool:
    """Whether a found file is one of those under `gin_configs`."""
    return isinstance(path, Path) and path.is_relative_to(packaged_gin_configs())


def shown_name(path: Path | epath.Path) -> str:
    """A found file as people name it: below `gin_configs`, or as it was found."""
    inside = is_packaged(path)
    return path.relative_to(packaged_gin_configs()).as_posix() if inside else str(path)


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean ...?`, or nothing when no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""
