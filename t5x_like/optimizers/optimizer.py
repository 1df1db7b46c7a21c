"""What an optimizer is: an update rule that is made for the parameters' axes, and its rate."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

from t5x_like.errors import UserError
from t5x_like.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An update rule and its learning rate.

    Attributes:
      name: shown in the summary of a run.
      schedule: learning rate for the number of steps made, skipped updates included.
      build: from the tree of the parameters' logical axes to the transformation, whose
        updates are added to the parameters.
      averages: whether it keeps an average of the parameters, as its own updates make them.
    """

    name: str
    schedule: Schedule
    build: Callable[[Any], optax.GradientTransformation]
    averages: bool = False


def check_no_average(optimizer: Optimizer, name: str) -> None:
    """Refuses an average of parameters under what changes the updates after it.

    Raises:
      UserError: `optimizer` keeps one; `name` is of what would change its updates.
    """
    if optimizer.averages:
        raise UserError(
            f"{name}.optimizer is {optimizer.name}, of parameters as they would be without {name}: "
            f"average outside of it, with {name} as the optimizer of the average."
        )


def schedules_at(opt_state: Any, step: jax.Array) -> Any:
    """The optimizer's state with the counts of its schedules set to `step`.

    optax counts updates. An update that is not applied leaves the state as it was, and the learning
    rate would lag behind the step by one from then on.

    Args:
      opt_state: of any optimizer.
      step: steps made, skipped updates included, int32 scalar.
    """

    def counts(node: Any) -> bool:
        # Of a schedule of learning rates, or of weight decay; moments have counts of their own.
        return getattr(node, "_fields", None) == ("count",)

    return jax.tree.map(
        lambda node: node._replace(count=step) if counts(node) else node, opt_state, is_leaf=counts
    )


def clipping(global_norm: float | None) -> list[optax.GradientTransformation]:
    """What scales all gradients down together, above this norm of theirs; None for nothing."""
    return [] if global_norm is None else [optax.clip_by_global_norm(global_norm)]
