"""Means of parameters: of several checkpoints, or the moving average that an optimizer kept."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from t5x_like.checkpoints import base, host_params
from t5x_like.checkpoints.contents import read_arrays, read_metadata
from t5x_like.checkpoints.layout import DIRECTORY
from t5x_like.checkpoints.loading import find_checkpoint, load_metadata
from t5x_like.checkpoints.shapes import stored_arrays
from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.partitioning import path_name, with_subtree
from t5x_like.protocols import Model, Params

_KEPT = "moving_average."


def mean_of_checkpoints(model_dir: str, model: Model, steps: Sequence[int]) -> Params:
    """The mean of a run's parameters after several steps, NumPy arrays.

    Vaswani et al. 2017, section 6.1, take the last 5 or 20 checkpoints. They are read one
    after the other, and the mean of those so far moves towards each.

    Args:
      model_dir: the run.
      model: whose parameters they are.
      steps: of its checkpoints.

    Raises:
      UserError: no such checkpoint, or one of another model.
    """
    mean: Params = None
    for count, step in enumerate(steps, start=1):
        params, _ = host_params.read_params(model_dir, model, step)
        if mean is None:
            mean = params
        else:
            mean = jax.tree.map(
                lambda sofar, now, count=count: sofar + (now - sofar) / np.float32(count),
                mean,
                params,
            )
    return mean


def kept_moving_average(model_dir: str, model: Model, step: int) -> Params:
    """A run's parameters with the moving average in the place of those that were trained.

    Args:
      model_dir: the run, whose optimizer was `optimizers.moving_average`.
      model: whose parameters they are.
      step: of one of its checkpoints.

    Raises:
      UserError: no such checkpoint, or its optimizer kept no average.
    """
    directory = find_checkpoint(model_dir, step)
    stored = stored_arrays(directory / "optimizer") if (directory / "optimizer").is_dir() else {}
    names = {name.partition(_KEPT)[2]: name for name in stored if _KEPT in name}
    if not names:
        raise UserError(
            f"checkpoint '{directory}' has no moving average: train with "
            "optimizers/moving_average.gin, or average several checkpoints."
        )
    here = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    wanted = {
        name: jax.ShapeDtypeStruct(stored[name].shape, stored[name].dtype, sharding=here)
        for name in names.values()
    }
    arrays = read_arrays(directory, "optimizer", wanted, read_metadata(directory))
    params, _ = host_params.read_params(model_dir, model, step)

    def averaged(path: Any, leaf: np.ndarray) -> np.ndarray:
        name = names.get(path_name(path).replace("/", "."))
        return leaf if name is None else np.asarray(arrays[name])

    return with_subtree(params, jax.tree_util.tree_map_with_path(averaged, params))


def average_metadata(model_dir: str, out: str, model: Model, step: int) -> dict[str, Any]:
    """What a checkpoint of averaged parameters says of itself.

    Args:
      model_dir: the run that they are of.
      out: the MODEL_DIR where they will be.
      model: whose they are.
      step: of the run's checkpoint that they are named after; what that one leaves to a base, this
        one leaves to it too.
    """
    known = load_metadata(model_dir, step)
    kept: dict[str, Any] = {
        name: known[name] for name in ("seed", "tokens", "seconds", "jax") if name in known
    }
    final = files.location(out) / DIRECTORY / str(step)
    below = base.with_place(known.get(base.BASE), final)
    return {**kept, "parameters": model.parameter_count(), base.BASE: below}
