"""What an optimizer is: an update rule that is made for the parameters' axes, and its rate."""

import dataclasses
import math
from collections.abc import Callable, Mapping
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


# What a number of an optimizer may be, by its name, in words too. A threshold of 0, by which others
# switch clipping off, would stop all learning.
_CLIPS = (lambda value: value > 0, "a number above 0 is needed; None clips nothing")
_SHARE = (lambda value: 0 <= value < 1, "it must be at least 0 and below 1")
_STRENGTH = (lambda value: 0 <= value < math.inf, "it must be 0 or more")
_NUMBERS: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "global_norm": _CLIPS,
    "clipping_threshold": _CLIPS,
    "b1": _SHARE,
    "b2": _SHARE,
    "rho": _SHARE,
    "decay_rate": (lambda value: 0 < value < math.inf, "a number above 0 is needed"),
    "momentum": _SHARE,
    "eps": _STRENGTH,
    "weight_decay": _STRENGTH,
}


def check_numbers(rule: str, **numbers: Any) -> None:
    """Refuses numbers of an update rule with which it cannot learn.

    Args:
      rule: name of the function.
      numbers: by the names of its arguments; None, and what is a schedule, are left alone.

    Raises:
      UserError: says what is accepted.
    """
    for name, value in numbers.items():
        is_right, accepted = _NUMBERS[name]
        if isinstance(value, int | float) and not is_right(value):
            raise UserError(f"{rule}.{name} is {value}: {accepted}.")


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
