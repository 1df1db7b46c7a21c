"""Small index files that stand beside a data file and are made again when it changes.

A sidecar holds named int64 arrays and is memory-mapped, so that opening a corpus of many
millions of records costs little. It only saves time: a reader that finds none, a damaged one, or
one that belongs to another version of the data file, computes the arrays anew.
"""

import contextlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t5x_like.host import files

_MAGIC = b"t5xlike-index-2\n"
_HEADER = 4096  # bytes before the arrays


def stamp(data_path: Path) -> list[int]:
    """What tells one version of a local file from another: its size and modification time."""
    status = data_path.stat()
    return [status.st_size, status.st_mtime_ns]


def _checksum(described: Sequence[Any], values: bytes | memoryview) -> int:
    """CRC-32 of the arrays and of what is said about them."""
    return zlib.crc32(values, zlib.crc32(json.dumps(described).encode("ascii")))


def load(path: Path, data_path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a sidecar, memory-mapped read-only, or None where there is none to trust."""
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return None
        with path.open("rb") as file:
            head = file.read(_HEADER)
        if not head.startswith(_MAGIC):
            return None
        header = json.loads(head[len(_MAGIC) :].rstrip(b"\0"))
        words = sum(size for _, size in header["arrays"])
        if header["stamp"] != stamp(data_path) or path.stat().st_size != _HEADER + 8 * words:
            return None
        # A plain view: slicing np.memmap objects one by one is several times slower.
        values = np.zeros(0, np.int64)
        if words:
            values = np.asarray(np.memmap(path, "<i8", mode="r", offset=_HEADER))
        if header["checksum"] != _checksum([header["stamp"], header["arrays"]], values.data):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    arrays, start = {}, 0
    for name, size in header["arrays"]:
        arrays[name] = values[start : start + size]
        start += size
    return arrays


def save(path: Path, data_path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a sidecar whole or not at all; a read-only folder or a full disk is no error."""
    described = [stamp(data_path), [[name, array.size] for name, array in arrays.items()]]
    values = b"".join(np.ascontiguousarray(array, "<i8").tobytes() for array in arrays.values())
    header = _MAGIC + json.dumps(
        {
            "stamp": described[0],
            "arrays": described[1],
            "checksum": _checksum(described, values),
        }
    ).encode("ascii")
    if len(header) > _HEADER:
        raise ValueError(f"index header of {path} is {len(header)} bytes, above {_HEADER}")
    with contextlib.suppress(OSError), files.replacing(path, durable=False) as file:
        file.write(header.ljust(_HEADER, b"\0"))
        file.write(values)
