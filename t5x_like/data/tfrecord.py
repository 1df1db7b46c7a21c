"""TFRecord files as random-access arrays of bytes, memory-mapped, without TensorFlow.

A record is an 8-byte little-endian length, the masked CRC-32C of that length, the data, and
the masked CRC-32C of the data (`tensorflow/core/lib/io/record_writer.h`). The checksums are
verified once, when the offsets are collected; the offsets are kept in a sidecar, so that later
runs open the file at once.
"""

import mmap
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from t5x_like.data import sidecar
from t5x_like.data.crc32c import masked_crc32c
from t5x_like.errors import UserError

_HEADER = 12
_FOOTER = 4
_CHECKED_TOGETHER = 1 << 14  # records whose checksums are computed in one call


def _corrupt(path: Path, offset: int, found: str) -> UserError:
    return UserError(
        f"{path} is corrupt at byte {offset}: {found}; delete the file and build the cache again"
    )


def map_file(path: Path) -> np.ndarray:
    """A whole local file as a read-only uint8 array backed by memory mapping."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return np.zeros(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


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
      data: its bytes, uint8, memory-mapped.
      offsets: int64 `[n + 1]`, where each record begins in `data`.
    """

    def __init__(self, path: Path, index_path: Path | None = None):
        """Opens a file, and verifies it unless a sidecar says that this was done.

        Args:
          path: an uncompressed TFRecord file.
          index_path: where the offsets are kept; None keeps them nowhere.

        Raises:
          UserError: the file is missing, truncated or corrupt.
        """
        self.path = path
        try:
            self.data = map_file(path)
        except FileNotFoundError:
            raise UserError(f"{path} is missing; build the cache again") from None
        known = sidecar.load(index_path, path) if index_path else None
        if known is None:
            self.offsets = scan(path, self.data)
            if index_path:
                sidecar.save(index_path, path, {"offsets": self.offsets})
        else:
            self.offsets = known["offsets"]
        self._view = self.data.data

    def __len__(self) -> int:
        return self.offsets.size - 1

    def __getitem__(self, index: int) -> bytes:
        """Record `index`, which must lie in `[0, len)`."""
        offsets = self.offsets
        return bytes(self._view[int(offsets[index]) + _HEADER : int(offsets[index + 1]) - _FOOTER])

    def span(self, index: int) -> tuple[int, int]:
        """Where record `index`'s data begins and ends in the file."""
        return int(self.offsets[index]) + _HEADER, int(self.offsets[index + 1]) - _FOOTER


def write_records(path: Path, records: Iterable[bytes]) -> int:
    """Writes a TFRecord file; returns the number of records. The bytes depend on nothing else."""
    count = 0
    with path.open("wb") as file:
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
    return count
