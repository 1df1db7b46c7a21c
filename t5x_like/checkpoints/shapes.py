"""Checks that a checkpoint is of this model before any array is read."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from t5x_like.checkpoints.contents import errors_as_damage
from t5x_like.errors import UserError
from t5x_like.partitioning import path_name, split_boxes
from t5x_like.protocols import Model


def check_parameters(
    target: Any,
    directory: epath.Path,
    *,
    item: str = "params",
    whole: bool = True,
    model: Model | None = None,
    fresh: Collection[str] | None = None,
    unread: Collection[str] = (),
) -> None:
    """Compares the shapes of `target` with those of a checkpoint, before any array is read.

    Args:
      target: a tree whose leaves have a shape.
      directory: the checkpoint.
      item: which part of it.
      whole: whether arrays that only the checkpoint has are a mismatch too.
      model: whose parameters they are, to tell another vocabulary from another model.
      fresh: names of parameters that are not read, where a run starts with others' parameters.
      unread: first parts of names that only the checkpoint may have all the same.

    Raises:
      UserError: the first array that is missing, extra or of another shape.
      Damaged: what it holds cannot be read.
    """
    stored = {name: leaf.shape for name, leaf in stored_arrays(directory / item).items()}
    wanted = {
        path_name(path): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(target)
    }
    what = "parameter" if item == "params" else f"{item} array"
    way = _left_out(wanted, stored, fresh)
    for name, shape in wanted.items():
        if name not in stored:
            raise UserError(
                f"checkpoint '{directory}' has no {what} '{name}', which is {shape} here: it is "
                f"of another model or optimizer.{way}"
            )
        if stored[name] != shape:
            _check_vocabulary(directory, name, stored[name], shape, model)
            raise UserError(
                f"checkpoint '{directory}' is of another model: {what} '{name}' is "
                f"{stored[name]} there and {shape} here.{way}"
            )
    extra = sorted(set(stored) - set(wanted)) if whole else []
    if extra := [name for name in extra if name.partition("/")[0] not in unread]:
        raise UserError(
            f"checkpoint '{directory}' has a {what} '{extra[0]}' {stored[extra[0]]} that "
            "this run lacks: it is of another model or optimizer."
        )


def _left_out(
    wanted: Mapping[str, Any], stored: Mapping[str, Any], fresh: Collection[str] | None
) -> str:
    """How a model starts of which some parts, such as a head, are not there or of another size."""
    unfit = [name for name in wanted if stored.get(name) != wanted[name]]
    # Other layers make another model.
    if fresh is None or unfit == list(wanted) or any("/layers/" in name for name in unfit):
        return ""
    begins = "|".join(sorted({name.partition("/")[0] for name in (*unfit, *fresh)}))
    return (
        f" What does not fit starts fresh with "
        f"--gin.checkpoints.InitialCheckpoint.include=\"['^(?!({begins})/)']\"."
    )


def _check_vocabulary(
    directory: epath.Path,
    name: str,
    there: tuple[int, ...],
    here: tuple[int, ...],
    model: Model | None,
) -> None:
    """Raises the error with its way out where the vocabulary's size alone differs."""
    rows = {} if model is None else dimensions(model, "vocab")
    differing = [i for i, pair in enumerate(zip(there, here, strict=False)) if len(set(pair)) == 2]
    if len(there) != len(here) or differing != [rows.get(name)]:
        return
    size, others = there[differing[0]], "|".join(f"{other}$" for other in rows)
    raise UserError(
        f"checkpoint '{directory}' is of another vocabulary: '{name}' has {size} ids there and "
        f"{here[differing[0]]} here. Give its own, with --gin.VOCAB_SIZE={size}; take the rows of "
        "the ids that both have, with --gin.checkpoints.InitialCheckpoint.resize_vocabulary=True; "
        "or train from its other parameters: "
        f"--gin.checkpoints.InitialCheckpoint.include=\"['^(?!{others})']\"."
    )


def dimensions(model: Model, axis: str) -> dict[str, int]:
    """Name -> the dimension along a logical axis, of the parameters that have one."""
    shapes, axes = split_boxes(model.abstract_params())
    found: dict[str, int] = {}

    def note(path: Any, _: Any, names: tuple[str | None, ...]) -> None:
        if axis in names:
            found[path_name(path)] = names.index(axis)

    jax.tree_util.tree_map_with_path(note, shapes, axes)
    return found


def stored_arrays(item: epath.Path) -> dict[str, jax.ShapeDtypeStruct]:
    """Name to shape and dtype of the arrays of an item, none of which is read.

    Raises:
      Damaged: what it holds cannot be read.
    """
    with errors_as_damage(item.parent, f"the list of its {item.name} arrays"):
        metadata = ocp.PyTreeCheckpointHandler().metadata(item)
        return {
            path_name(path): jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype)
            for path, leaf in jax.tree_util.tree_leaves_with_path(metadata.tree)
        }
