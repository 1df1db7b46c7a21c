"""Products in numbers of 8 bits, for which some accelerators have twice the FLOPs of bfloat16.

Each row of either factor has a scale of its own, the largest of its absolute values, which is
found in every step anew. The numbers are rounded to the nearest, and summed in int32 or float32.
Parameters, optimizer state and what is between the products stay what they are.
"""

import contextlib
import contextvars
import dataclasses
import functools
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from models.errors import ModelError

# Of values and weights, and of gradients, which have a wider range (Micikevicius et al. 2022).
NUMBERS: Mapping[str, tuple[Any, Any]] = {
    "int8": (jnp.int8, jnp.int8),
    "fp8": (jnp.float8_e4m3fn, jnp.float8_e5m2),
}


@dataclasses.dataclass(frozen=True)
class Quantization:
    """Which of a model's products are of 8 bits: those with the matrices of `Linear`s and experts.

    Scores and values of attention, embeddings, logits, routers, recurrent cells and what a tuning
    adds are not, nor are experts without a capacity, which is also how a single position has them.

    Attributes:
      numbers: "int8", or "fp8": E4M3 for values and weights, E5M2 for gradients.
      input_gradients: whether the gradient of the input is such a product, too.
      weight_gradients: whether that of the matrix is. Its rows are as long as the batch has
        tokens, on all devices together, so that one large value costs the others more precision.
    """

    numbers: str = "int8"
    input_gradients: bool = True
    weight_gradients: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
          ModelError: numbers of another kind, or qwix is not installed.
        """
        if self.numbers not in NUMBERS:
            raise ModelError(
                f"Quantization.numbers is {self.numbers!r}: it must be one of {', '.join(NUMBERS)}."
            )
        if importlib.util.find_spec("qwix") is None:
            raise ModelError("Quantization needs qwix: pip install 't5x-like[quantization]'.")

    def product(
        self, x: jax.Array, kernel: jax.Array, shards: tuple[int, int] = (1, 1)
    ) -> jax.Array:
        """`x W` on the last axis, for each matrix of a batch of them.

        Args:
          x: `[..., inputs]`, or `[n, ..., inputs]` for n matrices.
          kernel: `[inputs, outputs]`, or `[n, inputs, outputs]`.
          shards: into how many parts inputs and outputs are divided over devices. Where a sum is
            over such an axis, each part has a scale of its own: no device asks others for theirs,
            and what they sum has the dtype of `x`.

        Returns:
          `[..., outputs]`, in the dtype of `x`.
        """
        return _product(x, kernel, self, shards)


@dataclasses.dataclass
class Use:
    """What is asked for of a model that is being applied, and whether any product was met."""

    quantization: Quantization | None
    met: bool = False


_use: contextvars.ContextVar[Use | None] = contextvars.ContextVar("quantization", default=None)


def in_use() -> Quantization | None:
    """That of the model that is being applied, for one of its products."""
    use = _use.get()
    if use is None:
        return None
    use.met = True
    return use.quantization


@contextlib.contextmanager
def using(quantization: Quantization | None) -> Iterator[Use]:
    """While it lasts, products are of this kind; None is as dtypes say."""
    use = Use(quantization)
    token = _use.set(use)
    try:
        yield use
    finally:
        _use.reset(token)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _product(x, kernel, quantization, shards):
    values, _ = NUMBERS[quantization.numbers]
    n = kernel.ndim - 2
    return _dot((x, values, (x.ndim - 1,)), (kernel, values, (n,)), n, shards[0])


def _forward(x, kernel, quantization, shards):
    return _product(x, kernel, quantization, shards), (x, kernel)


def _backward(quantization, shards, residuals, dy):
    x, kernel = residuals
    dy = dy.astype(x.dtype)
    values, gradients = NUMBERS[quantization.numbers]
    n, last = kernel.ndim - 2, x.ndim - 1
    rows = tuple(range(n, last))

    def numbers(quantized: bool) -> tuple[Any, Any]:
        return (gradients, values) if quantized else (None, None)

    of_dy, of_kernel = numbers(quantization.input_gradients)
    dx = _dot((dy, of_dy, (last,)), (kernel, of_kernel, (n + 1,)), n, shards[1])
    of_dy, of_x = numbers(quantization.weight_gradients)
    return dx, _dot((x, of_x, rows), (dy, of_dy, rows), n)


_product.defvjp(_forward, _backward)

Factor = tuple[jax.Array, Any, Sequence[int]]


def _dot(left: Factor, right: Factor, num_batch_axes: int, parts: int = 1) -> jax.Array:
    """The product of two factors: each an array, its numbers or None, and the axes summed over.

    With `parts` that sum is of so many, each of which has its own scales.
    """
    import qwix  # an extra, which a model without quantization does without

    def quantized(factor: Factor) -> Any:
        array, numbers, axes = factor
        if numbers is None:
            return array
        apart = tuple(axis for axis in range(array.ndim) if axis not in axes)
        tiles = {axes[-1]: array.shape[axes[-1]] // parts} if parts > 1 else None
        # In float32: the ratio of two bfloat16 would be rounded twice. What is multiplied by the
        # scales has their dtype.
        return qwix.quantize(
            array.astype(jnp.float32),
            numbers,
            channelwise_axes=apart,
            tiled_axes=tiles,
            scale_dtype=left[0].dtype if parts > 1 else None,
        )

    if left[0].shape[left[2][-1]] % parts:
        parts = 1  # nor is such an axis divided evenly over devices
    batch = tuple(range(num_batch_axes))
    dimensions = ((tuple(left[2]), tuple(right[2])), (batch, batch))
    y = qwix.dot_general(quantized(left), quantized(right), dimensions)
    return y.astype(left[0].dtype)
