"""A lock on a directory, local or in an object store, against a second command that writes there.

On a local file system the kernel holds the lock (`flock`), and drops it when the process ends,
however it ends. In an object store, and on file systems without such locks, it is a lease: an
object that its holder rewrites every `BEAT_SECONDS`. A lease that nobody has rewritten for
`LEASE_SECONDS` is a dead process's, and is taken over.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import tensorstore

from t5x_like.errors import DataFault, UserError
from t5x_like.host import files

FILE = ".lock"
BEAT_SECONDS, LEASE_SECONDS = 15.0, 60.0
_REQUEST_SECONDS = 60.0
# Errors of file systems without locks, such as some mounts of Lustre, FUSE and NFS.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class DirectoryLock(Protocol):
    """A lock that this process holds."""

    def require(self) -> None:
        """Raises `DataFault` if another process has taken the lock over meanwhile."""

    def release(self) -> None:
        """Gives the lock back."""


def lock(directory: str | os.PathLike[str], name: str, user: str) -> DirectoryLock:
    """Locks a directory that exists against other processes, and other users in this one.

    Args:
      directory: local or `gs://`.
      name: its name in the error message, such as `MODEL_DIR`.
      user: what uses it, such as `run`.

    Raises:
      UserError: another process has it, or it cannot be written.
    """

    def taken(holder: str) -> UserError:
        return UserError(
            f"{name} '{os.fspath(directory)}' is in use by another {user} ({holder}): wait until "
            f"it ends, or choose another {name}."
        )

    if files.is_remote(directory):
        place = os.fspath(directory).rstrip("/") + "/"
        return _Lease(tensorstore.KvStore.open(place).result(_REQUEST_SECONDS), taken)
    try:
        return _FileLock(Path(directory), taken)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return _Lease(tensorstore.KvStore.open(f"file://{directory}/").result(), taken)
        raise UserError(
            f"{name} '{os.fspath(directory)}' cannot be locked: {error.strerror}: '{FILE}' in it "
            "has to be a file that this user can write."
        ) from error


class _FileLock:
    """The kernel's lock on a file in the directory, which is there as long as it is held."""

    def __init__(self, directory: Path, taken: Callable[[str], UserError]) -> None:
        self._path = directory / FILE
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        while True:
            self._handle = os.open(self._path, flags, 0o666)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The previous holder removes the file: the lock may be on one without a name.
                if os.path.samestat(os.fstat(self._handle), os.lstat(self._path)):
                    break
            except BlockingIOError:
                holder = _described(os.pread(self._handle, 1000, 0))
                os.close(self._handle)
                raise taken(holder) from None
            except FileNotFoundError:
                pass
            except OSError:
                os.close(self._handle)
                raise
            os.close(self._handle)
        os.ftruncate(self._handle, 0)
        os.write(self._handle, _identity())

    def require(self) -> None:
        """The kernel lets nobody take it over."""

    def release(self) -> None:
        """Removes the file, and drops the lock."""
        with contextlib.suppress(OSError):  # the directory may be gone
            self._path.unlink()
        os.close(self._handle)


class _Lease:
    """An object that its holder rewrites; writes succeed only if nobody else has written it."""

    def __init__(self, store: tensorstore.KvStore, taken: Callable[[str], UserError]) -> None:
        self._store = store
        self._lost = False
        self._generation = self._acquire(taken)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lock", daemon=True)
        self._thread.start()

    def _acquire(self, taken: Callable[[str], UserError]) -> bytes:
        seen, since = None, time.monotonic()
        while True:
            found = self._store.read(FILE).result(_REQUEST_SECONDS)
            generation = found.stamp.generation
            if found.state == "missing" or _is_dead(found.value):
                free = True
            elif seen is None:
                seen, free = generation, False
            elif generation != seen:
                raise taken(_described(found.value))
            else:
                free = time.monotonic() - since > LEASE_SECONDS
            if free and (written := self._write(_identity(), generation)):
                return written
            time.sleep(BEAT_SECONDS / 15)

    def _write(self, content: bytes | None, generation: bytes) -> bytes:
        """The new generation; empty if the object was of another one."""
        written = self._store.write(FILE, content, if_equal=generation)
        return written.result(_REQUEST_SECONDS).generation

    def _keep(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            with contextlib.suppress(Exception):  # the store does not answer; it may do next time
                written = self._write(_identity(), self._generation)
                if not written:
                    self._lost = True
                    return
                self._generation = written

    def require(self) -> None:
        """Checks that nobody has taken it over, as another may when this process was suspended."""
        if self._lost:
            raise DataFault(
                f"'{self._store.path}{FILE}' is another process's by now, as this one was silent "
                f"for {LEASE_SECONDS:.0f} seconds: it ends, and writes nothing more."
            )

    def release(self) -> None:
        """Deletes the object."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # it is free after `LEASE_SECONDS` in any case
            self._write(None, self._generation)


def _identity() -> bytes:
    """Who holds a lock, as JSON; no two are equal, so that each write makes a new generation."""
    holder = {"host": socket.gethostname(), "process": os.getpid(), "time": time.time()}
    return json.dumps(holder).encode()


def _holder(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _described(content: bytes) -> str:
    found = _holder(content)
    return f"process {found.get('process', '?')} on {found.get('host', 'an unknown host')}"


def _is_dead(content: bytes) -> bool:
    """Whether the holder of a lease was a process of this host that has ended."""
    found = _holder(content)
    process = found.get("process")
    if found.get("host") != socket.gethostname() or type(process) is not int:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
