"""Reading safetensors files, tensor by tensor and without any pickle."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from models.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


class TensorFiles(Mapping[str, np.ndarray]):
    """The tensors of a Hugging Face directory, memory-mapped: reading one costs only itself.

    The format: eight bytes with the header's length, a JSON header that gives each tensor's
    dtype, shape and place, then the data (huggingface.co/docs/safetensors).
    """

    def __init__(self, directory: str | Path) -> None:
        """Reads the headers.

        Args:
          directory: holds `model.safetensors`, or `model.safetensors.index.json` and the
            files that it names.

        Raises:
          ModelError: there is neither, or a file is not what it should be.
        """
        self._tensors: dict[str, np.ndarray] = {}
        for path in _files(Path(directory)):
            self._tensors |= _mapped(path)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _files(directory: Path) -> list[Path]:
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    if not (directory / INDEX).is_file():
        if list(directory.glob("pytorch_model*.bin")):
            raise ModelError(
                f"{directory} has only pytorch_model.bin, a pickle, which is never loaded: "
                "convert it with transformers' save_pretrained, which writes safetensors."
            )
        raise ModelError(f"{directory} has neither {SINGLE} nor {INDEX}.")
    names = sorted(set(json.loads((directory / INDEX).read_text("utf-8"))["weight_map"].values()))
    for name in names:
        if Path(name).name != name:
            raise ModelError(f"{directory / INDEX} names {name!r}: only plain file names are read.")
        if not (directory / name).is_file():
            raise ModelError(f"{directory / INDEX} names {name!r}, which is not there.")
    return [directory / name for name in names]


def _mapped(path: Path) -> dict[str, np.ndarray]:
    try:
        data = np.memmap(path, np.uint8, "r")
        start = 8 + int(data[:8].view("<u8")[0])
        header = json.loads(bytes(data[8:start]))
        header.pop("__metadata__", None)
        return {name: _tensor(data[start:], entry) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ModelError(f"{path} is not a safetensors file of floating-point tensors.") from error


def _tensor(data: np.ndarray, entry: Mapping[str, object]) -> np.ndarray:
    first, last = entry["data_offsets"]
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    if not 0 <= first <= last <= data.size:
        raise ValueError("a tensor beyond the end of the file")
    if last - first != math.prod(entry["shape"]) * dtype.itemsize:
        raise ValueError("a tensor whose place and shape disagree")
    # The format does not promise alignment; `frombuffer` does not need it.
    return np.frombuffer(data[first:last], dtype).reshape(entry["shape"])
