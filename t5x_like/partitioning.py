"""Maps logical axes to a device mesh.

Models name the logical axes of their parameters and activations; the rules here map each to mesh
axes. A single device is a mesh too, with every axis of size one.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from t5x_like.distributed.axis_rules import (
    BATCH_AXES,
    RULE_SETS,
    SHARED_HEADS,
    Rules,
    check_logical_axes,
    check_mesh_axes,
    mesh_axes_of,
)
from t5x_like.distributed.mesh import MESH_AXES, make_mesh
from t5x_like.errors import UserError
from t5x_like.protocols import Model


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """A mesh of named axis sizes and the rules that lay logical axes along it.

    Attributes:
      data: copies of the model, each with its share of the batch.
      fsdp: shares of the batch whose parameters are split too (ZeRO-3).
      expert: groups of experts, which also share the batch.
      sequence: parts of the length axis of activations.
      tensor: parts of the heads, MLP and vocabulary axes (Megatron).
        At most one of these sizes, which are those within a slice, is -1 and takes the
        devices that are left.
      dcn_data: the same across slices, joined by the slower network; takes what is left.
      dcn_fsdp: see `dcn_data`.
      dcn_expert: see `dcn_data`.
      dcn_sequence: see `dcn_data`.
      dcn_tensor: see `dcn_data`.
      num_partitions: T5X's name of `tensor`.
      model_parallel_submesh: T5X's block of chips that one `tensor` group occupies: `(x, y, z,
        cores)` of a TPU, `(processes, local devices)` elsewhere; implies `tensor`.
      rules: one of `RULE_SETS`, or logical axis to mesh axes, in order of precedence.
      replicate_below: parameters of fewer elements are not divided.
      replicate_kv_heads: whether every device has the projections to keys and values of all heads
        where several heads of queries share one and `tensor` does not divide these; refused if not.
      devices: the devices to use; all of them when None.
    """

    data: int = -1
    fsdp: int = 1
    expert: int = 1
    sequence: int = 1
    tensor: int = 1
    dcn_data: int = -1
    dcn_fsdp: int = 1
    dcn_expert: int = 1
    dcn_sequence: int = 1
    dcn_tensor: int = 1
    num_partitions: int | None = None
    model_parallel_submesh: Sequence[int] | None = None
    rules: str | Rules = "standard"
    replicate_below: int = 2**15
    replicate_kv_heads: bool = False
    devices: Sequence[Any] | None = None

    @functools.cached_property
    def mesh(self) -> Mesh:
        """Makes the mesh.

        Raises:
          UserError: the sizes do not multiply to the number of devices, contradict one
            another, or give an axis that no rule uses.
        """
        devices = list(jax.devices() if self.devices is None else self.devices)
        within = {name: getattr(self, name) for name in MESH_AXES}
        within["tensor"] = self._tensor_size()
        across = {name: getattr(self, f"dcn_{name}") for name in MESH_AXES}
        mesh = make_mesh(within, across, devices, self.model_parallel_submesh)
        used = {axis for _, target in self.axis_rules for axis in mesh_axes_of(target)}
        for axis, size in mesh.shape.items():
            if size > 1 and axis not in used:
                raise UserError(
                    f"mesh axis {axis}={size} is used by no rule of '{self.rules}': choose other "
                    f"rules, such as 'standard', or {axis}=1."
                )
        return mesh

    def _tensor_size(self) -> int:
        submesh = self.model_parallel_submesh
        asked = {
            "tensor": self.tensor if self.tensor != 1 else None,
            "num_partitions": self.num_partitions,
            "model_parallel_submesh": None if submesh is None else math.prod(submesh),
        }
        given = {name: size for name, size in asked.items() if size is not None}
        if len(set(given.values())) > 1:
            shown = ", ".join(f"{name} {size}" for name, size in given.items())
            raise UserError(f"Partitioner: {shown} say different sizes of one axis.")
        return next(iter(given.values()), 1)

    @property
    def axis_rules(self) -> Rules:
        """The rules from logical axis to mesh axes, in order of precedence.

        Raises:
          UserError: an unknown name.
        """
        if not isinstance(self.rules, str):
            check_mesh_axes(self.rules)
            return self.rules
        if self.rules not in RULE_SETS:
            raise UserError(
                f"Partitioner.rules '{self.rules}' is unknown: one of {', '.join(RULE_SETS)}."
            )
        return RULE_SETS[self.rules]

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Sets the mesh and the rules as context for tracing and running a model."""
        with jax.set_mesh(self.mesh), nn.logical_axis_rules(self.axis_rules):
            yield

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of scalars: replicated on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch_sharding(self) -> NamedSharding:
        """The sharding of a batch's features, `[b, ...]`."""
        return NamedSharding(self.mesh, PartitionSpec(BATCH_AXES))

    def spec(self, axes: Sequence[str | None]) -> PartitionSpec:
        """The `PartitionSpec` of an array with these logical axes."""
        return _spec_of(self._assigned(axes), len(axes))

    def _assigned(self, axes: Sequence[str | None]) -> dict[int, tuple[str, ...]]:
        """Dimension -> the mesh axes that divide it, by the rules in their order."""
        taken: set[str] = set()
        assigned: dict[int, tuple[str, ...]] = {}
        for logical, target in self.axis_rules:
            wanted = mesh_axes_of(target)
            if not wanted or logical not in axes or taken & set(wanted):
                continue
            dimension = list(axes).index(logical)
            if dimension not in assigned:
                taken |= set(wanted)
                assigned[dimension] = wanted
        return assigned

    def param_shardings(self, model: Model) -> Any:
        """Makes a tree with the sharding of each parameter of the model.

        A vocabulary that does not divide over its mesh axes is whole on each of their devices: the
        compiler pads it where it computes with it in parts.

        Raises:
          UserError: a parameter does not divide over its mesh axes.
        """
        shapes, axes = split_boxes(model.abstract_params())
        check_logical_axes(self.axis_rules, jax.tree.leaves(axes))
        blocks = model.axis_blocks()
        divided: list[_Divided] = []
        may_be_whole = {"vocab", SHARED_HEADS} if self.replicate_kv_heads else {"vocab"}

        def sharding(path: Any, leaf: Any, names: tuple[str | None, ...]) -> NamedSharding:
            # Layers are scanned, so the size of one layer's parameter counts.
            stacked = zip(names, leaf.shape, strict=True)
            small = math.prod(n for axis, n in stacked if axis != "layers") < self.replicate_below
            assigned = {}
            for dimension, wanted in self._assigned(names).items():
                axis, size = str(names[dimension]), leaf.shape[dimension]
                # Tokens travel to their experts, however small these are.
                if small and axis != "expert":
                    continue
                one = _Divided(path_name(path), axis, size, blocks.get(axis, 1), wanted)
                if axis in may_be_whole and one.units % one.parts(self.mesh.shape):
                    continue
                assigned[dimension] = wanted
                divided.append(one)
            if small:
                return self.replicated
            return NamedSharding(self.mesh, _spec_of(assigned, len(names)))

        # A tuple of names is a leaf here: `shapes` has the structure.
        made = jax.tree_util.tree_map_with_path(sharding, shapes, axes)
        _check_divisions(divided, self.mesh.shape)
        return made

    def state_shardings(self, state_shapes: Any, model: Model) -> Any:
        """Makes shardings for a tree that holds copies or reductions of the parameters.

        A leaf whose path ends in a parameter's path has that parameter's sharding; without the
        missing dimension if it lacks one (Adafactor's factors). Everything else is replicated.
        """
        shapes, _ = split_boxes(model.abstract_params())
        specs = self.param_shardings(model)
        by_path = {
            path_keys(path): (leaf.shape, sharding.spec)
            for (path, leaf), sharding in zip(
                jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(specs), strict=True
            )
        }

        def sharding(path: Any, leaf: Any) -> NamedSharding:
            keys = path_keys(path)
            for start in range(len(keys)):
                if keys[start:] in by_path:
                    shape, spec = by_path[keys[start:]]
                    return NamedSharding(self.mesh, _reduced_spec(leaf.shape, shape, spec))
            return self.replicated

        return jax.tree_util.tree_map_with_path(sharding, state_shapes)

    def data_shard(self) -> tuple[int, int]:
        """The share of every global batch that this process reads: `(index, count)`.

        It follows from where the process's devices are on the batch axes of the mesh, so that
        processes that hold the same rows read the same rows.
        """
        axes = [self.mesh.axis_names.index(axis) for axis in BATCH_AXES]
        width = math.prod(self.mesh.devices.shape[axis] for axis in axes)
        rows = np.moveaxis(self.mesh.devices, axes, range(len(axes))).reshape(width, -1)
        mine = [
            row
            for row in range(width)
            if any(device.process_index == jax.process_index() for device in rows[row])
        ]
        if not mine or width % len(mine):
            raise UserError(f"this process holds no even share of the mesh's {width} batch rows.")
        return mine[0] // len(mine), width // len(mine)

    def check_rows(self, batch_size: int) -> None:
        """Raises `UserError` if the rows of a global batch do not divide over the mesh."""
        width = math.prod(self.mesh.shape[axis] for axis in BATCH_AXES)
        if batch_size % width:
            raise UserError(
                f"BATCH_SIZE {batch_size} does not divide over {width} data shards (mesh axes "
                f"{', '.join(BATCH_AXES)}): choose a multiple, such as "
                f"{max(batch_size // width, 1) * width}."
            )

    def shard_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Makes global arrays from this process's rows, each `[rows, ...]`.

        Raises:
          UserError: the rows do not divide over the mesh.
        """
        sharding = self.batch_sharding
        _, count = self.data_shard()
        self.check_rows(len(next(iter(batch.values()))) * count)
        if jax.process_count() == 1:
            return jax.device_put(dict(batch), sharding)
        return {
            name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
            for name, value in batch.items()
        }

    def shard_rows(self, value: np.ndarray) -> jax.Array:
        """Divides an array that every process has as a whole, `[rows, ...]`, as batches are."""
        sharding = self.batch_sharding
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def split_boxes(boxed: Any) -> tuple[Any, Any]:
    """Splits a tree of `nn.LogicallyPartitioned` into the values and their logical axes.

    A leaf of the second tree is a tuple of names; that of an unboxed leaf has a None for each
    dimension.
    """

    def is_box(leaf: Any) -> bool:
        return isinstance(leaf, nn.meta.AxisMetadata)

    def axes(leaf: Any) -> tuple[str | None, ...]:
        return tuple(leaf.names) if is_box(leaf) else (None,) * len(leaf.shape)

    values = jax.tree.map(nn.meta.unbox, boxed, is_leaf=is_box)
    return values, jax.tree.map(axes, boxed, is_leaf=is_box)


def _spec_of(assigned: Mapping[int, tuple[str, ...]], num_dimensions: int) -> PartitionSpec:
    parts = (assigned.get(dimension, ()) for dimension in range(num_dimensions))
    return PartitionSpec(*(e if len(e) > 1 else e[0] if e else None for e in parts))


@dataclasses.dataclass(frozen=True)
class _Divided:
    """A dimension of a parameter that mesh axes divide, into no less than whole blocks."""

    name: str
    logical: str
    size: int
    block: int
    mesh_axes: tuple[str, ...]

    @property
    def units(self) -> int:
        return self.size // self.block

    def parts(self, mesh: Mapping[str, int]) -> int:
        return math.prod(mesh[axis] for axis in self.mesh_axes)


def _check_divisions(divided: Sequence[_Divided], mesh: Mapping[str, int]) -> None:
    """Raises `UserError` for the first dimension that does not divide over its mesh axes.

    What it offers is a size that every dimension on these axes divides by.
    """
    for one in divided:
        parts = one.parts(mesh)
        if one.units % parts == 0:
            continue
        beside = [other for other in divided if other.mesh_axes == one.mesh_axes]
        failing = {(other.logical, other.units) for other in beside if other.units % parts}
        failing.discard((one.logical, one.units))
        also = "".join(f", nor do {units} along '{logical}'" for logical, units in sorted(failing))
        held = f" in {one.units} blocks of {one.block}" if one.block > 1 else ""
        wanted = f"{_nearest_multiples(one.units, parts)} there"
        whole = ", or Partitioner.replicate_kv_heads=True" if one.logical == SHARED_HEADS else ""
        raise UserError(
            f"parameter {one.name} has {one.size} along '{one.logical}'{held}, which does not "
            f"divide over mesh axis {'*'.join(one.mesh_axes)}={parts}{also}: choose "
            f"{_nearest_divisors(math.gcd(*(other.units for other in beside)), parts)}, or a model "
            f"with {f'multiples of {parts} in all of these' if failing else wanted}{whole}."
        )


def _nearest_divisors(units: int, parts: int) -> str:
    """The divisors of `units` next to `parts`, in words."""
    divisors = [n for n in range(1, units + 1) if units % n == 0]
    below = max((n for n in divisors if n < parts), default=None)
    above = min((n for n in divisors if n > parts), default=None)
    return " or ".join(str(n) for n in (below, above) if n is not None)


def _nearest_multiples(units: int, parts: int) -> str:
    below = units // parts * parts
    return f"{below} or {below + parts}" if below else str(parts)


def subtree(tree: Any, wanted: Callable[[str], bool], prefix: str = "") -> dict[str, Any]:
    """Selects the leaves whose names are wanted, as nested dictionaries."""
    result = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if inner := subtree(value, wanted, f"{name}/"):
                result[key] = inner
        elif wanted(name):
            result[key] = value
    return result


def with_subtree(tree: Any, part: Any) -> Any:
    """A tree with the leaves of `part` in their places, whether there were others or none."""
    if not isinstance(part, Mapping):
        return part
    return {**tree, **{key: with_subtree(tree.get(key, {}), one) for key, one in part.items()}}


def path_keys(path: Any) -> tuple[str, ...]:
    """Converts a tree path to plain names."""
    return tuple(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def path_name(path: Any) -> str:
    """Converts a tree path to one name, `decoder/layers/mlp/wi`."""
    return "/".join(path_keys(path))


def _reduced_spec(
    shape: tuple[int, ...], full_shape: tuple[int, ...], spec: PartitionSpec
) -> PartitionSpec:
    """The spec of an array that is a parameter, or a parameter without one dimension."""
    entries = tuple(spec) + (None,) * (len(full_shape) - len(spec))
    if shape == full_shape:
        return spec
    candidates = {
        entries[:i] + entries[i + 1 :]
        for i in range(len(full_shape))
        if full_shape[:i] + full_shape[i + 1 :] == shape
    }
    return PartitionSpec(*candidates.pop()) if len(candidates) == 1 else PartitionSpec()
