"""TFRecord files as random-access arrays of bytes, without TensorFlow.

A record is an 8-byte little-endian length, the masked CRC-32C of that length, the data, and
the masked CRC-32C of the data (`tensorflow/core/lib/io/record_writer.h`). These checksums are
verified once, when the offsets are collected. The offsets are kept in a sidecar with a CRC-32 of
the whole file, which zlib computes ten times faster, so that later runs open the file at once.

Records are read, not memory-mapped: of a file that shrinks, or a disk that fails, reading says
so, where touching a mapping ends the process by a signal.
"""

import contextlib
import fcntl
import functools
import os
import stat
import struct
import weakref
import zlib
from collections.abc import Iterable
from pathlib import Path

import google_crc32c
import numpy as np

from t5x_like.data.cache import index_file
from t5x_like.errors import DataFault, UserError
from t5x_like.host import disk_space, files

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER = _LENGTH.size + _CRC.size
_FOOTER = _CRC.size
_READ_TOGETHER = 1 << 18  # bytes, which stay in the processor's cache


def masked_crc32c(data: bytes) -> int:
    """TFRecord's masked CRC-32C of `data`, in `[0, 2**32)`.

    Source: `tensorflow/core/lib/hash/crc32c.h`.
    """
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(record: bytes) -> bytes:
    """A record as it stands in a TFRecord file, between its length and its checksum."""
    length = _LENGTH.pack(len(record))
    crcs = _CRC.pack(masked_crc32c(length)), _CRC.pack(masked_crc32c(record))
    return b"".join((length, crcs[0], record, crcs[1]))


def _corrupt(path: Path, offset: int, found: str) -> UserError:
    return UserError(f"{path} is corrupt at byte {offset}: {found}; build the cache again")


def _checksum(path: Path) -> int:
    """CRC-32 of a whole file."""
    checksum = 0
    block = memoryview(bytearray(_READ_TOGETHER))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            checksum = zlib.crc32(block[:size], checksum)
    return checksum


@functools.lru_cache(maxsize=1 << 16)
def _is_as_indexed(path: Path, stamp: tuple[int, ...], checksum: int) -> bool:
    """Whether a version of a file has this CRC-32; read once in a process."""
    return _checksum(path) == checksum


def scan(path: Path) -> np.ndarray:
    """Byte offsets `[n + 1]` at which the records of a TFRecord file begin; the last is its size.

    Raises:
      UserError: the file ends inside a record, or a checksum does not match; the message has
        the byte offset.
    """
    size = path.stat().st_size
    offsets, start = [0], 0
    with path.open("rb", buffering=_READ_TOGETHER) as file:
        while start < size:
            header = file.read(_HEADER)
            if len(header) < _HEADER:
                raise _corrupt(path, start, f"a record's header is cut off at {size} bytes")
            octets = header[: _LENGTH.size]
            if _CRC.pack(masked_crc32c(octets)) != header[_LENGTH.size :]:
                raise _corrupt(path, start, "the checksum of a record's length does not match")
            (length,) = _LENGTH.unpack(octets)
            end = start + _HEADER + length + _FOOTER
            # No more than there is, whatever the length says.
            data = file.read(min(length, size - start))
            footer = file.read(_FOOTER)
            if len(data) < length or len(footer) < _FOOTER:
                found = f"a record of {length} bytes is cut off at {size} bytes"
                raise _corrupt(path, start, found)
            if _CRC.pack(masked_crc32c(data)) != footer:
                raise _corrupt(path, start, "the checksum of a record's data does not match")
            offsets.append(end)
            start = end
    return np.array(offsets, np.int64)


class RecordFile:
    """The records of one TFRecord file: `len(file)`, `file[i] -> bytes`.

    Attributes:
      path: the file.
      offsets: int64 `[n + 1]`, where each record begins.
    """

    def __init__(self, path: Path, index_path: Path | None = None, *, verify: bool = True):
        """Opens a file, and verifies it.

        Args:
          path: an uncompressed TFRecord file.
          index_path: where the offsets are kept; None keeps them nowhere.
          verify: whether a file that was indexed before is read whole to see that it is still
            the same; else size and modification time are believed.

        Raises:
          UserError: the file is missing, truncated or corrupt.
          DataFault: the disk cannot be read.
        """
        self.path = path
        try:
            # O_NONBLOCK, as opening a pipe waits for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._descriptor = descriptor
            # What is being read is not pruned; see `listing.prune`.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            weakref.finalize(self, os.close, descriptor)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UserError(f"{path} is not a file; build the cache again")
            known = index_file.load(index_path, path) if index_path else None
            if known is not None and verify:
                indexed = int(known["checksum"][0])
                if not _is_as_indexed(path, tuple(index_file.stamp(path)), indexed):
                    known = None
            self.offsets = self._index(index_path) if known is None else known["offsets"]
        except FileNotFoundError:
            raise UserError(f"{path} is missing; build the cache again") from None
        except OSError as error:
            raise DataFault(f"{path} cannot be read: {error.strerror}.") from error

    def _index(self, index_path: Path | None) -> np.ndarray:
        checksum = _checksum(self.path)
        offsets = scan(self.path)
        if index_path:
            arrays = {"offsets": offsets, "checksum": np.array([checksum], np.int64)}
            index_file.save(index_path, self.path, arrays)
        return offsets

    def __len__(self) -> int:
        return self.offsets.size - 1

    def __getitem__(self, index: int) -> bytes:
        """Record `index`, which must lie in `[0, len)`."""
        return self.read(*self.span(index))

    def span(self, index: int) -> tuple[int, int]:
        """Where record `index`'s data begins and ends in the file."""
        return int(self.offsets[index]) + _HEADER, int(self.offsets[index + 1]) - _FOOTER

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` of the file.

        Raises:
          UserError: the file is shorter now.
          DataFault: the disk cannot be read.
        """
        try:
            data = os.pread(self._descriptor, stop - start, start)
            while len(data) < stop - start:
                more = os.pread(self._descriptor, stop - start - len(data), start + len(data))
                if not more:
                    end = os.fstat(self._descriptor).st_size
                    raise _corrupt(self.path, end, "it ends there since it was opened")
                data += more
        except OSError as error:
            raise DataFault(
                f"{self.path} cannot be read at byte {start}: {error.strerror}."
            ) from error
        return data


def write_records(path: Path, records: Iterable[bytes]) -> int:
    """Writes a TFRecord file, whole or not at all; returns the number of records.

    The bytes depend on nothing else.

    Raises:
      DiskFull: there is no room for it.
    """
    count = 0
    # A full disk is explained while what has filled it is there.
    with files.replacing(path) as file, disk_space.explained(path.parent):
        for record in records:
            file.write(framed(record))
            count += 1
        file.flush()
    return count
