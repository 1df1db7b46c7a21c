"""Stochastic gradient descent, plain or with momentum."""

from typing import Any

import optax

from t5x_like.optimizers.optimizer import Optimizer, clipping
from t5x_like.schedules import Schedule


def sgd(
    schedule: Schedule, momentum: float | None = None, global_norm: float | None = None
) -> Optimizer:
    """Gradient descent; with momentum each step repeats so much of the one before it.

    `m = momentum * m + g`, and the update is the rate times m (Polyak 1964).

    Args:
      schedule: learning rate.
      momentum: share of the sum of earlier gradients; None keeps none.
      global_norm: gradient norm above which all gradients are scaled down.
    """

    def build(axes: Any) -> optax.GradientTransformation:
        kept = [] if momentum is None else [optax.trace(momentum)]
        return optax.chain(*clipping(global_norm), *kept, optax.scale_by_learning_rate(schedule))

    return Optimizer("SGD", schedule, build)
