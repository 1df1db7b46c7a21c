"""T5X's checkpoints, `checkpoint_N` with zarr arrays, read without T5X and without TensorFlow."""

import dataclasses
from pathlib import Path
from typing import Any

from models.hf.mapping import filled
from models.model import Model
from models.t5x.checkpoint_files import StoredArrays, find_checkpoint
from models.t5x.networks import network_of


@dataclasses.dataclass(frozen=True)
class T5XCheckpoint:
    """What was read of a checkpoint.

    Attributes:
      model: T5 1.0 or 1.1, whose shapes mT5, ByT5 and Flan have too; of a decoder alone LaMDA,
        which is the same network.
      params: its float32 parameters, NumPy arrays.
      step: updates that T5X had made.
      directory: `checkpoint_N`.
      left_out: whether there is an optimizer's state, which is not read.
      supposed: see `Network`.
    """

    model: Model
    params: dict[str, Any]
    step: int
    directory: Path
    left_out: bool
    supposed: str


def load_t5x(path: str | Path, step: int | None = None) -> T5XCheckpoint:
    """Reads a model that T5X trained: `examples.t5`, `scalable_t5` or `decoder_only`.

    One array at a time is read: memory holds the parameters and the array in turn.

    Args:
      path: `checkpoint_N`, or the directory of the run that holds several.
      step: which of several; None is the newest.

    Raises:
      ModelError: no checkpoint, one that is damaged or was not copied whole, or another network.
    """
    directory = find_checkpoint(path, step)
    arrays = StoredArrays(directory)
    network = network_of(arrays, directory)
    params = filled(
        network.model, network.weights, arrays, str(directory), described="the model of its arrays"
    )
    return T5XCheckpoint(
        network.model, params, arrays.step, directory, arrays.has_optimizer, network.supposed
    )
