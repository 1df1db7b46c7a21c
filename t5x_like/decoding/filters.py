"""What is done to the next token's logits before one is drawn.

A filter is a pure function of the logits, float32 `[b, v]` to float32 `[b, v]`; a token
that it rules out gets minus infinity. Filters are frozen dataclasses, so that a strategy
made of them is hashable and names a compiled program.
"""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from t5x_like.errors import UserError

Array = Any


class LogitsFilter(Protocol):
    """Reweighs or rules out tokens."""

    def __call__(self, logits_bv: Array) -> Array:
        """New logits, float32 `[b, v]`."""


@dataclasses.dataclass(frozen=True)
class Temperature:
    """Divides the logits: below 1 sharpens the distribution, above 1 flattens it."""

    temperature: float

    def __post_init__(self):
        if not self.temperature > 0:
            raise UserError(
                f"Temperature.temperature is {self.temperature}; it must be above 0 "
                "(greedy decoding is the strategy Greedy())"
            )

    def __call__(self, logits_bv: Array) -> Array:
        """The logits over the temperature."""
        return logits_bv / self.temperature


@dataclasses.dataclass(frozen=True)
class TopK:
    """Keeps the `k` likeliest tokens (Fan et al. 2018); equals of the last one stay too."""

    k: int

    def __post_init__(self):
        if self.k < 1:
            raise UserError(f"TopK.k is {self.k}; it must be at least 1")

    def __call__(self, logits_bv: Array) -> Array:
        """The logits, all but the `k` highest ruled out."""
        k = min(self.k, logits_bv.shape[-1])
        threshold_b1 = jax.lax.top_k(logits_bv, k)[0][:, -1:]
        return jnp.where(logits_bv >= threshold_b1, logits_bv, -jnp.inf)


@dataclasses.dataclass(frozen=True)
class TopP:
    """Keeps the nucleus: the smallest set of likeliest tokens whose probability reaches `p`.

    Holtzman et al. 2020, equation 2. The likeliest token always stays.
    """

    p: float

    def __post_init__(self):
        if not 0 < self.p <= 1:
            raise UserError(f"TopP.p is {self.p}; it must be above 0 and at most 1")

    def __call__(self, logits_bv: Array) -> Array:
        """The logits, all outside the nucleus ruled out."""
        order_bv = jnp.argsort(logits_bv, axis=-1, descending=True)
        sorted_bv = jnp.take_along_axis(logits_bv, order_bv, axis=-1)
        probability_bv = jax.nn.softmax(sorted_bv, axis=-1)
        before_bv = jnp.cumsum(probability_bv, axis=-1) - probability_bv
        # The first is kept by index: rounding must not leave a row with nothing to draw.
        rank_v = jnp.arange(logits_bv.shape[-1])
        kept_bv = jnp.where((before_bv < self.p) | (rank_v == 0), sorted_bv, -jnp.inf)
        return jnp.take_along_axis(kept_bv, jnp.argsort(order_bv, axis=-1), axis=-1)
