"""One vector of those that each layer has for a token."""

import jax
import jax.numpy as jnp


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
