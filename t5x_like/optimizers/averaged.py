"""A moving average of the parameters, kept beside those that are trained."""

from typing import Any, NamedTuple

import jax
import optax

from t5x_like.errors import UserError
from t5x_like.optimizers.optimizer import Optimizer


class MovingAverage(NamedTuple):
    """The state that `moving_average` adds to an optimizer's.

    Attributes:
      moving_average: a tree like the parameters.
    """

    moving_average: Any


def moving_average(optimizer: Optimizer, decay: float = 0.999) -> Optimizer:
    """Another optimizer, which keeps an exponential moving average of what it trains.

    After each update the average is `decay` times itself plus `1 - decay` times the parameters, and
    begins as they do (Polyak and Juditsky 1992; InstructGPT has 0.992). Training does not read it;
    `t5x-like average --moving` makes a run of it. It is a part of the optimizer's state, saved and
    sharded with it: a run that was stopped has the same one.

    Args:
      optimizer: whose updates are averaged.
      decay: at least 0, below 1.

    Raises:
      UserError: a decay that is none.
    """
    if not 0 <= decay < 1:
        raise UserError(f"moving_average.decay is {decay}: at least 0 and below 1 is needed.")

    def build(axes: Any) -> optax.GradientTransformation:
        return optax.chain(optimizer.build(axes), _average(decay))

    name = f"{optimizer.name} with a moving average of the parameters"
    return Optimizer(name, optimizer.schedule, build, averages=True)


def _average(decay: float) -> optax.GradientTransformation:
    def init(params: optax.Params) -> MovingAverage:
        # Of its own: the step donates the state, and no array twice.
        return MovingAverage(jax.tree.map(lambda x: x + 0, params))

    def update(
        updates: optax.Updates, state: MovingAverage, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MovingAverage]:
        assert params is not None
        after = optax.apply_updates(params, updates)
        averaged = jax.tree.map(
            lambda mean, now: decay * mean + (1 - decay) * now, state.moving_average, after
        )
        return updates, MovingAverage(averaged)

    return optax.GradientTransformation(init, update)
