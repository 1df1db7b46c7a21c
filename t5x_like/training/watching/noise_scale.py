"""The gradient noise scale, from the gradients of a batch's pieces (McCandlish et al. 2018)."""

import jax
import jax.numpy as jnp

NAME = "gradient_noise_scale"
"""Of the metric."""


def noise_and_signal(
    squared_norms: jax.Array, weights: jax.Array, whole_squared_norm: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Unbiased estimates of tr(Σ) and |G|² (McCandlish et al. 2018, appendix A.1).

    A mean gradient over w tokens has the expected squared norm |G|² + tr(Σ) / w. The pieces are the
    small batches, all of them together the big one; each may have a weight of its own.

    The simple noise scale is tr(Σ) / |G|², tokens. Either estimate of one step is noisy, and |G|²
    may be below 0: both are averaged over steps before they are divided. So the pair is a metric,
    whose value and weight are summed up alike.

    Args:
      squared_norms: of each piece's mean gradient, `[pieces]` float32.
      weights: of each piece, the tokens that its loss is a mean over, `[pieces]`.
      whole_squared_norm: of the mean gradient of all pieces.

    Returns:
      tr(Σ), times tokens; |G|². Both 0 where the pieces do not tell: fewer than two have weight.
    """
    there = weights > 0
    safe = jnp.where(there, weights, 1.0)
    count = jnp.maximum(there.sum(), 1)
    inverse = jnp.where(there, 1 / safe, 0.0).sum() / count
    small = jnp.where(there, squared_norms, 0.0).sum() / count
    whole = 1 / jnp.maximum(weights.sum(), 1e-9)
    tells = there.sum() > 1
    noise = (small - whole_squared_norm) / jnp.where(tells, inverse - whole, 1.0)
    signal = whole_squared_norm - noise * whole
    return jnp.where(tells, noise, 0.0), jnp.where(tells, signal, 0.0)
