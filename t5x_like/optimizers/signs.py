"""Lion: the sign of a momentum."""

from typing import Any

import optax

from t5x_like.optimizers.axes import decays, map_axes
from t5x_like.optimizers.optimizer import Optimizer, check_numbers, clipping
from t5x_like.schedules import Schedule


def lion(
    schedule: Schedule,
    b1: float = 0.9,
    b2: float = 0.99,
    weight_decay: float = 1.0,
    global_norm: float | None = 1.0,
) -> Optimizer:
    """Lion (Chen et al. 2023, algorithm 2): the sign of an interpolated momentum.

    Args:
      schedule: learning rate; 3 to 10 times smaller than AdamW's (section 5).
      b1: interpolation for the update.
      b2: decay of the momentum.
      weight_decay: strength, on matrices only; 3 to 10 times AdamW's.
      global_norm: gradient norm above which all gradients are scaled down.

    Raises:
      UserError: a number with which it cannot learn.
    """
    check_numbers("lion", global_norm=global_norm, b1=b1, b2=b2, weight_decay=weight_decay)

    def build(axes: Any) -> optax.GradientTransformation:
        mask = map_axes(decays, axes)
        return optax.chain(
            *clipping(global_norm),
            optax.lion(schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=mask),
        )

    return Optimizer("Lion", schedule, build)
