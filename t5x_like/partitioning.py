"""From logical axes to a device mesh.

Models name the logical axes of their parameters and activations; the table here says which
mesh axis each one is laid along. One device is a mesh too: every axis has size one.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from t5x_like.errors import UserError
from t5x_like.protocols import LanguageModel

MESH_AXES = ("data", "fsdp", "expert", "sequence", "tensor")
BATCH_AXES = ("data", "fsdp", "expert")  # the mesh axes that the rows of a batch are split over

Rules = Sequence[tuple[str, str | tuple[str, ...] | None]]

# An earlier rule takes its mesh axis first: on activations `batch` leaves none of `fsdp` to
# `embed`, on parameters, which have no batch, `embed` takes it.
STANDARD_RULES: Rules = (
    ("batch", BATCH_AXES),
    ("expert", "expert"),
    ("length", "sequence"),
    ("vocab", "tensor"),
    ("mlp", "tensor"),
    ("heads", "tensor"),
    ("joined_kv", "tensor"),
    ("embed", "fsdp"),
    ("kv", None),
    ("relpos_buckets", None),
    ("layers", None),
)


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """A mesh of named axis sizes and the rules that lay logical axes along it.

    Attributes:
      data: copies of the model, each with its share of the batch.
      fsdp: shares of the batch whose parameters are split too (ZeRO-3).
      expert: groups of experts.
      sequence: parts of the length axis of activations.
      tensor: parts of the heads, MLP and vocabulary axes (Megatron).
        At most one of these sizes is -1 and takes the devices that are left.
      rules: logical axis to mesh axes, in order of precedence.
      devices: the devices to use; all of them when None.
    """

    data: int = -1
    fsdp: int = 1
    expert: int = 1
    sequence: int = 1
    tensor: int = 1
    rules: Rules = STANDARD_RULES
    devices: Sequence[Any] | None = None

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The mesh.

        Raises:
          UserError: the sizes do not multiply to the number of devices.
        """
        devices = list(jax.devices() if self.devices is None else self.devices)
        sizes = axis_sizes({name: getattr(self, name) for name in MESH_AXES}, len(devices))
        shape = tuple(sizes.values())
        if len(devices) == 1:
            layout = np.array(devices).reshape(shape)
        else:
            layout = mesh_utils.create_device_mesh(shape, devices=devices)
        return Mesh(layout, MESH_AXES)

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Makes the mesh and the rules ambient, for tracing and running a model."""
        with self.mesh, nn.logical_axis_rules(self.rules):
            yield

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of scalars: the whole value on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch_sharding(self) -> NamedSharding:
        """The sharding of a batch's features, `[b, ...]`."""
        return NamedSharding(self.mesh, PartitionSpec(BATCH_AXES))

    def spec(self, axes: Sequence[str | None], shape: Sequence[int], name: str) -> PartitionSpec:
        """Where an array with these logical axes lies.

        Args:
          axes: logical axis of each dimension.
          shape: its size.
          name: the parameter, for the error.

        Raises:
          UserError: a dimension does not divide by its mesh axis.
        """
        taken: set[str] = set()
        assigned: list[tuple[str, ...] | str | None] = [None] * len(axes)
        for logical, target in self.rules:
            wanted = (target,) if isinstance(target, str) else tuple(target or ())
            if not wanted or logical not in axes or taken & set(wanted):
                continue
            dimension = list(axes).index(logical)
            parts = math.prod(self.mesh.shape[axis] for axis in wanted)
            if shape[dimension] % parts:
                raise UserError(
                    f"parameter {name} has {shape[dimension]} along '{logical}', which does not "
                    f"divide over mesh axis {'*'.join(wanted)}={parts}; choose a divisor of "
                    f"{shape[dimension]}."
                )
            taken |= set(wanted)
            assigned[dimension] = wanted if len(wanted) > 1 else wanted[0]
        return PartitionSpec(*assigned)

    def param_shardings(self, model: LanguageModel) -> Any:
        """A tree of shardings, one for each of the model's parameters."""
        shapes, axes = split_boxes(model.abstract_params())

        def sharding(path: Any, leaf: Any, names: tuple[str | None, ...]) -> NamedSharding:
            return NamedSharding(self.mesh, self.spec(names, leaf.shape, path_name(path)))

        # A tuple of names is a whole leaf here: `shapes` decides the structure.
        return jax.tree_util.tree_map_with_path(sharding, shapes, axes)

    def state_shardings(self, state_shapes: Any, model: LanguageModel) -> Any:
        """Shardings for a tree that holds copies or reductions of the parameters.

        A leaf whose path ends in a parameter's path is laid out as that parameter is; one
        that lacks a dimension of it (Adafactor's factors), as the parameter without that
        dimension; everything else is replicated.
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
        """Which share of every global batch this process reads: `(index, count)`.

        Taken from where the process's devices lie on the batch axes of the mesh, so that
        processes which hold the same rows read the same rows.
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

    def shard_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Global arrays from this process's rows, each `[rows, ...]`.

        Raises:
          UserError: the rows do not divide over the mesh.
        """
        sharding = self.batch_sharding
        _, count = self.data_shard()
        width = math.prod(self.mesh.shape[axis] for axis in BATCH_AXES)
        rows = len(next(iter(batch.values()))) * count
        if rows % width:
            raise UserError(
                f"BATCH_SIZE {rows} does not divide over {width} data shards; "
                f"choose a multiple of {width}."
            )
        if jax.process_count() == 1:
            return jax.device_put(dict(batch), sharding)
        return {
            name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
            for name, value in batch.items()
        }


def axis_sizes(requested: Mapping[str, int], devices: int) -> dict[str, int]:
    """The sizes with -1 replaced by what is left of `devices`.

    Raises:
      UserError: more than one -1, a size below 1, or a product other than `devices`.
    """
    free = [name for name, size in requested.items() if size == -1]
    fixed = math.prod(size for size in requested.values() if size != -1)
    shown = ", ".join(f"{name}={size}" for name, size in requested.items() if size != 1)
    if len(free) > 1 or any(size < 1 and size != -1 for size in requested.values()):
        raise UserError(f"mesh {shown}: sizes are positive, and at most one is -1.")
    if devices % fixed or (not free and fixed != devices):
        raise UserError(
            f"mesh {shown or 'of size 1'} does not fit {devices} devices: the sizes must "
            f"multiply to {devices}, or divide it with one of them -1."
        )
    return {name: devices // fixed if size == -1 else size for name, size in requested.items()}


def split_boxes(boxed: Any) -> tuple[Any, Any]:
    """A tree of `nn.LogicallyPartitioned` as two: the values, and their logical axes.

    A leaf of the second tree is a tuple of names; an unboxed leaf has a None for each
    dimension.
    """

    def is_box(leaf: Any) -> bool:
        return isinstance(leaf, nn.meta.AxisMetadata)

    def axes(leaf: Any) -> tuple[str | None, ...]:
        return tuple(leaf.names) if is_box(leaf) else (None,) * len(leaf.shape)

    values = jax.tree.map(nn.meta.unbox, boxed, is_leaf=is_box)
    return values, jax.tree.map(axes, boxed, is_leaf=is_box)


def path_keys(path: Any) -> tuple[str, ...]:
    """A tree path as plain names."""
    return tuple(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def path_name(path: Any) -> str:
    """A tree path as one name, `decoder/layers/mlp/wi`."""
    return "/".join(path_keys(path))


def _reduced_spec(
    shape: tuple[int, ...], full_shape: tuple[int, ...], spec: PartitionSpec
) -> PartitionSpec:
    """The spec of an array that is, or lacks one dimension of, a parameter."""
    entries = tuple(spec) + (None,) * (len(full_shape) - len(spec))
    if shape == full_shape:
        return spec
    candidates = {
        entries[:i] + entries[i + 1 :]
        for i in range(len(full_shape))
        if full_shape[:i] + full_shape[i + 1 :] == shape
    }
    return PartitionSpec(*candidates.pop()) if len(candidates) == 1 else PartitionSpec()
