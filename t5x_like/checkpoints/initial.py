"""Starts a run with the parameters of a checkpoint, all of them or some."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath

from t5x_like.checkpoints import base
from t5x_like.checkpoints.contents import read_metadata
from t5x_like.checkpoints.layer_groups import Group, joined, without_experts
from t5x_like.checkpoints.loading import find_checkpoint
from t5x_like.checkpoints.param_filters import matching
from t5x_like.checkpoints.shapes import dimensions, stored_arrays
from t5x_like.errors import UserError
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner, path_name, split_boxes, subtree
from t5x_like.protocols import LABELS, Model, Params, label_names, tuning
from t5x_like.training import state
from t5x_like.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class InitialCheckpoint:
    """The checkpoint from which fine-tuning takes its parameters.

    Attributes:
      path: a MODEL_DIR (its newest checkpoint) or one checkpoint directory.
      include: regular expressions, searched in names such as `decoder/layers/mlp/wi`; the
        parameters that match one are loaded, the others are initialised. None loads all.
      resize_vocabulary: whether the checkpoint may be of another number of tokens: the rows of ids
        that both have are taken, further ids of the model start fresh, and further ones of the
        checkpoint are dropped. Which token an id stands for is not looked at.
      layers: which layers of the checkpoint, from 0, the model's own begin as, of every stack;
        DistilBERT's six are `[0, 2, 4, 7, 9, 11]` of BERT's twelve (released script). What else
        the checkpoint has is left aside, and None takes all layers.
      without_experts: whether the checkpoint is of a model with experts and this one is without:
        all other weights are taken, and the MLPs that stand in the place of experts start fresh
        (Fedus et al. 2022, section 4.2).
    """

    path: str
    include: Sequence[str] | None = None
    resize_vocabulary: bool = False
    layers: Sequence[int] | None = None
    without_experts: bool = False


@dataclasses.dataclass(frozen=True)
class Start:
    """What a checkpoint gives to a model.

    Attributes:
      pieces: where the parameters are that are read, with the shapes that they have there.
      fresh: names of the parameters that are not read.
      resized: names of those with rows of tokens, whose number is another here, to the axis of the
        rows.
      stacked: names of those of which some layers are taken, to the axis of the layers.
      grouped: names of those that are put together of the layers of groups.
    """

    pieces: list[base.Piece]
    fresh: set[str]
    resized: Mapping[str, int]
    stacked: Mapping[str, int]
    grouped: Mapping[str, Group]


def checked_start(source: InitialCheckpoint, model: Model, target: Params) -> Start:
    """What is read of a checkpoint, once its shapes are known to fit; reads no array.

    Args:
      source: what is asked for.
      model: which starts.
      target: its parameters as `ShapeDtypeStruct`s.

    Raises:
      UserError: no checkpoint, another model or vocabulary, or a regular expression that is
        invalid or matches nothing.
      Damaged: what the checkpoint holds cannot be read.
    """
    directory = find_checkpoint(source.path)
    metadata = read_metadata(directory)
    taken, fresh = _taken(source, model, directory)
    if source.include is None:
        _check_labels(directory, metadata, model)
    wanted = subtree(target, taken.__contains__)
    stored = {
        name: array
        # What a checkpoint has itself, before what its base has by the same name.
        for place, _, _ in reversed(list(base.pieces(directory, metadata, wanted)))
        for name, array in stored_arrays(place / "params").items()
    }
    resized: dict[str, int] = {}
    stacked: dict[str, int] = {}
    grouped: dict[str, Group] = {}
    if source.without_experts:
        wanted, grouped, without = without_experts(wanted, stored, dimensions(model, "layers"))
        fresh |= without
    if source.resize_vocabulary:
        wanted, resized = _as_stored(wanted, stored, dimensions(model, "vocab"))
    if source.layers is not None:
        _check_layers(source.layers, wanted, stored, dimensions(model, "layers"))
        wanted, stacked = _as_stored(wanted, stored, dimensions(model, "layers"), always=True)
    whole = source.include is None and source.layers is None and not source.without_experts

    def aside(name: str) -> bool:
        """Whether it is asked for that the checkpoint's parameter is left."""
        chosen = source.include is None or any(re.search(one, name) for one in source.include)
        return source.without_experts or not chosen

    found = base.check_pieces(
        directory, metadata, wanted, model=model, whole=whole, fresh=fresh, aside=aside
    )
    return Start(found, fresh, resized, stacked, grouped)


def initial_state(
    source: InitialCheckpoint,
    model: Model,
    optimizer: Optimizer,
    partitioner: Partitioner,
    seed: int,
) -> TrainState:
    """Makes a state at step 0 with some or all of its parameters from `source`.

    Raises:
      UserError: see `checked_start`.
    """
    start = checked_start(source, model, state.placed_params(model, partitioner))
    params = base.read_pieces(start.pieces)
    if start.fresh or start.resized or start.stacked or start.grouped:
        made = state.create_state(model, optimizer, partitioner, seed).params
        read = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}

        def chosen(path: Any, leaf: jax.Array) -> jax.Array:
            name = path_name(path)
            if name in start.grouped:
                return joined(leaf, start.grouped[name], read, partitioner.replicated)
            if name in start.stacked and source.layers is not None:
                numbers = jax.numpy.asarray(source.layers)
                taken = jax.numpy.take(read[name], numbers, axis=start.stacked[name])
                return jax.device_put(taken, leaf.sharding)
            if name not in start.resized:
                return read.get(name, leaf)
            rows = min(leaf.shape[start.resized[name]], read[name].shape[start.resized[name]])
            place = (*(slice(None),) * start.resized[name], slice(rows))
            filled = leaf.at[place].set(jax.device_put(read[name][place], partitioner.replicated))
            return jax.device_put(filled, leaf.sharding)

        params = jax.tree_util.tree_map_with_path(chosen, made)
    return state.state_from_params(params, model, optimizer, partitioner)


def base_metadata(source: InitialCheckpoint, model: Model) -> dict[str, Any]:
    """What checkpoints of a run must say of those parameters that it took and does not train.

    Args:
      source: where the run starts.
      model: what it trains.
    """
    tuned = tuning(model)
    if tuned is None:
        return {}
    directory = find_checkpoint(source.path)
    shapes, _ = split_boxes(model.abstract_params())
    start = checked_start(source, model, shapes)
    read = {
        path_name(path)
        for _, _, wanted in start.pieces
        for path, _ in jax.tree_util.tree_leaves_with_path(wanted)
    }
    parts = {part for group in start.grouped.values() for part in group.parts.values()}
    changed = {*start.resized, *start.stacked, *parts}
    kept = {name for name in read - changed if not tuned.trains(name)}
    known = read_metadata(directory)
    return {base.BASE: base.base_of(directory, known, kept)} if kept else {}


def _taken(
    source: InitialCheckpoint, model: Model, directory: epath.Path
) -> tuple[set[str], set[str]]:
    """The names of the parameters that are loaded, and of those that start fresh.

    What a model has only for being tuned is loaded where the checkpoint has it.

    Raises:
      UserError: a regular expression that is invalid or matches nothing.
    """
    shapes, _ = split_boxes(model.abstract_params())
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    taken = set(names) if source.include is None else matching(names, source.include)
    tuned = tuning(model)
    if tuned is not None:
        there = base.held(directory, read_metadata(directory))
        taken -= {name for name in taken if tuned.adds(name) and name not in there}
    return taken, set(names) - taken


def _check_labels(directory: epath.Path, metadata: Mapping[str, Any], model: Model) -> None:
    """Refuses a head whose classes are called otherwise than those that it learned.

    Of another number the shapes say so.
    """
    ours = label_names(model)
    for output, theirs in (metadata.get(LABELS) or {}).items():
        # Of what was imported without names, what a class stands for is its user's to know.
        unnamed = all(name == f"LABEL_{i}" for i, name in enumerate(theirs))
        if unnamed or len(ours.get(output, ())) != len(theirs):
            continue
        if [name.casefold() for name in theirs] != [name.casefold() for name in ours[output]]:
            raise UserError(
                f"checkpoint '{directory}' has a head for the labels {', '.join(theirs)}, and this "
                f"model's are {', '.join(ours[output])}: give it the same in the same order, or a "
                "head of its own (runs/finetune_head.gin)."
            )


def _check_layers(
    layers: Sequence[int], wanted: Params, stored: Mapping[str, Any], axes: Mapping[str, int]
) -> None:
    """Refuses numbers of layers that the checkpoint lacks, or more or fewer than the model has."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(wanted):
        name = path_name(path)
        if name not in axes or name not in stored:
            continue
        here, there = leaf.shape[axes[name]], stored[name].shape[axes[name]]
        if len(layers) != here or not all(0 <= number < there for number in layers):
            raise UserError(
                f"InitialCheckpoint.layers is {list(layers)}: '{name}' has {here} layers here and "
                f"{there} in the checkpoint, so {here} numbers from 0 to {there - 1} are needed."
            )


def _as_stored(
    wanted: Params, stored: Mapping[str, Any], axes: Mapping[str, int], *, always: bool = False
) -> tuple[Params, dict[str, int]]:
    """The wanted parameters as long as they are stored along an axis, and which those are.

    Args:
      wanted: with the model's own shapes.
      stored: name to shape.
      axes: name to the axis, of those that may differ.
      always: whether they count too where the length is the same.
    """
    changed: dict[str, int] = {}

    def as_stored(path: Any, leaf: Any) -> Any:
        name = path_name(path)
        axis, there = axes.get(name), stored.get(name)
        if axis is None or there is None or len(there.shape) != len(leaf.shape):
            return leaf
        if there.shape[axis] == leaf.shape[axis] and not always:
            return leaf
        changed[name] = axis
        shape = (*leaf.shape[:axis], there.shape[axis], *leaf.shape[axis + 1 :])
        sharding = getattr(leaf, "sharding", None)
        if sharding is not None:  # the stored length may not divide over the mesh
            sharding = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)

    return jax.tree_util.tree_map_with_path(as_stored, wanted), changed
