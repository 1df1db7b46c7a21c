"""Linear layers and their initial values."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from models.layers import mesh_context, quantization

Initializer = Callable[..., Any]
"""`(key, shape, dtype) -> array`, which may come in a box with its logical axes."""


def normal(stddev: float) -> Initializer:
    """Draws from N(0, stddev²), the form in which T5 and GPT-2 give their initial values."""
    return nn.initializers.normal(stddev)


def uniform(bound: float) -> Initializer:
    """Draws evenly from between `-bound` and `bound`."""

    def draw(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)

    return draw


def axis_names(names: Sequence[str | None], initializer: Initializer) -> Initializer:
    """The initializer with logical axis names attached to what it makes."""
    return nn.with_logical_partitioning(initializer, tuple(names))


# What a layer stores for its backward pass under the remat policy "dots": every `Linear`'s
# result carries this name.
STORED_PRODUCT = "product"


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def dense(x: jax.Array, kernel: jax.Array, result_dtype: str | None = None) -> jax.Array:
    """`x W` on the last axis, with its gradients in the order in which they are fastest.

    The same products as autodiff's. Autodiff forms the transpose of W's gradient and
    transposes it back, for which XLA on CPUs copies both factors when layers are scanned:
    the step of a Transformer takes a quarter longer.

    On TPUs too, where programs compiled with autodiff's form are no better: T5 1.1 large on v5p
    moves 428 GB through HBM in a step, 413 with this form; small on four chips, 60.7 with either,
    and a step of the same 22 to 31 ms. It was not measured on GPUs. One form for all platforms
    leaves nothing to choose when a program is compiled for devices that are not here.

    Args:
      x: `[..., inputs]`.
      kernel: `[inputs, outputs]`, in the dtype of `x`.
      result_dtype: of the result, in which the products are summed; None is that of `x`.
        Gradients are formed in the dtype of `x` in any case.

    Returns:
      `[..., outputs]`.
    """
    return jnp.matmul(x, kernel, preferred_element_type=result_dtype)


def _dense_forward(x, kernel, result_dtype):
    return dense(x, kernel, result_dtype), (x, kernel)


def _dense_backward(result_dtype, residuals, dy):
    x, kernel = residuals
    dy = dy.astype(x.dtype)
    rows = tuple(range(x.ndim - 1))
    dx = jax.lax.dot_general(dy, kernel, (((x.ndim - 1,), (1,)), ((), ())))
    if x.shape[-1] <= dy.shape[-1]:
        return dx, jax.lax.dot_general(x, dy, ((rows, rows), ((), ())))
    # The factor with more columns goes right; XLA would turn it round again without the barrier.
    transposed = jax.lax.dot_general(dy, x, ((rows, rows), ((), ())))
    return dx, jax.lax.optimization_barrier(transposed).T


dense.defvjp(_dense_forward, _dense_backward)


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
    axes: tuple[str | None, str | None]
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
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        how = quantization.in_use()
        y = dense(x, kernel) if how is None else how.product(x, kernel, self._shards())
        if self.use_bias:
            bias = self.param(
                "bias", axis_names(self.axes[1:], nn.initializers.zeros), (self.features,)
            )
            y += bias.astype(self.dtype)
        return checkpoint_name(y, STORED_PRODUCT)

    def _shards(self) -> tuple[int, int]:
        """Into how many parts the units before and after are divided in activations."""
        before, after = (
            mesh_context.shard_counts(("batch", "length", axis))[2] for axis in self.axes
        )
        return before, after
