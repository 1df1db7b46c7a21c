"""The state that a run begins with: a checkpoint's, another run's, or a fresh one."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from t5x_like import checkpoints
from t5x_like.checkpoints import Branch, Checkpointer, InitialCheckpoint
from t5x_like.training import state as train_state
from t5x_like.training.frozen import load_frozen
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.state import TrainState
from t5x_like.vectors import InitialVectors, vectors_state


@dataclasses.dataclass(frozen=True)
class Beginning:
    """Where a run begins.

    Attributes:
      state: parameters and optimizer; of a checkpoint what passes from batch to batch, too.
      step: updates made.
      origin: where the state comes from, in words.
      position: in the data; None is their beginning.
      metadata: of the checkpoint, or of the one that has what the run does not train; empty
        without either.
    """

    state: TrainState
    step: int
    origin: str
    position: Mapping[str, Any] | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


def beginning(
    plan: TrainingPlan,
    checkpointer: Checkpointer,
    step: int | None,
    create: Callable[[int], TrainState] | None = None,
) -> Beginning:
    """Where a run begins.

    Args:
      plan: what was asked for.
      checkpointer: of the run.
      step: of one of its checkpoints; None for the beginning of the run.
      create: makes a fresh state from a seed; `train_state.create_state` when None.

    Raises:
      UserError: the checkpoint does not fit.
      Damaged: the checkpoint cannot be read, or is not what was saved.
    """
    source = plan.initial_checkpoint
    if step or isinstance(source, Branch):
        target = train_state.abstract_state(plan.model, plan.optimizer, plan.partitioner)
        rows = plan.dataset.batch_size
        carry = train_state.abstract_carry(plan.model, plan.partitioner, rows)
        target = target.replace(carry=carry)
        if step or not isinstance(source, Branch):
            state, position, metadata = checkpointer.restore(step or 0, target)
            origin = f"checkpoint of step {step}"
            return Beginning(state, step or 0, origin, position, metadata)
        state, position, metadata = checkpoints.branch_state(source, target)
        origin = f"step {source.step} of {source.model_dir}"
        return Beginning(state, source.step, origin, position, metadata)
    if isinstance(source, InitialCheckpoint):
        state = checkpoints.initial_state(
            source, plan.model, plan.optimizer, plan.partitioner, plan.seed
        )
        metadata = checkpoints.base_metadata(source, plan.model)
        return Beginning(state, 0, source.path, metadata=metadata)
    if isinstance(source, InitialVectors):
        state, origin = vectors_state(
            source, plan.model, plan.dataset.task, plan.optimizer, plan.partitioner, plan.seed
        )
        return Beginning(state, 0, origin)
    if create is not None:
        state = create(plan.seed)
    else:
        state = train_state.create_state(plan.model, plan.optimizer, plan.partitioner, plan.seed)
    return Beginning(state, 0, "random initialization")


def with_surroundings(state: TrainState, plan: TrainingPlan) -> TrainState:
    """The state with what is in no checkpoint: the first carry, and other models' parameters."""
    if state.carry is None:
        rows = plan.dataset.batch_size
        carry = train_state.initial_carry(plan.model, plan.partitioner, rows)
        state = state.replace(carry=carry)
    if plan.frozen:  # read at every resume: steps donate the state, and with it these arrays
        state = state.replace(frozen=load_frozen(plan.model, plan.frozen, plan.partitioner))
    return state
