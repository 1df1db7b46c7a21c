"""A folder of this machine for the few shards of a larger cache that are being read."""

import contextlib
import fcntl
import os
import secrets
import shutil
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path

from etils import epath

from t5x_like.errors import DataFault, UserError
from t5x_like.host import disk_space

_LOCK = ".lock"
_BLOCK = 1 << 22  # bytes
_ATTEMPTS = 4
_AT_ONCE = 8  # files


@dataclass(frozen=True)
class ShardStore:
    """Reads a training split shard by shard, so that little of it is on this machine at a time.

    Shards in a bucket are copied here when their turn comes, and removed after it; those on a disk
    or a shared file system are read where they are. Examples are shuffled among `shards_together`
    shards of a stream, and these in an order that every epoch draws anew: not among all.

    Attributes:
      store_bytes: most bytes of shards that a process has on this machine's disk at a time.
      store_dir: where; None takes `t5x_like/shards` in XDG_CACHE_HOME or ~/.cache.
      shards_together: how many shards of a stream are read, and shuffled, as one.

    Raises:
      UserError: a number is below 1.
    """

    store_bytes: int = 32 * 2**30
    store_dir: str | None = None
    shards_together: int = 4

    def __post_init__(self) -> None:
        for name in ("store_bytes", "shards_together"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(
                    f"data.ShardStore.{name} is {value!r}; it must be a whole number above 0"
                )

    @property
    def root(self) -> Path:
        """The folder of the stores of all processes."""
        if self.store_dir is not None:
            return Path(self.store_dir).expanduser().absolute()
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "t5x_like" / "shards"


class LocalStore:
    """The folder of one process; gone when that ends, or at the next start after a SIGKILL.

    Attributes:
      bytes_fetched: from a bucket so far; another thread watches it grow.
    """

    def __init__(self, settings: ShardStore):
        """Makes the folder, and removes those of processes that are gone.

        Raises:
          CannotWrite: the disk is full, or may not be written to.
        """
        root = settings.root
        self.bytes_fetched = 0
        self._closing = threading.Event()
        self._turns = threading.Semaphore(_AT_ONCE)
        with disk_space.explained(root):
            root.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(root)
            self.folder = root / f"{os.getpid()}-{secrets.token_hex(4)}"
            # Under its name only when it is locked: else another process would take it for left.
            made = root / f".{self.folder.name}.tmp"
            made.mkdir()
            lock = os.open(made / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
            fcntl.flock(lock, fcntl.LOCK_EX)
            made.rename(self.folder)
        self._close = weakref.finalize(self, _remove, self.folder, lock, self._closing)

    def close(self) -> None:
        """Ends what is being fetched, and removes the folder."""
        self._close()

    def new_folder(self) -> Path:
        """An empty folder in the store."""
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir()
        return folder

    def fetch(self, remote: epath.Path, target: Path) -> None:
        """Copies a file of a bucket.

        Raises:
          DataFault: it cannot be read, several times in a row, or the store was closed.
          DiskFull: there is no room for it.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with self._turns, disk_space.explained(target):
                    self._copy(remote, target)
                return
            except (disk_space.CannotWrite, DataFault):
                raise
            except Exception as error:  # each store has errors of its own
                if attempt == _ATTEMPTS - 1 or isinstance(error, FileNotFoundError):
                    reason = next(iter(str(error).splitlines()), type(error).__name__)
                    raise DataFault(f"{remote} cannot be read: {reason}.") from error
            self._closing.wait(2.0**attempt)

    def _copy(self, remote: epath.Path, target: Path) -> None:
        size = remote.stat().length
        copied = 0
        with remote.open("rb") as source, target.open("wb") as local:
            while block := source.read(_BLOCK):
                if self._closing.is_set():
                    raise DataFault(f"{remote} was not read to its end: the data were closed.")
                local.write(block)
                copied += len(block)
                self.bytes_fetched += len(block)
        if copied != size:
            raise EOFError(f"{copied:,} of {size:,} bytes came")


def _remove(folder: Path, lock: int, closing: threading.Event) -> None:
    closing.set()
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.close(lock)


def _remove_abandoned(root: Path) -> None:
    """Removes the stores of processes that were killed, whose locks nobody holds."""
    for folder in root.glob("[!.]*"):  # a hidden one is being made, or is empty
        with contextlib.suppress(OSError):
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
