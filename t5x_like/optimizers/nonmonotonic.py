"""Averaged SGD that begins by itself once the validation loss has stopped to fall."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from t5x_like.errors import UserError
from t5x_like.optimizers.optimizer import Optimizer
from t5x_like.partitioning import with_subtree


class NonmonotonicAverage(NamedTuple):
    """The state that `nonmonotonic_average` adds to an optimizer's.

    Attributes:
      moving_average: a tree like the parameters: their mean since averaging began; before that, as
        they are.
      updates: in the mean, int32; 0 before averaging began.
      begun: whether it has, bool.
      best: least validation loss of those before `recent`, float32.
      recent: the last ones, the newest last, float32 `[patience]`; infinite where there was none.
    """

    moving_average: Any
    updates: jax.Array
    begun: jax.Array
    best: jax.Array
    recent: jax.Array


def nonmonotonic_average(optimizer: Optimizer, patience: int = 5) -> Optimizer:
    """Another optimizer, which averages the parameters once they get no better: NT-ASGD.

    Averaging begins after the first validation whose loss is above the least of all but the last
    `patience` ones before it (Merity et al. 2018, algorithm 1). What is measured from then on is
    the mean of the parameters after every update since. Training goes on with the parameters
    themselves; `t5x-like average --moving` makes a run of the mean. All of it is a part of the
    optimizer's state: a run that was stopped begins to average where it would have.

    Args:
      optimizer: of the updates; in the paper SGD at a constant rate.
      patience: n of the paper.

    Raises:
      UserError: a patience below 1.
    """
    if patience < 1:
        raise UserError(
            f"nonmonotonic_average.patience is {patience}: a number of validations, 1 or more, is "
            "needed."
        )

    def build(axes: Any) -> optax.GradientTransformation:
        return optax.chain(optimizer.build(axes), _average(patience))

    name = f"{optimizer.name}, averaged once the validation loss rises"
    return Optimizer(name, optimizer.schedule, build, averages=True)


def _average(patience: int) -> optax.GradientTransformation:
    def init(params: optax.Params) -> NonmonotonicAverage:
        return NonmonotonicAverage(
            # Of its own: the step donates the state, and no array twice.
            moving_average=jax.tree.map(lambda x: x + 0, params),
            updates=jnp.zeros((), jnp.int32),
            begun=jnp.zeros((), jnp.bool_),
            best=jnp.full((), jnp.inf, jnp.float32),
            recent=jnp.full((patience,), jnp.inf, jnp.float32),
        )

    def update(
        updates: optax.Updates, state: NonmonotonicAverage, params: optax.Params | None = None
    ) -> tuple[optax.Updates, NonmonotonicAverage]:
        assert params is not None
        count = jnp.where(state.begun, state.updates + 1, 0)
        share = 1 / jnp.maximum(count, 1).astype(jnp.float32)
        averaged = jax.tree.map(
            lambda mean, now: mean + (now - mean) * share,
            state.moving_average,
            optax.apply_updates(params, updates),
        )
        return updates, state._replace(moving_average=averaged, updates=count)

    return optax.GradientTransformation(init, update)


def follows_validation(opt_state: Any) -> bool:
    """Whether an optimizer's state changes with the validation loss."""
    return bool(_averages(opt_state))


def after_validation(opt_state: Any, loss: float) -> Any:
    """The optimizer's state once a validation loss is known; of most optimizers the same.

    Args:
      opt_state: of any optimizer.
      loss: mean over the first validation split.
    """

    def seen(node: Any) -> Any:
        if not _is_average(node):
            return node
        found = _with_loss(node.begun, node.best, node.recent, loss)
        return node._replace(**jax.device_put(found, node.begun.sharding))

    return jax.tree.map(seen, opt_state, is_leaf=_is_average)


@jax.jit
def _with_loss(
    begun: jax.Array, best: jax.Array, recent: jax.Array, loss: float
) -> dict[str, jax.Array]:
    newest = jnp.asarray(loss, jnp.float32)
    return {
        "begun": begun | (newest > best),
        "best": jnp.minimum(best, recent[0]),
        "recent": jnp.append(recent[1:], newest),
    }


def measured_params(params: Any, opt_state: Any) -> Any:
    """The parameters that are measured: where the optimizer averages them, their mean.

    Args:
      params: all of the model's.
      opt_state: of those that are trained.
    """
    averages = _averages(opt_state)
    return with_subtree(params, averages[0].moving_average) if averages else params


def _is_average(node: Any) -> bool:
    return isinstance(node, NonmonotonicAverage)


def _averages(opt_state: Any) -> list[NonmonotonicAverage]:
    return [node for node in jax.tree.leaves(opt_state, is_leaf=_is_average) if _is_average(node)]
