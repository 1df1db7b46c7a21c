"""Where a run's files are: local paths and `gs://` ones, and what differs between the two."""

import importlib.util
import os
import time
from typing import Protocol

from etils import epath

from t5x_like.errors import UserError

# The service allows one write a second to an object; nobody watches a run faster than this.
PERIOD = 15.0


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is of an object store (`gs://…`)."""
    return "://" in os.fspath(path)


def location(path: str | os.PathLike[str]) -> epath.Path:
    """A path that stays right when the working directory changes; a `gs://` path as it is.

    Raises:
      UserError: the path is remote, and what reads such paths is not installed.
    """
    if not is_remote(path):
        return epath.Path(path).absolute()
    for module in ("gcsfs", "google.cloud.storage"):
        if not _installed(module):
            raise UserError(
                f"'{os.fspath(path)}' needs `pip install t5x-like[gcs]`: {module} is not installed."
            )
    # Not `.absolute()`, which puts the working directory before it.
    return epath.Path(path)


def make_writable(directory: epath.Path, name: str, writer: int = 0) -> None:
    """Makes a directory where there is none, and writes to it once.

    Args:
      directory: which.
      name: what the user calls it.
      writer: a number of this process, where several try at once.

    Raises:
      UserError: it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".writable-{writer}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{name} '{directory}' cannot be written: {error.strerror or error}."
        ) from error


def write_whole(path: epath.Path, text: str) -> None:
    """Replaces a file by one that is there whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


class GrowingFile(Protocol):
    """A file that is read while it is written."""

    def append(self, data: bytes) -> None:
        """Adds `data` at the end."""

    def close(self) -> None:
        """Makes everything visible."""


def growing_file(path: epath.Path) -> GrowingFile:
    """Opens a file to append to, which is made where there is none."""
    return _RemoteFile(path) if is_remote(path) else _LocalFile(path)


class _LocalFile:
    def __init__(self, path: epath.Path) -> None:
        # Without a buffer: what a full disk refused is not tried again when it is closed.
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115

    def append(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def close(self) -> None:
        self._file.close()


class _RemoteFile:
    """An object of a store, which cannot be appended to, and is there only when it is whole.

    Its content is kept in memory and written whole, at most once in `PERIOD` seconds and at
    the end, so that a run can be watched and a kill loses little.
    """

    def __init__(self, path: epath.Path) -> None:
        self._path = path
        self._content = bytearray(path.read_bytes() if path.exists() else b"")
        self._saved_bytes = len(self._content)
        self._saved_at = float("-inf")

    def append(self, data: bytes) -> None:
        self._content += data
        if time.monotonic() - self._saved_at >= PERIOD:
            self._save()

    def close(self) -> None:
        if len(self._content) > self._saved_bytes:
            self._save()

    def _save(self) -> None:
        self._path.write_bytes(bytes(self._content))
        self._saved_bytes = len(self._content)
        self._saved_at = time.monotonic()


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False
