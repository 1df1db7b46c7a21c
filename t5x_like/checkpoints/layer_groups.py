"""Layers that a checkpoint has in groups, some with experts, as the layers of a model without."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from t5x_like.errors import UserError
from t5x_like.partitioning import path_name
from t5x_like.protocols import Params

_LAYERS = "/layers/"


@dataclasses.dataclass(frozen=True)
class Group:
    """Where the layers of one parameter are.

    Attributes:
      parts: the place in a group, from 0, to the name there; what is missing has experts.
      size: layers of a group: those of place i are i, i + size, and so on.
      axis: of the layers.
    """

    parts: Mapping[int, str]
    size: int
    axis: int


def without_experts(
    wanted: Params, stored: Mapping[str, Any], axes: Mapping[str, int]
) -> tuple[Params, dict[str, Group], set[str]]:
    """The wanted parameters as a checkpoint of a model with experts has them.

    Args:
      wanted: with the model's own shapes.
      stored: name to shape.
      axes: name to the axis of layers, of those that have one.

    Returns:
      What is to be read; of each parameter that is put together of several, where its layers are;
      and the names of those that start fresh, since the checkpoint has experts in their place.

    Raises:
      UserError: the checkpoint has no experts, or other layers.
    """
    if not any("/experts/" in name for name in stored):
        raise UserError(
            "InitialCheckpoint.without_experts is set, but the checkpoint has no experts: leave it "
            "out."
        )
    tree: dict[str, Any] = {}
    groups: dict[str, Group] = {}
    fresh: set[str] = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(wanted):
        name = path_name(path)
        found = None if name in stored else _group(name, leaf, stored, axes)
        if found is not None:
            groups[name] = found
            for part in found.parts.values():
                _put(tree, part, _like(leaf, tuple(stored[part].shape)))
        elif name not in stored and _has_experts(name, stored):
            fresh.add(name)
        else:
            _put(tree, name, leaf)
    return tree, groups, fresh


def _group(
    name: str, leaf: Any, stored: Mapping[str, Any], axes: Mapping[str, int]
) -> Group | None:
    """Where the layers of a parameter are; None where the checkpoint has no groups there."""
    before, has_layers, inner = name.partition(_LAYERS)
    begin = f"{before}{_LAYERS}block_"
    places = {
        int(number)
        for other in stored
        if other.startswith(begin) and (number := other[len(begin) :].partition("/")[0]).isdecimal()
    }
    if not has_layers or not places or name not in axes:
        return None
    size, axis = max(places) + 1, axes[name]
    names = {place: f"{begin}{place}/{inner}" for place in range(size)}
    parts = {place: one for place, one in names.items() if one in stored}
    for place, one in names.items():
        if place not in parts and not _has_experts(one, stored):
            return None  # it is of another model, which is said where shapes are compared
    for one in parts.values():
        there = stored[one].shape[axis] * size
        if there != leaf.shape[axis]:
            raise UserError(
                f"'{name}' has {leaf.shape[axis]} layers here and {there} in the checkpoint: a "
                "model without experts takes the others' weights layer by layer."
            )
    return Group(parts, size, axis)


def _has_experts(name: str, stored: Mapping[str, Any]) -> bool:
    """Whether experts stand where a model without them has this parameter of an MLP."""
    parents = name.split("/")
    above = ["/".join(parents[:end]) + "/experts/" for end in range(1, len(parents))]
    return any(other.startswith(one) for other in stored for one in above)


def _like(leaf: Any, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """A part of a parameter, whole on every device: its layers may not divide over the mesh."""
    sharding = getattr(leaf, "sharding", None)
    if sharding is not None:
        sharding = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)


def _put(tree: dict[str, Any], name: str, leaf: Any) -> None:
    *above, last = name.split("/")
    for key in above:
        tree = tree.setdefault(key, {})
    tree[last] = leaf


def joined(leaf: jax.Array, group: Group, read: Mapping[str, jax.Array], place: Any) -> jax.Array:
    """A parameter with the layers that were read in place of those that it was made with.

    Args:
      leaf: as the model makes it.
      group: where its layers are.
      read: name to what was read.
      place: the sharding in which that is put into it.
    """
    own = leaf.sharding
    for number, name in group.parts.items():
        where = (*(slice(None),) * group.axis, slice(number, None, group.size))
        leaf = leaf.at[where].set(jax.device_put(read[name], place))
    return jax.device_put(leaf, own)
