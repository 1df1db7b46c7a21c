"""Dropout that costs half a random word an element, or less."""

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Sets elements to zero with probability `rate` and scales up the others.

    A plain function of (x, key) and not a Linen module: attention calls it inside its own
    kernels. The rate is rounded to a multiple of 1/65536; the scale uses the rounded rate,
    so the expectation is exact.

    Attributes:
      rate: share that is dropped, in [0, 1).
      shared_axes: axes along which one draw is shared, negative numbers. T5 shares along
        the length (Mesh TensorFlow's `noise_shape`), and so draws almost nothing.
    """

    rate: float = 0.0
    shared_axes: tuple[int, ...] = ()

    @property
    def threshold(self) -> int:
        """Of 65536 elements, how many are dropped."""
        return round(self.rate * 65536)

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """`x` with elements dropped; without a key, `x` as it is."""
        if key is None or not self.rate:
            return x
        threshold = self.threshold
        shape = [
            1 if axis - x.ndim in self.shared_axes else size for axis, size in enumerate(x.shape)
        ]
        # One hash makes 32 random bits, enough for two elements.
        words = jax.random.bits(key, (-(-math.prod(shape) // 2),), jnp.uint32)
        halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)
        keep = halves[: math.prod(shape)].reshape(shape) >= threshold
        scale = 65536 / (65536 - threshold)
        return jnp.where(keep, x * jnp.asarray(scale, x.dtype), jnp.zeros((), x.dtype))


NO_DROPOUT = Dropout()
