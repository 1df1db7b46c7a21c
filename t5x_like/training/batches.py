"""The batches that a run was fed, and what the first of them must satisfy."""

import collections
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from t5x_like.errors import UserError
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Model, feature_values, vocab_size


class FedBatch(NamedTuple):
    """A batch that was given to a step, and the position in the data after it."""

    step: int
    batch: Mapping[str, np.ndarray]
    position: dict[str, Any]


class FedBatches:
    """The last batches that were given to steps.

    An anomaly is noticed, and a record written, one step later.
    """

    def __init__(self) -> None:
        self._kept: collections.deque[FedBatch] = collections.deque(maxlen=4)

    def add(self, fed: FedBatch) -> None:
        """Keeps a batch, and forgets the oldest."""
        self._kept.append(fed)

    def of(self, step: int) -> FedBatch:
        """What a step was given: the last of its number, which a run that went back has twice."""
        return next(fed for fed in reversed(self._kept) if fed.step == step)


def check_batch(
    batch: Mapping[str, np.ndarray], model: Model, partitioner: Partitioner
) -> dict[str, tuple[int, ...]]:
    """The global shapes of a batch, whose token ids and other numbers the model must know.

    Raises:
      UserError: it does not.
    """
    _, count = partitioner.data_shard()
    for name, value in batch.items():
        size = vocab_size(model, name)
        if name.endswith("_tokens") and value.max(initial=0) >= size:
            raise UserError(
                f"{name} has token id {value.max()}, but the model's vocab_size is "
                f"{size}: raise it, or use the vocabulary that the model is for."
            )
    for name, count in feature_values(model).items():
        if name in batch and batch[name].max(initial=0) >= count:
            raise UserError(
                f"{name} has the number {batch[name].max()}, but {type(model).__name__} tells "
                f"{count} apart, from 0: the task's objective, or its vocabulary's form of rows "
                "(CLS_AT_END), is for another model."
            )
    return {name: (value.shape[0] * count, *value.shape[1:]) for name, value in batch.items()}
