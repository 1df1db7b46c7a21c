"""Checkpoints: written by Orbax in the background, verified when read.

`MODEL_DIR/checkpoints/STEP/` holds four items: `params` and `optimizer` (arrays), `data` (the
position in the data, JSON that does not depend on the number of processes) and `metadata`
(step, seed, tokens and seconds so far, versions, a checksum of each array); and `carry` (arrays)
of a model that hands a state from batch to batch. Those of a model that was imported have
`params` and `metadata` alone. A directory is renamed into place only when it is
whole; in an object store, `commit_success.txt` is written into it last. What is found damaged
later is set aside as `STEP.damaged`.
"""

from t5x_like.checkpoints.checkpointer import Checkpointer
from t5x_like.checkpoints.contents import require_training_state
from t5x_like.checkpoints.host_params import FrozenParams
from t5x_like.checkpoints.initial import (
    InitialCheckpoint,
    base_metadata,
    checked_start,
    initial_state,
)
from t5x_like.checkpoints.layout import DIRECTORY, Damaged
from t5x_like.checkpoints.loading import (
    Branch,
    branch_state,
    checkpoint_steps,
    find_checkpoint,
    load_metadata,
    load_params,
)
from t5x_like.checkpoints.policy import CheckpointPolicy
from t5x_like.checkpoints.shapes import check_parameters, stored_arrays

__all__ = [
    "DIRECTORY",
    "Branch",
    "CheckpointPolicy",
    "Checkpointer",
    "Damaged",
    "FrozenParams",
    "InitialCheckpoint",
    "base_metadata",
    "branch_state",
    "check_parameters",
    "checked_start",
    "checkpoint_steps",
    "find_checkpoint",
    "initial_state",
    "load_metadata",
    "load_params",
    "require_training_state",
    "stored_arrays",
]
