"""How far each parameter is from the head: above the layers, in one of them, or below the first."""

import re
from typing import Any

import jax
import numpy as np

from t5x_like.errors import UserError
from t5x_like.optimizers.axes import Axes

_LAYERS = "layers"
# A layer that is not stacked with its like, as those of recurrent models: layers_0, layers_1, …
_OWN_LAYER = re.compile(r"(.*(?:^|/)layers_)(\d+)(?=/|$)")


def check_layers(axes: Any, name: str, optimizer: str) -> None:
    """Checks that a model has layers.

    Args:
      axes: of the parameters.
      name: of who asks, for errors.
      optimizer: whose updates it changes.

    Raises:
      UserError: it has none.
    """
    leaves = jax.tree_util.tree_leaves_with_path(axes, is_leaf=lambda node: isinstance(node, tuple))
    if not any(_LAYERS in leaf or _OWN_LAYER.match(_name(path)) for path, leaf in leaves):
        raise UserError(
            f"{name} needs a stack of layers, and this model has none: choose the optimizer "
            f"{optimizer} itself."
        )


def distances(tree: Any, axes: Any, below: re.Pattern[str]) -> Any:
    """How many layers each parameter is from the head.

    0 above the layers, 1 in the last layer, 2 in the one before it, and so on; parameters below the
    first layer are one further than the highest stack has layers. Each stack counts its own.

    Args:
      tree: of arrays.
      axes: of the parameters, the same tree of tuples.
      below: found in the paths of parameters below the first layer.

    Returns:
      int arrays that broadcast to the parameters, of rank 0 where no layers are stacked.
    """
    paths = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    counts: dict[str, int] = {}
    for path in paths:
        if own := _OWN_LAYER.match(path):
            stack, number = own[1], int(own[2])
            counts[stack] = max(counts.get(stack, 0), number + 1)
    leaves = jax.tree.leaves(tree)
    names: list[Axes] = jax.tree.leaves(axes, is_leaf=lambda node: isinstance(node, tuple))
    heights = [
        leaf.shape[one.index(_LAYERS)]
        for leaf, one in zip(leaves, names, strict=True)
        if _LAYERS in one
    ]
    highest = max([*heights, *counts.values()], default=0)

    def of(path: Any, leaf: jax.Array, one: Axes) -> np.ndarray:
        name = _name(path)
        if _LAYERS in one:
            shape = [leaf.shape[i] if axis == _LAYERS else 1 for i, axis in enumerate(one)]
            return np.arange(max(shape), 0, -1).reshape(shape)
        if own := _OWN_LAYER.match(name):
            return np.array(counts[own[1]] - int(own[2]))
        return np.array(highest + 1 if below.search(name) else 0)

    return jax.tree_util.tree_map_with_path(of, tree, axes)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
