"""TFRecord files as random-access arrays of bytes, without TensorFlow.

A record is an 8-byte little-endian length, the masked CRC-32C of that length, the data, and
the masked CRC-32C of the data (`tensorflow/core/lib/io/record_writer.h`). These checksums are
verified once, when the offsets are collected. The offsets are kept in a sidecar with a CRC-32 of
the whole file, which zlib computes ten times faster, so that later runs open the file at once.

Records are read, not memory-mapped: of a file that shrinks, or a disk that fails, reading says
so, where touching a mapping ends the process by a signal.
"""

import functools
import mmap
import os
import struct
import weakref
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from t5x_like.data.cache import index_file
from t5x_like.data.cache.crc32c import masked_crc32c
from t5x_like.errors import DataFault, UserError
from t5x_like.host import disk_space, files

_HEADER = 12
_FOOTER = 4
_CHECKED_TOGETHER = 1 << 14  # records whose checksums are computed in one call
_READ_TOGETHER = 1 << 18  # bytes, which stay in the processor's cache


def _corrupt(path: Path, offset: int, found: str) -> UserError:
    return UserError(f"{path} is corrupt at byte {offset}: {found}; build the cache again")


def _map(path: Path) -> np.ndarray:
    """A whole local file as a read-only uint8 array backed by memory mapping."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return np.zeros(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


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


def scan(path: Path, data: np.ndarray) -> np.ndarray:
    """Byte offsets `[n + 1]` at which the records of a TFRecord file begin; the last is its size.

    Raises:
      UserError: the file ends inside a record, or a checksum does not match; the message has
        the byte offset.
    """
    view = data.data
    size = len(view)
    unpack = struct.Struct("<QI").unpack_from
    offsets, start = [0], 0
    length_crcs: list[int] = []
    data_crcs: list[int] = []

    def check(first: int) -> None:
        # The records from `first` on, all of which lie inside the file.
        begins = offsets[first:-1]
        lengths = masked_crc32c([view[o : o + 8] for o in begins])
        for offset, wanted, found in zip(begins, length_crcs, lengths.tolist(), strict=True):
            if wanted != found:
                raise _corrupt(path, offset, "the checksum of a record's length does not match")
        ends = offsets[first + 1 :]
        contents = masked_crc32c(
            [view[o + _HEADER : e - _FOOTER] for o, e in zip(begins, ends, strict=True)]
        )
        for offset, wanted, found in zip(begins, data_crcs, contents.tolist(), strict=True):
            if wanted != found:
                raise _corrupt(path, offset, "the checksum of a record's data does not match")
        length_crcs.clear()
        data_crcs.clear()

    checked = 0
    while start < size:
        if start + _HEADER > size:
            check(checked)
            raise _corrupt(path, start, f"a record's header is cut off at {size} bytes")
        length, length_crc = unpack(view, start)
        end = start + _HEADER + length + _FOOTER
        if end > size:
            check(checked)
            if masked_crc32c([view[start : start + 8]])[0] != length_crc:
                raise _corrupt(path, start, "the checksum of a record's length does not match")
            raise _corrupt(path, start, f"a record of {length} bytes is cut off at {size} bytes")
        offsets.append(end)
        length_crcs.append(length_crc)
        data_crcs.append(int.from_bytes(view[end - _FOOTER : end], "little"))
        start = end
        if len(data_crcs) == _CHECKED_TOGETHER:
            check(checked)
            checked = len(offsets) - 1
    check(checked)
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
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._descriptor = descriptor
            weakref.finalize(self, os.close, descriptor)
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
        # Reading comes first: the mapping is then of pages that the disk has delivered.
        checksum = _checksum(self.path)
        offsets = scan(self.path, _map(self.path))
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
        batch: list[bytes] = []

        def flush() -> None:
            lengths = [struct.pack("<Q", len(record)) for record in batch]
            crcs = zip(masked_crc32c(lengths).tolist(), masked_crc32c(batch).tolist(), strict=True)
            for length, record, (length_crc, crc) in zip(lengths, batch, crcs, strict=True):
                file.write(length)
                file.write(length_crc.to_bytes(4, "little"))
                file.write(record)
                file.write(crc.to_bytes(4, "little"))
            batch.clear()

        for record in records:
            batch.append(record)
            count += 1
            if len(batch) == 1024:
                flush()
        flush()
        file.flush()
    return count
