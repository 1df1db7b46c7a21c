"""What an optimizer is: an update rule that is made for the parameters' axes, and its rate."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

from t5x_like.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An update rule and its learning rate.

    Attributes:
      name: shown in the summary of a run.
      schedule: learning rate for the number of steps made, skipped updates included.
      build: from the tree of the parameters' logical axes to the transformation, whose
        updates are added to the parameters.
    """

    name: str
    schedule: Schedule
    build: Callable[[Any], optax.GradientTransformation]


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
