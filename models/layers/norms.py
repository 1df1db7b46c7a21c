"""RMS norm and layer norm, computed in float32 whatever the compute dtype."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.layers import parts
from models.layers.linear import axis_names


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x²) + epsilon) · scale` (Zhang and Sennrich 2019, eq. 4).

    T5's layer norm: nothing is subtracted and nothing added.

    Attributes:
      epsilon: keeps the root away from zero.
      dtype: of the result.
    """

    part: ClassVar[str] = parts.NORM

    epsilon: float = 1e-6
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., e]` to the same shape."""
        scale = self.param("scale", axis_names(("embed",), nn.initializers.ones), x.shape[-1:])
        x = x.astype(jnp.float32)
        mean_square = jnp.mean(jax.lax.square(x), axis=-1, keepdims=True)
        return (x * jax.lax.rsqrt(mean_square + self.epsilon) * scale).astype(self.dtype)


class LayerNorm(nn.Module):
    """`(x - mean) / sqrt(variance + epsilon) · scale + bias` (Ba et al. 2016, eq. 4).

    Attributes:
      epsilon: keeps the root away from zero.
      use_bias: whether there is a bias; PaLM has none.
      dtype: of the result.
    """

    part: ClassVar[str] = parts.NORM

    epsilon: float = 1e-5
    use_bias: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., e]` to the same shape."""
        scale = self.param("scale", axis_names(("embed",), nn.initializers.ones), x.shape[-1:])
        x = x.astype(jnp.float32)
        x -= jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jax.lax.square(x), axis=-1, keepdims=True)
        x = x * jax.lax.rsqrt(variance + self.epsilon) * scale
        if self.use_bias:
            x += self.param("bias", axis_names(("embed",), nn.initializers.zeros), x.shape[-1:])
        return x.astype(self.dtype)
