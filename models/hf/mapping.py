"""Maps a checkpoint's tensors to a model's parameters and back, by one table."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from flax import linen as nn

from models.errors import ModelError
from models.model import Model

Shape = tuple[int, ...]

# Numbers that are converted at once, so that writing takes little memory beside the parameters.
BLOCK = 4_000_000
# Bytes; of XLA's arrays on CPUs.
_ALIGNMENT = 64


@dataclasses.dataclass(frozen=True)
class Weight:
    """One of our parameters and where the other project keeps it.

    Attributes:
      ours: path in our tree, joined by "/".
      theirs: name of the tensor; `{i}` stands for the layer, and says that the first axis of
        ours is layers; `{j}` for the expert, and the next axis is experts.
      transposed: whether theirs is `[outputs, inputs]` and ours `[inputs, outputs]`.
      part: (k, n) if ours is the k-th of n equal parts of the outputs of theirs, which are its
        last axis, or its first one if transposed.
      groups: equal groups that the outputs of theirs are first divided into, each of which has
        the n parts: the heads, where theirs keeps each head's query, key and value together.
      first: the layer that our first one is.
      step: layers from one of ours to the next, where ours hold only some of theirs.
      copy: whether theirs only repeats another tensor: it is written, and not read.
      split: sizes of the axes that the last axis of theirs is divided into, if it is: heads, and
        units of one.
    """

    ours: str
    theirs: str
    transposed: bool = False
    part: tuple[int, int] | None = None
    groups: int = 1
    first: int = 0
    step: int = 1
    copy: bool = False
    split: Shape = ()

    @property
    def stacked_axes(self) -> int:
        """How many of our axes count tensors."""
        return ("{i}" in self.theirs) + ("{j}" in self.theirs)

    def places(self, shape: Shape) -> Iterator[tuple[Shape, str]]:
        """Index into ours, of this shape, and the name of the tensor that is there."""
        for index in np.ndindex(*shape[: self.stacked_axes]):
            numbers = dict(zip("ij", index, strict=False))
            if "i" in numbers:
                numbers["i"] = self.first + self.step * numbers["i"]
            yield index, self.theirs.format(**numbers)

    def their_shape(self, shape: Shape) -> Shape:
        """The shape of one tensor of theirs, from ours."""
        shape = shape[self.stacked_axes :]
        if self.part is not None:
            shape = (*shape[:-1], shape[-1] * self.part[1])
        shape = shape[::-1] if self.transposed else shape
        return (*shape[:-1], *self.split) if self.split else shape

    def read(self, tensor: np.ndarray, target: np.ndarray) -> None:
        """Writes theirs, in our form, to what `places` indexes of ours."""
        tensor = self._joined(tensor)
        own = self.own_part(tensor.T if self.transposed else tensor)
        target.reshape(own.shape)[...] = own

    def write(self, source: np.ndarray, rows: slice, target: np.ndarray) -> None:
        """Writes what is ours of some rows of theirs.

        Args:
          source: what `places` indexes of ours, whole.
          rows: which of theirs.
          target: these rows, as many.
        """
        target = self._joined(target)
        if self.transposed:
            # Their rows are our columns, in the same order, with others' between them.
            columns = self.own_part(np.arange(source.shape[-1] * self.num_parts)).reshape(-1)
            own = slice(*np.searchsorted(columns, (rows.start, rows.stop)))
            target[columns[own] - rows.start] = source[:, own].T
        else:
            own_target = self.own_part(target)
            own_target[...] = source[rows].reshape(own_target.shape)

    def _joined(self, tensor: np.ndarray) -> np.ndarray:
        """A view of theirs, with one last axis for those of `split`."""
        return tensor.reshape(*tensor.shape[: -len(self.split)], -1) if self.split else tensor

    @property
    def num_parts(self) -> int:
        """How many of ours are side by side in one of theirs."""
        return 1 if self.part is None else self.part[1]

    def own_part(self, tensor: np.ndarray) -> np.ndarray:
        """A view of our part of the last axis, which becomes two: groups, and units of one."""
        if self.part is None:
            return tensor
        k, n = self.part
        return tensor.reshape(*tensor.shape[:-1], self.groups, n, -1)[..., k, :]


@dataclasses.dataclass(frozen=True)
class Zeros:
    """A tensor of theirs that we have no parameter for, and that is zero where it is at all.

    Attributes:
      theirs: its name.
      shape: its shape.
    """

    theirs: str
    shape: Shape


Table = Sequence[Weight | Zeros]


def linear(ours: str, theirs: str, **place: Any) -> Weight:
    """A torch `Linear` without bias, whose matrix is `[outputs, inputs]`; more as of `Weight`."""
    return Weight(f"{ours}/kernel", f"{theirs}.weight", transposed=True, **place)


def biased_linear(ours: str, theirs: str, **place: Any) -> list[Weight]:
    """A torch `Linear` with bias."""
    return [linear(ours, theirs, **place), Weight(f"{ours}/bias", f"{theirs}.bias", **place)]


def layer_norm(ours: str, theirs: str) -> list[Weight]:
    """A torch `LayerNorm`."""
    return [Weight(f"{ours}/scale", f"{theirs}.weight"), Weight(f"{ours}/bias", f"{theirs}.bias")]


class Tensors(Protocol):
    """Tensors by name, each read when it is asked for; `TensorFiles` are some."""

    def __getitem__(self, name: str) -> np.ndarray:
        """One tensor."""

    def __iter__(self) -> Iterator[str]:
        """All names."""

    def __len__(self) -> int:
        """How many there are."""

    def __contains__(self, name: object) -> bool:
        """Whether there is one of this name."""

    def shape(self, name: str) -> Shape:
        """Its shape, without reading it."""

    def is_weight(self, name: str) -> bool:
        """Whether it holds floating-point numbers."""


def filled(
    model: Model, table: Table, tensors: Tensors, source: str, described: str = "config.json"
) -> dict[str, Any]:
    """The model's parameters out of the tensors, one tensor at a time.

    Args:
      model: whose parameters are wanted.
      table: names every parameter once.
      tensors: theirs.
      source: where the tensors come from, for errors.
      described: what asks for the shapes, for errors.

    Returns:
      The tree, float32.

    Raises:
      ModelError: a tensor is missing, is left over, has the wrong shape or dtype, is not zero
        where it must be, or has numbers that are not finite.
    """
    shapes = parameter_shapes(model)
    table = [entry for entry in table if isinstance(entry, Zeros) or not entry.copy]
    _check_count(table, shapes, tensors, source, described)
    wanted = their_shapes(table, shapes)
    if extra := sorted(set(tensors) - set(wanted)):
        raise ModelError(f"{source}: tensor {extra[0]!r} has no place in this model.")
    zeros = {entry.theirs for entry in table if isinstance(entry, Zeros)}
    for name, shape in wanted.items():
        if name not in tensors and name in zeros:
            continue
        if name not in tensors:
            raise ModelError(f"{source}: tensor {name!r} is missing.")
        if tensors.shape(name) != shape:
            raise ModelError(
                f"{source}: tensor {name!r} has shape {tensors.shape(name)}, where "
                f"{described} asks for {shape}."
            )
        if not tensors.is_weight(name):
            raise ModelError(
                f"{source}: tensor {name!r} has the dtype {tensors[name].dtype}: weights are "
                "floating-point numbers; convert a quantized checkpoint first."
            )
        if name in zeros and np.any(tensors[name]):
            raise ModelError(f"{source}: tensor {name!r} is not zero: only zero is read.")
    params: dict[str, Any] = {}
    # The largest tensor first: while it is mapped, little else is in memory.
    weights = [entry for entry in table if isinstance(entry, Weight)]
    weights.sort(key=lambda weight: -math.prod(weight.their_shape(shapes[weight.ours])))
    for weight in weights:
        target = _aligned_empty(shapes[weight.ours])
        for index, name in weight.places(target.shape):
            weight.read(tensors[name], target[index])
            # The sum is not finite where a number is not, and needs no memory beside it.
            if not np.isfinite(np.sum(target[index], dtype=np.float64)):
                raise ModelError(f"{source}: tensor {name!r} has numbers that are not finite.")
        _put(params, weight.ours.split("/"), target)
    return params


def _aligned_empty(shape: Shape) -> np.ndarray:
    """Float32 that begins where XLA's own arrays do: on CPUs it is then used without a copy."""
    size = 4 * math.prod(shape)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    return memory[first : first + size].view(np.float32).reshape(shape)


class Written:
    """A model's parameters as tensors of theirs, made block by block when they are asked for."""

    def __init__(self, model: Model, table: Table, params: Any) -> None:
        """Compares the parameters with the model.

        Args:
          model: whose parameters these are.
          table: names every parameter once.
          params: the tree; NumPy or JAX arrays.

        Raises:
          ModelError: a parameter is missing, is left over, or has the wrong shape.
        """
        wanted = parameter_shapes(model)
        self._arrays = _named_leaves(params)
        kind = type(model).__name__
        for name, shape in wanted.items():
            if name not in self._arrays:
                raise ModelError(f"the parameters lack {name!r}, which {kind} has.")
            if self._arrays[name].shape != shape:
                raise ModelError(
                    f"parameter {name!r} has shape {self._arrays[name].shape}, where {kind} has "
                    f"{shape}."
                )
        if extra := sorted(set(self._arrays) - set(wanted)):
            raise ModelError(f"parameter {extra[0]!r} is none of {kind}'s.")
        self.shapes = dict(sorted(their_shapes(table, wanted).items()))
        self._sources: dict[str, list[tuple[Weight, Shape]]] = {}
        for entry in table:
            if isinstance(entry, Weight):
                for index, name in entry.places(wanted[entry.ours]):
                    self._sources.setdefault(name, []).append((entry, index))

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """One tensor, float32 and laid out as theirs, in blocks of rows of `BLOCK` numbers."""
        shape = self.shapes[name]
        rows = shape[0] if len(shape) < 2 else max(1, BLOCK // math.prod(shape[1:]))
        for first in range(0, shape[0], rows):
            own = slice(first, min(first + rows, shape[0]))
            block = np.zeros((own.stop - first, *shape[1:]), np.float32)
            for weight, index in self._sources.get(name, ()):
                source = np.asarray(self._arrays[weight.ours])[index]
                weight.write(source, own, block)
            yield block


def their_shapes(table: Table, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shape of every tensor that a table names, from those of our parameters."""
    wanted: dict[str, Shape] = {}
    for entry in table:
        if isinstance(entry, Zeros):
            wanted[entry.theirs] = entry.shape
            continue
        shape = shapes[entry.ours]
        for _, name in entry.places(shape):
            wanted[name] = entry.their_shape(shape)
    return wanted


def _check_count(
    table: Table, shapes: Mapping[str, Shape], tensors: Tensors, source: str, described: str
) -> None:
    """Refuses more layers than there are tensors, before each of them is named."""
    for entry in table:
        if isinstance(entry, Weight) and entry.stacked_axes:
            count = math.prod(shapes[entry.ours][: entry.stacked_axes])
            if count > len(tensors):
                raise ModelError(
                    f"{source}: {described} asks for {count} tensors {entry.theirs!r}, and there "
                    f"are {len(tensors)} tensors in all."
                )


def parameter_shapes(model: Model) -> dict[str, Shape]:
    """The shape of each parameter by its path."""
    params = nn.unbox(model.abstract_params())
    return {name: leaf.shape for name, leaf in _named_leaves(params).items()}


def _named_leaves(params: Any) -> dict[str, Any]:
    return {
        "/".join(str(getattr(key, "key", key)) for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def _put(tree: dict[str, Any], path: Sequence[str], value: np.ndarray) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
