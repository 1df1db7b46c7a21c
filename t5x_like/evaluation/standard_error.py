"""How sure a mean over rows is, told from sums of batches."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


def moments_of(loss_b: jax.Array, weight_b: jax.Array) -> dict[str, jax.Array]:
    """What a batch tells of the spread of its rows, float32 scalars.

    Args:
      loss_b: each row's sum, float32 `[b]`.
      weight_b: what it is divided by.
    """
    mean = loss_b.sum() / jnp.maximum(weight_b.sum(), 1e-9)
    rest_b = loss_b - mean * weight_b
    return {
        "rows": (weight_b > 0).sum(),
        "mean": mean,
        "rest_rest": (rest_b * rest_b).sum(),
        "rest_weight": (rest_b * weight_b).sum(),
        "weight_weight": (weight_b * weight_b).sum(),
    }


@dataclasses.dataclass
class StandardError:
    """The standard error of a weighted mean over rows, from batches of them.

    Of the ratio of two sums over n rows drawn independently, `m = sum s / sum w`, by linearization
    (Cochran 1977, Sampling Techniques, equation 6.13, of an unlimited population):
    `sqrt(n / (n - 1) sum (s - m w)^2) / sum w`. A batch gives its sums about its own mean, which
    float32 holds, and here they are moved to the mean of all.
    """

    moments: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, moments: Mapping[str, Any]) -> None:
        """One batch's, from `batch_metrics`."""
        self.moments.append({name: float(value) for name, value in moments.items()})

    def of(self, mean: float, weight: float) -> float | None:
        """In units of the mean; None of fewer than two rows, or where rows were not told apart."""
        rows = sum(one.get("rows", 0) for one in self.moments)
        if rows < 2:
            return None
        squares = 0.0
        for one in self.moments:
            moved = one["mean"] - mean
            squares += one["rest_rest"] + moved * (
                2 * one["rest_weight"] + moved * one["weight_weight"]
            )
        return math.sqrt(max(squares, 0.0) * rows / (rows - 1)) / weight
