"""Learning rates that fall from the head down to the embeddings."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from t5x_like.errors import UserError
from t5x_like.optimizers.depths import check_layers, distances
from t5x_like.optimizers.optimizer import Optimizer, check_no_average


def layerwise_decay(
    optimizer: Optimizer, decay: float = 0.8, head_distance: int = 2, embeddings: str = "embed"
) -> Optimizer:
    """Another optimizer, whose rate is multiplied by `decay` for each layer further from the head.

    What lies above the layers keeps its rate. The last layer has `decay ** head_distance` of it,
    the one below a `decay` of that, and the embeddings as much less than the first layer; of
    several stacks each counts its own layers, and the embeddings those of the highest. Layers of a
    group that a stack repeats share their factor. Weight decay is multiplied with the rate.

    Sources: ELECTRA's released fine-tuning (Clark et al. 2020), whose distance from head to last
    layer is 2; and ULMFiT's discriminative rates (Howard and Ruder 2018, section 3.2), with a
    `decay` of 1 / 2.6 and a distance of 1.

    Args:
      optimizer: whose updates are scaled.
      decay: above 0, at most 1.
      head_distance: steps from the head to the last layer.
      embeddings: regular expression that is found in the paths of parameters below the first layer.

    Raises:
      UserError: a decay that is none, a negative distance; when built, no stack of layers.
    """
    check_no_average(optimizer, "layerwise_decay")
    if not 0 < decay <= 1:
        raise UserError(f"layerwise_decay.decay is {decay}: above 0 and at most 1 is needed.")
    if head_distance < 0:
        raise UserError(f"layerwise_decay.head_distance is {head_distance}: 0 or more is needed.")

    def build(axes: Any) -> optax.GradientTransformation:
        check_layers(axes, "layerwise_decay", optimizer.name)
        rule = _scale_by_depth(axes, decay, head_distance, re.compile(embeddings))
        return optax.chain(optimizer.build(axes), rule)

    name = f"{optimizer.name} with layer-wise decay of the rate"
    return Optimizer(name, optimizer.schedule, build)


def _scale_by_depth(
    axes: Any, decay: float, head_distance: int, embeddings: re.Pattern[str]
) -> optax.GradientTransformation:
    """Multiplies each layer's updates by its factor."""

    def scale(update: jax.Array, distance: np.ndarray) -> jax.Array:
        exponent = np.where(distance > 0, distance + head_distance - 1, 0)
        return update * jnp.asarray(decay**exponent, update.dtype)

    def scale_all(updates: optax.Updates, _: optax.Params | None) -> optax.Updates:
        return jax.tree.map(scale, updates, distances(updates, axes, embeddings))

    return optax.stateless(scale_all)
