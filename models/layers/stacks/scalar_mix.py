"""One vector of those that each layer has for a token."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.layers.linear import axis_names


def scalar_mix(layers_ble: jax.Array, scores_l: jax.Array, scale: jax.Array | float) -> jax.Array:
    """`scale Σ softmax(scores)_j h_j`, h_j what layer j has (Peters et al. 2018, equation 1).

    Args:
      layers_ble: `[..., l, e]`.
      scores_l: float `[l]`.
      scale: γ of the paper.

    Returns:
      `[..., e]`, in the dtype of the layers.
    """
    weights_l = scale * jax.nn.softmax(scores_l)
    return jnp.einsum("...le,l->...e", layers_ble, weights_l.astype(layers_ble.dtype))


class ScalarMix(nn.Module):
    """`scalar_mix` whose scores and scale are learned, as a task does (section 3.3).

    Attributes:
      first_scores: one for each layer, to begin with.
      first_scale: γ to begin with.
    """

    first_scores: Sequence[float]
    first_scale: float = 1.0

    @nn.compact
    def __call__(self, layers_ble: jax.Array) -> jax.Array:
        """`[..., l, e]` to `[..., e]`."""
        begin = jnp.asarray(self.first_scores, jnp.float32)
        scores_l = self.param("scores", axis_names((None,), lambda key, shape: begin), begin.shape)
        one = axis_names((), nn.initializers.constant(self.first_scale))
        return scalar_mix(layers_ble, scores_l, self.param("scale", one, ()))
