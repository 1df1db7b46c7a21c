"""What is kept of an anomalous step, for a person to look into."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from t5x_like.checkpoints import Checkpointer
from t5x_like.data import merge_states
from t5x_like.distributed.startup import gather_json
from t5x_like.errors import UserError
from t5x_like.training.state import TrainState

DIRECTORY = "anomalies"
_BATCHES = "batch-*.npz"


def write(
    run_directory: epath.Path,
    step: int,
    batch: Mapping[str, np.ndarray],
    position: Mapping[str, Any],
    state: TrainState,
    metadata: Mapping[str, Any],
) -> epath.Path:
    """Makes a directory below MODEL_DIR that `load_run` opens; returns it.

    Args:
      run_directory: MODEL_DIR.
      step: the anomalous one.
      batch: this process's rows of its batch.
      position: in the data, after the batch.
      state: that the step began with.
      metadata: of a checkpoint.
    """
    directory = run_directory / DIRECTORY / str(step)
    directory.mkdir(parents=True, exist_ok=True)
    name = _BATCHES.replace("*", f"{jax.process_index():05d}")
    with (directory / name).open("wb") as file:
        arrays = {feature: np.asarray(value) for feature, value in batch.items()}
        np.savez(file, **arrays)  # type: ignore[arg-type]
    config = run_directory / "config.gin"
    if jax.process_index() == 0 and config.exists():
        (directory / "config.gin").write_text(config.read_text())
    checkpointer = Checkpointer(str(directory))
    checkpointer.save(state, step - 1, merge_states(gather_json(position)), metadata)
    checkpointer.close()
    return directory


def read_batch(directory: epath.Path) -> dict[str, np.ndarray]:
    """The batch of all processes, int32 `[rows, length]` for each feature.

    Raises:
      UserError: no anomalous batch was kept there.
    """
    parts = []
    for path in sorted(directory.glob(_BATCHES)):
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            parts.append({name: stored[name] for name in stored.files})
    if not parts:
        raise UserError(
            f"'{directory}' keeps no batch: give a directory below a run's '{DIRECTORY}'."
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
