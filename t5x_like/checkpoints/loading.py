"""Finds a checkpoint, and loads from it a whole state or parts of one."""

import dataclasses
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

from t5x_like.checkpoints import base
from t5x_like.checkpoints.checkpointer import Checkpointer
from t5x_like.checkpoints.contents import read_metadata
from t5x_like.checkpoints.layout import DIRECTORY
from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Model, Params
from t5x_like.training import state
from t5x_like.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Branch:
    """A checkpoint of another run, from which this run continues with its state and data position.

    One long run at a constant learning rate, with short decays from several of its steps, costs
    less than that many separate runs (Hägele et al. 2024).

    Attributes:
      model_dir: of the other run.
      step: of one of its checkpoints.
    """

    model_dir: str
    step: int


def checkpoint_steps(model_dir: str) -> list[int]:
    """Lists the steps of the complete checkpoints below MODEL_DIR, ascending.

    A directory without parameters is no checkpoint, whatever its name.
    """
    directory = files.location(model_dir) / DIRECTORY
    if not directory.is_dir():
        return []
    found = [
        path for path in directory.iterdir() if path.name.isdecimal() and (path / "params").is_dir()
    ]
    # An object store cannot rename; there, a last file marks the checkpoint as complete.
    return sorted(int(path.name) for path in found if ocp.utils.is_checkpoint_finalized(path))


def find_checkpoint(path: str, step: int | None = None) -> epath.Path:
    """Resolves `path` to a checkpoint directory.

    Args:
      path: a MODEL_DIR or one of the directories below its `checkpoints`.
      step: which checkpoint of a MODEL_DIR; None for the newest.

    Raises:
      UserError: there is none.
    """
    directory = files.location(path)
    if (directory / "params").is_dir():
        return directory
    steps = checkpoint_steps(path)
    if not steps:
        raise UserError(
            f"no checkpoint in '{path}': give a MODEL_DIR that was trained, or one directory "
            f"below its '{DIRECTORY}'."
        )
    if step is not None and step not in steps:
        raise UserError(
            f"'{path}' has no checkpoint of step {step}; it has {', '.join(map(str, steps))}."
        )
    return directory / DIRECTORY / str(steps[-1] if step is None else step)


def load_params(
    path: str,
    model: Model,
    partitioner: Partitioner | None = None,
    step: int | None = None,
) -> tuple[Params, int]:
    """Loads the parameters of a checkpoint, and returns them with its step.

    Args:
      path: as for `find_checkpoint`.
      model: whose parameters these are.
      partitioner: where they go; the default lays them out for all devices.
      step: as for `find_checkpoint`.

    Raises:
      UserError: no checkpoint, or one of another model.
      Damaged: it cannot be read, or is not what was saved.
    """
    directory = find_checkpoint(path, step)
    target = state.placed_params(model, partitioner or Partitioner())
    metadata = read_metadata(directory)
    found = base.check_pieces(directory, metadata, target, model=model)
    return base.read_pieces(found), int(metadata.get("step", 0))


def load_metadata(path: str, step: int | None = None) -> dict[str, Any]:
    """Loads the metadata of a checkpoint: `step`, `seed`, `tokens`, `seconds`, versions."""
    return read_metadata(find_checkpoint(path, step))


def branch_state(
    branch: Branch, target: TrainState
) -> tuple[TrainState, dict[str, Any], dict[str, Any]]:
    """Restores a state from another run, as `Checkpointer.restore` does.

    Raises:
      UserError: the other run has no such checkpoint, or is of another model.
    """
    find_checkpoint(branch.model_dir, branch.step)
    other = Checkpointer(branch.model_dir, read_only=True)
    try:
        return other.restore(branch.step, target)
    finally:
        other.close()
