"""The loss of any model: its terms, each over its own weight in the global batch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from t5x_like import protocols
from t5x_like.protocols import Batch, Carry, Metrics, Model, Params, Sums

# What the log and the guard against anomalies call the total.
TOTAL = "loss"


def summed_loss(
    model: Model,
    params: Params,
    batch: Batch,
    rng: jax.Array | None = None,
    *,
    carry: Carry = None,
    frozen: Mapping[str, Params] | None = None,
) -> tuple[Sums, Metrics, Carry]:
    """Each term summed over the batch, summed metrics, and what the next batch begins with.

    Args:
      model: any model.
      params: its parameters.
      batch: in its batch format.
      rng: of dropout; None for none.
      carry: from the batch before, where the model carries something; else None.
      frozen: parameters of the models that its loss reads, where it reads any.
    """
    if protocols.carries(model):
        return model.loss_and_carry(params, batch, carry, rng)  # type: ignore[attr-defined]
    if protocols.frozen_models(model):
        return *model.loss_with_frozen(params, batch, frozen, rng), None  # type: ignore[attr-defined]
    return *model.loss(params, batch, rng), None


def scales(model: Model, weights: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """What each term's sum is multiplied by in the total: its coefficient over its weight.

    A term without weight counts nothing: 0 / 0 would poison the parameters.

    Args:
      model: whose `loss_terms` these are.
      weights: of the global batch.
    """
    return {
        name: jnp.where(weights[name] > 0, coefficient / jnp.maximum(weights[name], 1e-9), 0.0)
        for name, coefficient in model.loss_terms.items()
    }


def total(sums: Sums, scale: Mapping[str, Any]) -> Any:
    """The loss that is minimized, of sums and their `scales`."""
    return sum(scale[name] * value for name, value in sums.items())


def with_total(metrics: Metrics, scale: Mapping[str, jax.Array]) -> Metrics:
    """A step's metrics with the total loss, if the terms are several or named otherwise."""
    if set(scale) == {TOTAL}:
        return metrics
    value = total({name: metrics[name][0] for name in scale}, scale)
    return {**metrics, TOTAL: (value, jnp.float32(1))}


def with_mean_total(model: Model, means: Mapping[str, float]) -> dict[str, float]:
    """Means over a whole split, with the total loss of its terms' means."""
    if set(model.loss_terms) == {TOTAL}:
        return dict(means)
    known = [name for name in model.loss_terms if name in means]
    return {**means, TOTAL: sum(model.loss_terms[name] * means[name] for name in known)}


def has_weight(model: Model, totals: Mapping[str, tuple[float, float]]) -> bool:
    """Whether any term of the loss was measured."""
    return any(totals.get(name, (0.0, 0.0))[1] for name in model.loss_terms)
