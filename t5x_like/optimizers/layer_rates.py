"""Learning rates that fall from the head down to the embeddings."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5x_like.errors import UserError
from t5x_like.optimizers.axes import Axes
from t5x_like.optimizers.optimizer import Optimizer

_LAYERS = "layers"


def layerwise_decay(
    optimizer: Optimizer, decay: float = 0.8, head_distance: int = 2, embeddings: str = "embed"
) -> Optimizer:
    """Another optimizer, whose rate is multiplied by `decay` for each layer further from the head.

    What lies above the layers keeps its rate. The last layer has `decay ** head_distance` of it,
    the one below a `decay` of that, and the embeddings as much less than the first layer; of
    several stacks each counts its own layers, and the embeddings those of the highest. Layers of a
    group that a stack repeats share their factor. Weight decay is multiplied with the rate.

    Source: ELECTRA's released fine-tuning (Clark et al. 2020), whose distance from head to last
    layer is 2.

    Args:
      optimizer: whose updates are scaled.
      decay: above 0, at most 1.
      head_distance: steps from the head to the last layer.
      embeddings: regular expression that is found in the paths of parameters below the first layer.

    Raises:
      UserError: a decay that is none, a negative distance; when built, no stack of layers.
    """
    if not 0 < decay <= 1:
        raise UserError(f"layerwise_decay.decay is {decay}: above 0 and at most 1 is needed.")
    if head_distance < 0:
        raise UserError(f"layerwise_decay.head_distance is {head_distance}: 0 or more is needed.")

    def build(axes: Any) -> optax.GradientTransformation:
        leaves = jax.tree.leaves(axes, is_leaf=lambda node: isinstance(node, tuple))
        if not any(_LAYERS in leaf for leaf in leaves):
            raise UserError(
                "layerwise_decay needs a stack of layers, and this model has none: choose the "
                f"optimizer {optimizer.name} itself."
            )
        rule = _scale_by_depth(axes, decay, head_distance, re.compile(embeddings))
        return optax.chain(optimizer.build(axes), rule)

    name = f"{optimizer.name} with layer-wise decay of the rate"
    return Optimizer(name, optimizer.schedule, build)


def _scale_by_depth(
    axes: Any, decay: float, head_distance: int, embeddings: re.Pattern[str]
) -> optax.GradientTransformation:
    """Multiplies each layer's updates by its factor."""

    def scale_all(updates: optax.Updates, _: optax.Params | None) -> optax.Updates:
        heights = jax.tree.map(_height, updates, axes)
        highest = max(jax.tree.leaves(heights))

        def scale(path: Any, update: jax.Array, one: Axes, height: int) -> jax.Array:
            if height:
                shape = [height if axis == _LAYERS else 1 for axis in one]
                distance = head_distance + jnp.arange(height)[::-1].reshape(shape)
                return update * jnp.asarray(decay**distance, update.dtype)
            if embeddings.search(jax.tree_util.keystr(path, simple=True, separator="/")):
                return update * decay ** (head_distance + highest)
            return update

        return jax.tree_util.tree_map_with_path(scale, updates, axes, heights)

    return optax.stateless(scale_all)


def _height(update: jax.Array, axes: Axes) -> int:
    """How many layers are stacked in a parameter; 0 outside of a stack."""
    return update.shape[axes.index(_LAYERS)] if _LAYERS in axes else 0
