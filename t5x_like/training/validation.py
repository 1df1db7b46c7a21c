"""The loss on held-out data."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping

import jax
import numpy as np

from t5x_like.data import DatasetConfig, open_evaluation
from t5x_like.errors import UserError
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Architecture, LanguageModel, Metrics, Params


@functools.partial(jax.jit, static_argnames="model")
def batch_metrics(model: LanguageModel, params: Params, batch: Mapping[str, jax.Array]) -> Metrics:
    """The model's summed metrics on one batch, without dropout."""
    return model.loss(params, batch)[1]


def held_out_batches(
    config: DatasetConfig,
    architecture: Architecture,
    partitioner: Partitioner,
    limit: int | None = None,
) -> Iterator[Mapping[str, np.ndarray]]:
    """This process's rows of each batch of a split.

    Args:
      config: which split of what.
      architecture: of the model.
      partitioner: the mesh.
      limit: the most batches; None for all.
    """
    index, count = partitioner.data_shard()
    split = open_evaluation(config, architecture=architecture, shard_index=index, shard_count=count)
    return (item.batch for item in itertools.islice(split, limit))


def mean_metrics(
    model: LanguageModel,
    params: Params,
    batches: Iterable[Mapping[str, np.ndarray]],
    partitioner: Partitioner,
) -> dict[str, float]:
    """The weighted means of the model's metrics over all `batches`.

    Args:
      model: whose `loss` gives the metrics.
      params: placed by `partitioner`.
      batches: this process's rows of each global batch.
      partitioner: the mesh.

    Raises:
      UserError: there is no batch, or no target in any.
    """
    pending: list[Metrics] = []
    totals: dict[str, tuple[float, float]] = {}
    with partitioner.activate():
        for batch in batches:
            pending.append(batch_metrics(model, params, partitioner.shard_batch(batch)))
            if len(pending) > 2:  # two steps in flight keep the device busy, no more
                totals = add_metrics(totals, pending.pop(0))
    for metrics in pending:
        totals = add_metrics(totals, metrics)
    if not totals or totals["loss"][1] == 0:
        raise UserError("the evaluation split has no example with a target.")
    return mean(totals)


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
