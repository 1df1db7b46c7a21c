"""Safetensors files, read and written tensor by tensor and without any pickle.

The format: eight bytes with the header's length, a JSON header that gives each tensor's
dtype, shape and place, then the data (huggingface.co/docs/safetensors).

The `safetensors` package is not used, because its NumPy interface maps whole files and copies
each tensor, so that loading takes 2.0 times the memory of float32 parameters (1.5 from bfloat16;
1.0 here) unless the file is opened anew for each tensor, which costs 5 ms each where there are
6,000, and because it writes only tensors that are all in memory.
"""

import dataclasses
import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from models.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# What `save_pretrained` takes as the largest file since transformers 4.
MAX_FILE_BYTES = 5_000_000_000
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
# Of causal masks and of the numbers of positions, which older files keep and nobody reads, and of
# quantized weights, which are refused by name.
_OTHER_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16,
    "U32": np.uint32, "I32": np.int32, "U64": np.uint64, "I64": np.int64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
}  # fmt: skip
# More axes than any weight has, and more numbers than any file holds.
_MOST_AXES, _MOST_NUMBERS = 8, 2**48
_CODES = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}
WRITTEN_DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where one tensor lies."""

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class TensorFiles(Mapping[str, np.ndarray]):
    """The tensors of a Hugging Face directory.

    Each is mapped into memory when it is asked for and unmapped when its array is dropped, so
    that reading all in turn costs the largest of them.
    """

    def __init__(self, directory: str | Path) -> None:
        """Reads the headers.

        Args:
          directory: holds `model.safetensors`, or `model.safetensors.index.json` and the
            files that it names; or one file.

        Raises:
          ModelError: there is neither, or a file is not what it should be.
        """
        self._places: dict[str, _Place] = {}
        for path in _files(Path(directory)):
            places = _places(path)
            for name in places.keys() & self._places.keys():
                raise ModelError(
                    f"tensor {name!r} is in two files, {self._places[name].path} and {path}."
                )
            self._places |= places

    def __getitem__(self, name: str) -> np.ndarray:
        place = self._places[name]
        if not math.prod(place.shape):
            return np.empty(place.shape, place.dtype)
        return np.memmap(place.path, place.dtype, "r", place.offset, place.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without mapping it."""
        return self._places[name].shape

    def is_weight(self, name: str) -> bool:
        """Whether a tensor holds floating-point numbers that can be read as weights."""
        return self._places[name].dtype in _CODES

    def rename(self, old: str, new: str) -> None:
        """Lets a tensor be known by another name."""
        self._places[new] = self._places.pop(old)

    def alias(self, name: str, other: str) -> None:
        """Lets a tensor be known by a second name as well."""
        self._places[other] = self._places[name]

    def drop(self, name: str) -> None:
        """Forgets a tensor."""
        del self._places[name]


def _files(directory: Path) -> list[Path]:
    if directory.is_file():
        return [directory]
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    if not (directory / INDEX).is_file():
        if list(directory.glob("pytorch_model*.bin")):
            raise ModelError(
                f"{directory} has only pytorch_model.bin, a pickle, which is never loaded: "
                "convert it with transformers' save_pretrained, which writes safetensors."
            )
        raise ModelError(f"{directory} has neither {SINGLE} nor {INDEX}.")
    try:
        index = json.loads((directory / INDEX).read_text("utf-8"))["weight_map"]
        names = sorted(set(index.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{directory / INDEX} is not an index: weight_map is needed.") from error
    return [_inside(directory, name) for name in names]


def _inside(directory: Path, name: Any) -> Path:
    """The file of a directory that its index names.

    Raises:
      ModelError: the name leads elsewhere, or there is no such file.
    """
    if not isinstance(name, str) or Path(name).name != name or "\\" in name:
        raise ModelError(f"{directory / INDEX} names {name!r}: only plain file names are read.")
    path = directory / name
    if not path.is_file():
        raise ModelError(f"{directory / INDEX} names {name!r}, which is not there.")
    # Hugging Face's own download folder is made of links: snapshots/REVISION/NAME leads to
    # ../../blobs/HASH. It is the only place outside that a link may lead to.
    home = directory.resolve()
    if path.resolve().parent not in (home, home.parent.parent / "blobs"):
        raise ModelError(
            f"{path} is a link to {path.resolve()}, outside its directory: copy the file there."
        )
    return path


def _places(path: Path) -> dict[str, _Place]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError("a header beyond the end of the file")
            header = json.loads(file.read(length), object_pairs_hook=_once)
        header.pop("__metadata__", None)
        places = {name: _place(path, 8 + length, size, entry) for name, entry in header.items()}
        _check_apart(places)
        return places
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        MemoryError,
        RecursionError,
        struct.error,
    ) as error:
        reason = f" ({error})" if isinstance(error, _Malformed) else ""
        raise ModelError(f"{path} is not a safetensors file{reason}.") from error


class _Malformed(ValueError):
    """A header that says what cannot be, in words for the user."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which a name may stand once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Malformed(f"{twice!r} stands in its header twice")
    return found


def _check_apart(places: Mapping[str, _Place]) -> None:
    """Refuses tensors that share bytes: one of the two is not what was saved."""
    end, last = 0, ""
    for name, place in sorted(places.items(), key=lambda item: (item[1].offset, item[0])):
        size = math.prod(place.shape) * place.dtype.itemsize
        if size and place.offset < end:
            raise _Malformed(f"tensors {last!r} and {name!r} share bytes")
        if size:
            end, last = place.offset + size, name


def _place(path: Path, start: int, size: int, entry: Mapping[str, Any]) -> _Place:
    first, last = entry["data_offsets"]
    code = entry["dtype"]
    if not isinstance(code, str) or code not in {**_DTYPES, **_OTHER_DTYPES}:
        raise _Malformed(f"the dtype {code!r} of a tensor is not known")
    dtype = np.dtype({**_DTYPES, **_OTHER_DTYPES}[code])
    sizes = (first, last, *entry["shape"])
    if not all(type(n) is int and 0 <= n <= _MOST_NUMBERS for n in sizes):
        raise _Malformed("a tensor's size is no whole number, or beyond all measure")
    if len(entry["shape"]) > _MOST_AXES:
        raise _Malformed(f"a tensor has {len(entry['shape'])} axes")
    if not 0 <= first <= last <= size - start:
        raise _Malformed("a tensor ends beyond the end of the file")
    if last - first != math.prod(entry["shape"]) * dtype.itemsize:
        raise _Malformed("a tensor's place and shape disagree")
    return _Place(path, start + first, dtype, tuple(entry["shape"]))


def write_tensors(
    directory: Path,
    shapes: Mapping[str, tuple[int, ...]],
    blocks: Callable[[str], Iterable[np.ndarray]],
    dtype: str,
    max_file_bytes: int,
) -> None:
    """Writes one safetensors file, or several and their index.

    Args:
      directory: where to; it exists.
      shapes: of each tensor, by name, in the order of the files.
      blocks: makes one tensor, in consecutive blocks of rows; called when its turn comes.
      dtype: one of `WRITTEN_DTYPES`.
      max_file_bytes: from which size on there is more than one file; a tensor that is larger
        has a file of its own.

    Raises:
      ModelError: a link stands where a file is to be written.
    """
    itemsize = np.dtype(_dtype(dtype)).itemsize
    groups: list[list[str]] = [[]]
    filled = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * itemsize
        if groups[-1] and filled + size > max_file_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    if len(groups) == 1:
        write_file(directory / SINGLE, groups[0], shapes, blocks, dtype)
        return
    index: dict[str, str] = {}
    for number, names in enumerate(groups, start=1):
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        write_file(directory / file, names, shapes, blocks, dtype)
        index |= dict.fromkeys(names, file)
    total = sum(math.prod(shape) for shape in shapes.values()) * itemsize
    described = {"metadata": {"total_size": total}, "weight_map": index}
    _refuse_link(directory / INDEX)
    (directory / INDEX).write_text(json.dumps(described, indent=2) + "\n", "utf-8")


def write_file(
    path: Path,
    names: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    blocks: Callable[[str], Iterable[np.ndarray]],
    dtype: str,
) -> None:
    """Writes one safetensors file; the arguments are those of `write_tensors`.

    Raises:
      ModelError: a link stands in its place.
    """
    kept = np.dtype(_dtype(dtype))
    # transformers asks for the framework that wrote the file, "pt" for its own layout.
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + math.prod(shapes[name]) * kept.itemsize
        header[name] = {
            "dtype": _CODES[kept],
            "shape": list(shapes[name]),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    # Data that starts at a multiple of eight is aligned for every dtype.
    text += b" " * (-len(text) % 8)
    _refuse_link(path)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name in names:
            for block in blocks(name):
                array = np.ascontiguousarray(block, dtype=kept)
                # A view as bytes, because Python's buffers know no bfloat16.
                file.write(array.reshape(-1).view(np.uint8).data)


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise ModelError(f"{path} is a link to {path.resolve()}: remove it, nothing is written.")


def _dtype(name: str) -> Any:
    return ml_dtypes.bfloat16 if name == "bfloat16" else name
