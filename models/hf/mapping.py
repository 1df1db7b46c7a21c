"""From one checkpoint's tensors to one model's parameters, as a table of correspondences."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from models.errors import ModelError
from models.language_model import LanguageModel


@dataclasses.dataclass(frozen=True)
class Weight:
    """One of our parameters and where Hugging Face keeps it.

    Attributes:
      ours: path in our tree, joined by "/".
      theirs: name of the tensor; `{i}` stands for the layer, and says that ours is stacked.
      transposed: whether theirs is `[outputs, inputs]` and ours `[inputs, outputs]`.
      part: (k, n) if ours is the k-th of n equal parts of the last axis of theirs.
    """

    ours: str
    theirs: str
    transposed: bool = False
    part: tuple[int, int] | None = None

    def names(self, num_layers: int) -> Iterator[str]:
        """The tensors that ours is made of."""
        if "{i}" not in self.theirs:
            return iter([self.theirs])
        return (self.theirs.format(i=i) for i in range(num_layers))

    def their_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the tensor that one layer of ours comes from."""
        if self.transposed:
            shape = shape[::-1]
        return shape if self.part is None else (*shape[:-1], shape[-1] * self.part[1])

    def converted(self, tensor: np.ndarray) -> np.ndarray:
        """Theirs in our form."""
        if self.part is not None:
            k, n = self.part
            tensor = np.split(tensor, n, axis=-1)[k]
        return tensor.T if self.transposed else tensor


def linear(ours: str, theirs: str) -> Weight:
    """A torch `Linear` without bias, whose matrix is `[outputs, inputs]`."""
    return Weight(f"{ours}/kernel", f"{theirs}.weight", transposed=True)


def filled(
    model: LanguageModel,
    weights: Sequence[Weight],
    tensors: Mapping[str, np.ndarray],
    ignored: str,
    source: str,
) -> dict[str, Any]:
    """The model's parameters out of the tensors, one tensor at a time.

    Args:
      model: whose parameters are wanted.
      weights: the table; must name every parameter once.
      tensors: theirs by name.
      ignored: regular expression of tensors that say nothing new: copies, constants.
      source: where the tensors come from, for errors.

    Returns:
      The tree, float32.

    Raises:
      ModelError: a tensor is missing, is left over, or has the wrong shape.
    """
    shapes = _shapes(model)
    expected = {name for weight in weights for name in weight.names(shapes[weight.ours][0])}
    extra = sorted(name for name in set(tensors) - expected if not re.fullmatch(ignored, name))
    if extra:
        raise ModelError(f"{source}: tensor {extra[0]!r} has no place in this model.")
    params: dict[str, Any] = {}
    for weight in weights:
        target = np.empty(shapes[weight.ours], np.float32)
        stacked = "{i}" in weight.theirs
        for i, name in enumerate(weight.names(len(target))):
            if name not in tensors:
                raise ModelError(f"{source}: tensor {name!r} is missing.")
            row = target[i] if stacked else target
            wanted = weight.their_shape(row.shape)
            if tensors[name].shape != wanted:
                raise ModelError(
                    f"{source}: tensor {name!r} has shape {tensors[name].shape}, where "
                    f"config.json asks for {wanted}."
                )
            row[...] = weight.converted(tensors[name])
        _put(params, weight.ours.split("/"), target)
    return params


def _shapes(model: LanguageModel) -> dict[str, tuple[int, ...]]:
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    return {
        "/".join(key.key for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def _put(tree: dict[str, Any], path: Sequence[str], value: np.ndarray) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
