"""Stochastic gradient descent, plain or with momentum."""

from typing import Any

import optax

from t5x_like.optimizers.optimizer import Optimizer, check_numbers, clipping
from t5x_like.schedules import Schedule


def sgd(
    schedule: Schedule,
    momentum: float | None = None,
    global_norm: float | None = None,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Gradient descent; with momentum each step repeats so much of the one before it.

    `m = momentum * m + g`, and the update is the rate times m (Polyak 1964).

    Args:
      schedule: learning rate.
      momentum: share of the sum of earlier gradients; None keeps none.
      global_norm: gradient norm above which all gradients are scaled down.
      weight_decay: so much of each parameter is added to its gradient, once that is scaled, as
        PyTorch has it; of biases too.

    Raises:
      UserError: a number with which it cannot learn.
    """
    check_numbers("sgd", global_norm=global_norm, momentum=momentum, weight_decay=weight_decay)

    def build(axes: Any) -> optax.GradientTransformation:
        decay = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
        kept = [] if momentum is None else [optax.trace(momentum)]
        rate = optax.scale_by_learning_rate(schedule)
        return optax.chain(*clipping(global_norm), *decay, *kept, rate)

    return Optimizer("SGD", schedule, build)
