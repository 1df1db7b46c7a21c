"""Each parameter's rate follows from the gradients that it has seen: AdaGrad and Adadelta."""

from typing import Any

import optax

from t5x_like.errors import UserError
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


def adadelta(
    schedule: Schedule,
    rho: float = 0.95,
    eps: float = 1e-6,
    global_norm: float | None = None,
) -> Optimizer:
    """Adadelta (Zeiler 2012, algorithm 1): steps as large as the root mean square of those before.

    The gradient is divided by the root of the moving mean of its squares, and multiplied by that of
    the squares of the steps so far, so that it needs no rate: the paper's is 1. The defaults are
    those that RNNsearch was trained with (Bahdanau et al. 2015, appendix B.2).

    Args:
      schedule: learning rate, which multiplies the step and is no part of its moving mean.
      rho: share of either moving mean that the next step keeps.
      eps: added to both means; its root is how far the first steps go, so that it is above 0.
      global_norm: gradient norm above which all gradients are scaled down.

    Raises:
      UserError: a number with which it cannot learn.
    """
    check_numbers("adadelta", global_norm=global_norm, rho=rho, eps=eps)
    if eps == 0:
        raise UserError("adadelta.eps is 0: it must be above 0, or no step is ever made.")

    def build(axes: Any) -> optax.GradientTransformation:
        return optax.chain(
            *clipping(global_norm),
            optax.scale_by_adadelta(rho, eps),
            optax.scale_by_learning_rate(schedule),
        )

    return Optimizer("Adadelta", schedule, build)
