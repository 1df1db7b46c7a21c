"""Errors of disks, in one line: what cannot be written, why, and of a full one how much is free."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from t5x_like.host import files

# By errno; libraries with their own I/O often quote only the system's message, see `_PHRASES`.
_FULL = {
    errno.ENOSPC: "the disk has no room",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file there would be larger than is allowed (`ulimit -f`)",
}
_REFUSED = {
    errno.EACCES: "permission denied: its owner or mode does not let this user write there",
    errno.EPERM: "operation not permitted: something there is marked as immutable or append-only",
    errno.EROFS: "read-only file system: it was mounted so, or became so after a disk error",
    errno.EIO: "input/output error: the disk or its connection fails",
    errno.ESTALE: "stale file handle: the file server has lost or replaced the folder",
    errno.ENOTDIR: "not a directory: a file is where a folder should be",
}
_PHRASES = {os.strerror(number).lower(): number for number in (*_FULL, *_REFUSED)}


class CannotWrite(RuntimeError):
    """A file that had to be written cannot be.

    The message is one line, which the command line prints without a traceback. The exit code is 1:
    the user gave nothing wrong.
    """

    exit_code = 1


class DiskFull(CannotWrite):
    """There is no room for it."""


def require(path: str | os.PathLike[str], needed_bytes: int) -> None:
    """Raises an error before a write that would not fit on the disk.

    Args:
      path: file or folder to write; the filesystem is that of its nearest parent that exists.
        Object stores are not limited.
      needed_bytes: its size.

    Raises:
      DiskFull: fewer bytes are free.
    """
    if not files.is_remote(path) and needed_bytes > _free_bytes(path):
        raise DiskFull(_line(path, errno.ENOSPC, needed_bytes))


@contextlib.contextmanager
def explained(path: str | os.PathLike[str], needed_bytes: int | None = None) -> Iterator[None]:
    """Turns errors of a full, read-only or failing disk, or of permissions, into `CannotWrite`.

    An error counts if it is such an error, has one as its cause or context, or contains one in an
    exception group, and also if its message quotes the system's.

    Args:
      path: what is written within the block: a file or a folder.
      needed_bytes: its size; if unknown, the message says how much was written.

    Raises:
      DiskFull: in place of an error of a full disk, which becomes its cause.
      CannotWrite: in place of another error of writing. Errors of other kinds pass through.
    """
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:
        number = _number(error)
        if number is None:
            raise
        if number in _REFUSED:
            raise CannotWrite(
                f"{os.fspath(path)} cannot be written: {_REFUSED[number]}."
            ) from error
        raise DiskFull(_line(path, number, needed_bytes)) from error


def _number(error: BaseException) -> int | None:
    """The errno of the error of a disk behind an error, or None."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, OSError) and current.errno in (_FULL | _REFUSED):
            return current.errno
        text = str(current).lower()
        for phrase, number in _PHRASES.items():
            if phrase in text:
                return number
        waiting += [e for e in (current.__cause__, current.__context__) if e is not None]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions
    return None


def _line(path: str | os.PathLike[str], number: int, needed_bytes: int | None) -> str:
    if number == errno.ENOSPC and _has_no_inodes(path):
        return (
            f"{os.fspath(path)} cannot be written: the disk has no inodes left, whatever room it "
            "has (`df -i`): delete files there, of which many small ones use them up."
        )
    if needed_bytes is None:
        needed = f"more than the {_written_bytes(path):,} bytes written are needed"
    else:
        needed = f"{needed_bytes:,} bytes are needed"
    free = "" if files.is_remote(path) else f", {_free_bytes(path):,} bytes are free"
    return f"{os.fspath(path)} cannot be written: {_FULL[number]}: {needed}{free}."


def _existing(path: str | os.PathLike[str]) -> Path:
    place = Path(path).absolute()
    while not os.path.exists(place):
        place = place.parent
    return place


def _free_bytes(path: str | os.PathLike[str]) -> int:
    return shutil.disk_usage(_existing(path)).free


def _has_no_inodes(path: str | os.PathLike[str]) -> bool:
    """Whether the filesystem can hold no more files; some count none, and have no such limit."""
    if files.is_remote(path):
        return False
    found = os.statvfs(_existing(path))
    return found.f_files > 0 and found.f_favail == 0


def _written_bytes(path: str | os.PathLike[str]) -> int:
    """The size of a file, or of all files in a folder."""
    place = Path(path)
    written = 0
    for file in place.rglob("*") if place.is_dir() else [place]:
        with contextlib.suppress(OSError):  # removed meanwhile
            written += 0 if file.is_dir() else file.stat().st_size
    return written
