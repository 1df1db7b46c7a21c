"""The loss on held-out data."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping

import jax
import numpy as np

from t5x_like.data import DatasetConfig, open_evaluation
from t5x_like.errors import UserError
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Carry, Metrics, Model, Params
from t5x_like.training import loss
from t5x_like.training.state import initial_carry


@functools.partial(jax.jit, static_argnames="model")
def batch_metrics(
    model: Model,
    params: Params,
    batch: Mapping[str, jax.Array],
    carry: Carry = None,
    frozen: Mapping[str, Params] | None = None,
) -> tuple[Metrics, Carry]:
    """The model's summed metrics on one batch, without dropout, and what the next begins with."""
    _, metrics, carry = loss.summed_loss(model, params, batch, carry=carry, frozen=frozen)
    return metrics, carry


def held_out_batches(
    config: DatasetConfig,
    batch_format: str,
    partitioner: Partitioner,
    limit: int | None = None,
) -> Iterator[Mapping[str, np.ndarray]]:
    """This process's rows of each batch of a split.

    Args:
      config: which split of what.
      batch_format: of the model.
      partitioner: the mesh.
      limit: the most batches; None for all.
    """
    index, count = partitioner.data_shard()
    split = open_evaluation(config, batch_format=batch_format, shard_index=index, shard_count=count)
    return (item.batch for item in itertools.islice(split, limit))


def mean_metrics(
    model: Model,
    params: Params,
    batches: Iterable[Mapping[str, np.ndarray]],
    partitioner: Partitioner,
    frozen: Mapping[str, Params] | None = None,
) -> dict[str, float]:
    """The weighted means of the model's metrics over all `batches`, and the total loss of them.

    Args:
      model: whose `loss` gives the metrics.
      params: placed by `partitioner`.
      batches: this process's rows of each global batch.
      partitioner: the mesh.
      frozen: see `TrainState`.

    Raises:
      UserError: there is no batch, or no target in any.
    """
    pending: list[Metrics] = []
    totals: dict[str, tuple[float, float]] = {}
    carry = None
    with partitioner.activate():
        for rows in batches:
            batch = partitioner.shard_batch(rows)
            if carry is None:
                count = next(iter(batch.values())).shape[0]
                carry = initial_carry(model, partitioner, count)
            metrics, carry = batch_metrics(model, params, batch, carry, frozen)
            pending.append(metrics)
            if len(pending) > 2:  # two steps in flight keep the device busy, no more
                totals = add_metrics(totals, pending.pop(0))
    for metrics in pending:
        totals = add_metrics(totals, metrics)
    if not loss.has_weight(model, totals):
        raise UserError("the evaluation split has no example with a target.")
    return loss.with_mean_total(model, mean(totals))


def add_metrics(
    totals: Mapping[str, tuple[float, float]], metrics: Metrics
) -> dict[str, tuple[float, float]]:
    """`totals` with one step's sums and weights added, in double precision on the host."""
    fetched = jax.device_get(metrics)
    return {
        name: (
            totals.get(name, (0.0, 0.0))[0] + float(value),
            totals.get(name, (0.0, 0.0))[1] + float(weight),
        )
        for name, (value, weight) in fetched.items()
    }


def mean(totals: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Each sum divided by its weight; a metric without weight is left out."""
    return {name: value / weight for name, (value, weight) in totals.items() if weight}
