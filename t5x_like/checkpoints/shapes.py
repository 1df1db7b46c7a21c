"""Checks that a checkpoint is of this model before any array is read."""

from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from t5x_like.checkpoints.contents import errors_as_damage
from t5x_like.errors import UserError
from t5x_like.partitioning import path_name


def check_parameters(
    target: Any, directory: epath.Path, *, item: str = "params", whole: bool = True
) -> None:
    """Compares the shapes of `target` with those of a checkpoint, before any array is read.

    Args:
      target: a tree whose leaves have a shape.
      directory: the checkpoint.
      item: which part of it.
      whole: whether arrays that only the checkpoint has are a mismatch too.

    Raises:
      UserError: the first array that is missing, extra or of another shape.
      Damaged: what it holds cannot be read.
    """
    stored = _stored_shapes(directory / item)
    wanted = {
        path_name(path): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(target)
    }
    what = "parameter" if item == "params" else f"{item} array"
    for name, shape in wanted.items():
        if name not in stored:
            raise UserError(
                f"checkpoint '{directory}' has no {what} '{name}', which is {shape} here: it is "
                "of another model or optimizer."
            )
        if stored[name] != shape:
            raise UserError(
                f"checkpoint '{directory}' is of another model: {what} '{name}' is "
                f"{stored[name]} there and {shape} here."
            )
    if extra := sorted(set(stored) - set(wanted)) if whole else []:
        raise UserError(
            f"checkpoint '{directory}' has a {what} '{extra[0]}' {stored[extra[0]]} that "
            "this run lacks: it is of another model or optimizer."
        )


def _stored_shapes(item: epath.Path) -> dict[str, tuple[int, ...]]:
    with errors_as_damage(item.parent, f"the list of its {item.name} arrays"):
        metadata = ocp.PyTreeCheckpointHandler().metadata(item)
        return {
            path_name(path): tuple(leaf.shape)
            for path, leaf in jax.tree_util.tree_leaves_with_path(metadata.tree)
        }
