"""AdaGrad: each parameter's rate falls with the gradients that it has seen."""

from typing import Any

import optax

from t5x_like.optimizers.optimizer import Optimizer, check_numbers, clipping
from t5x_like.schedules import Schedule


def adagrad(
    schedule: Schedule,
    initial_accumulator: float = 0.0,
    eps: float = 1e-20,
    global_norm: float | None = None,
) -> Optimizer:
    """AdaGrad (Duchi et al. 2011, section 1.1): the gradient over the root of its squares' sum.

    A row of a table that no example reads stays as it is, and a rare one moves as far as a frequent
    one: it is what vectors of words are trained with (Pennington et al. 2014, section 4.2).

    Args:
      schedule: learning rate.
      initial_accumulator: what the sum of squares begins with; 0 makes updates independent of the
        scale of the loss. GloVe's released code has 1, for the gradients of single pairs.
      eps: added to the sum, below the square of any gradient that counts.
      global_norm: gradient norm above which all gradients are scaled down.

    Raises:
      UserError: a number with which it cannot learn.
    """
    check_numbers("adagrad", global_norm=global_norm, eps=eps)

    def build(axes: Any) -> optax.GradientTransformation:
        return optax.chain(
            *clipping(global_norm),
            optax.scale_by_rss(initial_accumulator, eps),
            optax.scale_by_learning_rate(schedule),
        )

    return Optimizer("AdaGrad", schedule, build)
