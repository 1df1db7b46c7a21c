"""Matrix products with a learned matrix, and where their initial values come from."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

Initializer = Callable[..., jax.Array]
"""`(key, shape, dtype) -> array`."""


def normal(stddev: float) -> Initializer:
    """Draws from N(0, stddev²), the form in which T5 and GPT-2 give their initial values."""
    return nn.initializers.normal(stddev)


def axis_names(names: Sequence[str], initializer: Initializer) -> Initializer:
    """The initializer with logical axis names attached to what it makes."""
    return nn.with_logical_partitioning(initializer, tuple(names))


class Linear(nn.Module):
    """`x W (+ c)` on the last axis.

    Attributes:
      features: size of the last axis of the result.
      axes: logical names of the matrix's two axes, input then output.
      kernel_init: initial values of the matrix.
      use_bias: whether a vector, at first zero, is added.
      dtype: of the computation and the result; the parameters are float32.
    """

    features: int
    axes: tuple[str, str]
    kernel_init: Initializer
    use_bias: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., inputs]` to `[..., features]`."""
        kernel = self.param(
            "kernel",
            axis_names(self.axes, self.kernel_init),
            (x.shape[-1], self.features),
            jnp.float32,
        )
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if self.use_bias:
            bias = self.param(
                "bias", axis_names(self.axes[1:], nn.initializers.zeros), (self.features,)
            )
            y += bias.astype(self.dtype)
        return y
