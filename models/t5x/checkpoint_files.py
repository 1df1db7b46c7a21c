"""T5X's checkpoints, `checkpoint_N`: an index in msgpack beside one zarr array for each parameter.

The index, a file named `checkpoint`, is a tree {"version", "optimizer": {"target", "state"}} whose
leaves are small arrays themselves, or TensorStore's description of an array beside it (`save` and
`load_t5x_checkpoint` in T5X's t5x/checkpoints.py). TensorFlow is not needed for either.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import tensorstore
from flax import serialization

from models.errors import ModelError

INDEX = "checkpoint"
# Since version 3 bfloat16 is kept as such; before, in the bits of uint16.
_WEIGHTS = tuple(map(np.dtype, (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)))
_CHUNK = re.compile(r"\d+(\.\d+)*")
_NAME = re.compile(r"[\w.\-]+/?")


def find_checkpoint(path: str | Path, step: int | None = None) -> Path:
    """The directory of one checkpoint, which holds its index.

    Args:
      path: `checkpoint_N`, or the run's directory, which holds several.
      step: which of several; None is the newest.

    Raises:
      ModelError: there is none, or not that one, or it is Orbax's.
    """
    directory = Path(path)
    if (directory / INDEX).is_file():
        if step is not None:
            raise ModelError(f"{directory} is one checkpoint: leave the step out.")
        return directory
    if not directory.is_dir():
        raise ModelError(f"there is no directory {directory}: give a checkpoint_N of T5X.")
    steps = {
        int(found[1]): place
        for place in directory.iterdir()
        if (found := re.fullmatch(r"checkpoint_(\d+)", place.name)) and (place / INDEX).is_file()
    }
    if step is not None and step not in steps:
        there = ", ".join(map(str, sorted(steps))) or "none"
        raise ModelError(f"{directory} has no checkpoint of step {step}; there: {there}.")
    if steps:
        return steps[max(steps) if step is None else step]
    if any(directory.rglob("_CHECKPOINT_METADATA")) or any(directory.rglob("_METADATA")):
        raise ModelError(
            f"{directory} was written by Orbax: only T5X's own checkpoint_N, with a file "
            f"'{INDEX}' beside its arrays, is read."
        )
    raise ModelError(
        f"{directory} is no checkpoint of T5X: it has neither a file '{INDEX}' nor checkpoint_N."
    )


class StoredArrays(Mapping[str, np.ndarray]):
    """The parameters of one checkpoint, each read when it is asked for.

    The layers of a scanned stack can be asked for one by one; the array that holds them is then
    read once as long as its layers are asked for in a row.

    Attributes:
      step: updates made.
      has_optimizer: whether there is more than parameters, which is not read.
    """

    def __init__(self, directory: Path) -> None:
        """Reads the index.

        Args:
          directory: of one checkpoint.

        Raises:
          ModelError: it cannot be read, or is of no version that is known.
        """
        self._directory = directory
        tree = _index(directory / INDEX)
        state = tree.get("state") or {}
        self.has_optimizer = bool(state.get("param_states"))
        try:
            self.step = int(np.asarray(state.get("step", 0)))
        except (TypeError, ValueError) as error:
            raise ModelError(f"{directory / INDEX}: its step is no number: {error}.") from error
        self._leaves = dict(_leaves(tree["target"], ""))
        self._layers: dict[str, tuple[str, int, int]] = {}
        self._joined: dict[str, tuple[int, ...]] = {}
        self._opened: dict[str, Any] = {}
        self._last: tuple[str, np.ndarray] | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self._layers:
            whole, axis, layer = self._layers[name]
            found = np.take(self._whole(whole), layer, axis=axis)
        else:
            found = self._whole(name)
        return found.reshape(self._joined.get(name, found.shape))

    def __iter__(self) -> Iterator[str]:
        stacked = {whole for whole, _, _ in self._layers.values()}
        yield from (name for name in self._leaves if name not in stacked)
        yield from self._layers

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, which is not read."""
        if name in self._joined:
            return self._joined[name]
        if name in self._layers:
            whole, axis, _ = self._layers[name]
            shape = self.shape(whole)
            return (*shape[:axis], *shape[axis + 1 :])
        leaf = self._leaves[name]
        return tuple(leaf.shape if isinstance(leaf, np.ndarray) else self._open(name).shape)

    def is_weight(self, name: str) -> bool:
        """Whether an array holds floating-point numbers."""
        name = self._layers[name][0] if name in self._layers else name
        leaf = self._leaves[name]
        dtype = leaf.dtype if isinstance(leaf, np.ndarray) else self._open(name).dtype.numpy_dtype
        return dtype in _WEIGHTS

    def unstack(self, name: str, layer_name: str, axis: int) -> None:
        """Lets the layers of a stacked array be known one by one.

        Args:
          name: of the array.
          layer_name: of one layer, with `{i}` for its number.
          axis: of the layers.
        """
        for layer in range(self.shape(name)[axis]):
            self._layers[layer_name.format(i=layer)] = (name, axis, layer)

    def join(self, name: str, shape: tuple[int, ...]) -> None:
        """Lets an array have fewer axes, neighbours of which are joined."""
        self._joined[name] = shape

    def _whole(self, name: str) -> np.ndarray:
        if self._last is not None and self._last[0] == name:
            return self._last[1]
        leaf = self._leaves[name]
        if isinstance(leaf, np.ndarray):
            return leaf
        self._last = None  # or two would be in memory
        try:
            found = np.asarray(self._open(name).read().result())
        except (ValueError, OSError) as error:
            raise self._unreadable(name, error) from error
        self._last = (name, found)
        return found

    def _open(self, name: str) -> Any:
        if name not in self._opened:
            place = self._place(name)
            spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{place}/"}}
            try:
                opened = tensorstore.open(spec, open=True, read=True).result()
            except (ValueError, OSError) as error:
                raise self._unreadable(name, error) from error
            self._check_chunks(name, place, opened)
            self._opened[name] = opened
        return self._opened[name]

    def _place(self, name: str) -> Path:
        """The directory of an array, which is one beside the index and nowhere else."""
        spec = self._leaves[name]
        store = spec.get("kvstore")
        path = store.get("path") if isinstance(store, dict) else None
        path = spec.get("path") if path is None else path  # where TensorStore kept it until 0.1.14
        if spec["driver"] != "zarr" or not isinstance(path, str) or not _NAME.fullmatch(path):
            raise ModelError(
                f"{self._directory / INDEX}: {name!r} is not described as a zarr array beside it."
            )
        place = (self._directory / path).resolve()
        if place.parent != self._directory.resolve():
            raise ModelError(f"{self._directory / INDEX}: {name!r} lies elsewhere, at {place}.")
        if not place.is_dir():
            raise ModelError(
                f"{self._directory}: the array {path.rstrip('/')!r} is missing: copy the "
                "directory again, whole."
            )
        return place

    def _check_chunks(self, name: str, place: Path, opened: Any) -> None:
        """Refuses an array that was not copied whole: what is missing would be read as zeros."""
        chunks = opened.chunk_layout.read_chunk.shape
        wanted = math.prod(
            -(-size // chunk) for size, chunk in zip(opened.shape, chunks, strict=True)
        )
        found = sum(1 for file in place.iterdir() if _CHUNK.fullmatch(file.name))
        if found < wanted:
            raise ModelError(
                f"{self._directory}: {found} of {wanted} pieces of {name!r} are there: copy the "
                "directory again, whole."
            )

    def _unreadable(self, name: str, error: Exception) -> ModelError:
        first = str(error).strip().splitlines()[0]
        return ModelError(f"{self._directory}: array {name!r} cannot be read: {first}")


def _index(path: Path) -> Mapping[str, Any]:
    try:
        content = serialization.msgpack_restore(path.read_bytes())
        version, optimizer = content.get("version", 0), content.get("optimizer")
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}.") from error
    except Exception as error:  # msgpack and flax raise whatever damaged bytes lead to
        raise ModelError(f"{path} is not T5X's index of a checkpoint: {error}.") from error
    if not isinstance(optimizer, dict) or not isinstance(optimizer.get("target"), dict):
        raise ModelError(f"{path} is not T5X's index of a checkpoint: it has no optimizer/target.")
    if version not in (2, 3):
        raise ModelError(f"{path} is of version {version}: 2 and 3 are read.")
    return optimizer


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and not isinstance(value.get("driver"), str):
            yield from _leaves(value, f"{name}/")
        elif isinstance(value, dict | np.ndarray):
            yield name, value
        else:
            raise ModelError(f"T5X's index: {name!r} is {type(value).__name__}, not an array.")
