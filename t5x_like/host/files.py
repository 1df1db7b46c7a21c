"""Local paths and `gs://` ones: where files are, and how one is replaced, made or appended to."""

import contextlib
import importlib.util
import io
import logging
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from etils import epath

from t5x_like.errors import DataFault, UserError

# Seconds. The service allows one write a second to an object; watching a run needs no more.
PERIOD = 15.0


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is in an object store (`gs://…`)."""
    return "://" in os.fspath(path)


def location(path: str | os.PathLike[str]) -> epath.Path:
    """Makes a local path absolute, so that it survives a change of directory; keeps `gs://` paths.

    Raises:
      UserError: the path is remote, and not of `gs://`, or the packages that read that are not
        installed.
    """
    if not is_remote(path):
        return epath.Path(path).absolute()
    if not os.fspath(path).startswith("gs://"):
        raise UserError(
            f"'{os.fspath(path)}' is neither a local path nor one of `gs://`: copy it here, and "
            "give its path."
        )
    for module in ("gcsfs", "google.cloud.storage"):
        if not _installed(module):
            raise UserError(
                f"'{os.fspath(path)}' needs `pip install t5x-like[gcs]`: {module} is not installed."
            )
    # Not `.absolute()`, which puts the working directory before it.
    return epath.Path(path)


def make_writable(directory: epath.Path, name: str, writer: int = 0) -> None:
    """Makes a directory if it does not exist, and checks that it can be written to.

    Args:
      directory: the directory.
      name: its name in the error message.
      writer: index of this process, where several check at once.

    Raises:
      UserError: it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".writable-{writer}"
        if is_remote(directory):
            probe.write_text("")
        else:
            probe = epath.Path(_temporary(Path(probe)))
            os.close(_open_new(Path(probe)))
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{name} '{directory}' cannot be written: {error.strerror or error}."
        ) from error


def read_whole(path: str | os.PathLike[str]) -> bytes:
    """Reads a file, but nothing else that a name may stand for.

    A pipe that someone put in its place would be waited for without end.

    Raises:
      UserError: it is a directory, a pipe, a device or a socket.
      OSError: it cannot be read.
    """
    if is_remote(path):
        return bytes(location(path).read_bytes())
    # O_NONBLOCK, as opening a pipe waits for its writer.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UserError(f"'{os.fspath(path)}' is not a file: remove what is there.")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


# -- Whole or not at all ---------------------------------------------------------------------


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Replaces a file by one with this content, see `replacing`; text is written as UTF-8."""
    with replacing(path) as file:
        file.write(
            content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        )


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[BinaryIO]:
    """Opens a file that takes the place of `path` when the block ends, or is gone after an error.

    A reader finds the old file or the new one, also after a power failure. The content of a
    local file goes to a temporary one in the same directory, `.NAME.RANDOM.tmp`, which remains
    only after SIGKILL. The content of an object of a store is kept in memory until then.

    Args:
      path: local or `gs://`, in a directory that exists.
      durable: whether to wait until the content is on the disk. Without that, a reader may find
        a part of it after a power failure: for content with a checksum, that can be made again.

    Raises:
      UserError: the path is a directory.
      OSError: it cannot be written.
    """
    if is_remote(path):
        content = io.BytesIO()
        yield content
        location(path).write_bytes(content.getvalue())
        return
    target = Path(path)
    if target.is_dir():
        raise UserError(f"'{target}' is a directory, where a file is to be: remove or rename it.")
    temporary = _temporary(target)
    file = os.fdopen(_open_new(temporary), "wb")
    try:
        yield file
        file.flush()
        if durable:  # else the name may reach the disk before the content does
            os.fsync(file.fileno())
        file.close()
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()  # a full disk refuses what is buffered once more
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Makes a local directory that takes its name when the block ends, or is gone after an error.

    Args:
      path: does not exist, or is an empty directory; its parents are made.

    Yields:
      The directory to fill, under a temporary name next to `path`.

    Raises:
      OSError: it cannot be written, or `path` has been made meanwhile.
    """
    target = Path(path).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _open_new(path: Path) -> int:
    """Makes a file for writing, and returns its descriptor."""
    # O_EXCL fails if the name exists, so a symbolic link that someone planted is not followed.
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)


def _temporary(path: Path) -> Path:
    """A name next to `path` that no other process or thread chooses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


# -- Growing files ---------------------------------------------------------------------------


class GrowingFile(Protocol):
    """A file that can be read while it is being written."""

    def append(self, data: bytes) -> None:
        """Adds `data` at the end."""

    def close(self) -> None:
        """Makes everything visible."""


def growing_file(path: epath.Path) -> GrowingFile:
    """Opens a file for appending, and creates it if it does not exist."""
    return _RemoteFile(path) if is_remote(path) else _LocalFile(path)


class _LocalFile:
    def __init__(self, path: epath.Path) -> None:
        self._path = Path(path)
        self._open()

    def _open(self) -> None:
        # Unbuffered, so that closing does not retry a write that a full disk refused. Readable, so
        # that the content survives if the name is removed.
        self._file = open(self._path, "a+b", buffering=0)  # noqa: SIM115

    def append(self, data: bytes) -> None:
        self._follow_name()
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def _follow_name(self) -> None:
        """Notices that the name is gone, or another file's; what is appended would be lost.

        Raises:
          DataFault: its folder is gone too.
        """
        try:
            if os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno())):
                return
            what = "was replaced while it was being written, and is continued"
        except FileNotFoundError:
            if not self._path.parent.is_dir():
                raise DataFault(
                    f"'{self._path.parent}' was removed while '{self._path.name}' was being "
                    "written in it."
                ) from None
            self._file.seek(0)
            write_whole(self._path, self._file.read())
            what = "was removed while it was being written, and is there again"
        self._file.close()
        self._open()
        logging.getLogger(__name__).warning("warning: '%s' %s.", self._path, what)

    def close(self) -> None:
        self._file.close()


class _RemoteFile:
    """An object of a store, which cannot be appended to and is visible only once it is complete.

    The content is kept in memory and the whole object rewritten, at most once in `PERIOD` seconds
    and at the end, so that a run can be watched and a kill loses little.
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
