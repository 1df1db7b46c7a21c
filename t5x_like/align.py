"""Reinforcement learning: a policy learns from the rewards of its own answers."""

import inspect
from typing import Any, cast

from t5x_like.alignment.iteration import Iteration
from t5x_like.alignment.plan import AlignmentPlan
from t5x_like.host import command, memory
from t5x_like.train import train_plan
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.state import TrainState
from t5x_like.training.step import TrainStep


def align(**settings: Any) -> TrainState:
    """Learns from rewards until `train_steps` iterations, resuming from the newest checkpoint.

    Checkpoints, logs, resuming and signals are those of `train.train`.

    Args:
      **settings: the attributes of `AlignmentPlan`; gin binds them as `align.align.NAME`.

    Returns:
      The state after the last iteration.

    Raises:
      UserError: something that was asked for cannot be.
      Preempted: a signal asked to stop; the state is saved.
      Diverged: an update went wrong, and the policy stops then.
    """
    memory.keep_freed_memory()  # before a device is asked for, which starts threads
    return align_plan(AlignmentPlan(**settings))


# gin, and `help`, see the settings by name.
align.__signature__ = inspect.signature(AlignmentPlan).replace(  # type: ignore[attr-defined]
    return_annotation=TrainState
)


def align_plan(plan: AlignmentPlan) -> TrainState:
    """One run with all devices; see `align`."""
    return train_plan(plan, _iteration)


def _iteration(plan: TrainingPlan) -> TrainStep:
    return Iteration(cast(AlignmentPlan, plan))


if __name__ == "__main__":
    command.run("align")
