"""Builds meshes with named axes: fast links within a slice, slow ones between slices.

A slice is a set of chips joined by their own interconnect (ICI): a TPU pod slice, or one host of
GPUs with NVLink. Slices communicate over the data centre's network (DCN).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh

from t5x_like.errors import UserError

MESH_AXES = ("data", "fsdp", "expert", "sequence", "tensor")


def make_mesh(
    within: Mapping[str, int],
    across: Mapping[str, int],
    devices: Sequence[Any],
    model_parallel_submesh: Sequence[int] | None = None,
) -> Mesh:
    """Makes a mesh; each axis size is its size within a slice times that across slices.

    JAX's mesh utilities order the devices so that the later axes, which communicate most, join near
    neighbours.

    Args:
      within: size of each axis of `MESH_AXES` within a slice; one may be -1.
      across: the same across slices.
      devices: all of them.
      model_parallel_submesh: the block of chips that one `tensor` group occupies, see
        `_submesh_layout`; None leaves it to JAX.

    Raises:
      UserError: the sizes do not multiply to the devices, or to the slices.
    """
    slices = split_by_slice(devices)
    outer = tuple(axis_sizes(across, len(slices), "slices").values())
    inner = tuple(axis_sizes(within, len(slices[0]), "devices of a slice").values())

    def layout(members: list[Any]) -> np.ndarray:
        if model_parallel_submesh is not None:
            return _submesh_layout(members, inner, tuple(model_parallel_submesh))
        if len(members) == 1:
            return np.array(members).reshape(inner)
        return mesh_utils.create_device_mesh(inner, members, allow_split_physical_axes=True)

    blocks = np.empty(outer, object)
    for place, members in zip(np.ndindex(outer), slices, strict=True):
        blocks[place] = layout(members)
    return Mesh(np.block(blocks.tolist()), MESH_AXES)


def split_by_slice(devices: Sequence[Any]) -> list[list[Any]]:
    """Groups devices by slice, or by host where devices have no slices.

    Raises:
      UserError: slices of different sizes.
    """
    slices: dict[int, list[Any]] = {}
    for device in devices:
        # GPUs have no slices; their hosts take that part.
        default = device.process_index if device.platform == "gpu" else 0
        slices.setdefault(getattr(device, "slice_index", default) or 0, []).append(device)
    members = [slices[index] for index in sorted(slices)]
    if len({len(part) for part in members}) > 1:
        raise UserError(f"slices of {', '.join(str(len(part)) for part in members)} devices.")
    return members


def axis_sizes(requested: Mapping[str, int], count: int, what: str = "devices") -> dict[str, int]:
    """Replaces -1 by the size that makes the product equal `count`.

    Args:
      requested: size of each axis.
      count: what the sizes must multiply to.
      what: the name of `count` in errors.

    Raises:
      UserError: more than one -1, a size below 1, or a product other than `count`.
    """
    free = [name for name, size in requested.items() if size == -1]
    fixed = math.prod(size for size in requested.values() if size != -1)
    shown = ", ".join(f"{name}={size}" for name, size in requested.items() if size != 1)
    if len(free) > 1 or any(size < 1 and size != -1 for size in requested.values()):
        raise UserError(f"mesh {shown}: sizes are positive, and at most one is -1.")
    if count % fixed or (not free and fixed != count):
        raise UserError(
            f"mesh {shown or 'of size 1'} does not fit {count} {what}: the sizes must "
            f"multiply to {count}, or divide it with one of them -1."
        )
    return {name: count // fixed if size == -1 else size for name, size in requested.items()}


def _submesh_layout(
    devices: Sequence[Any], shape: tuple[int, ...], submesh: tuple[int, ...]
) -> np.ndarray:
    """Orders devices by T5X's rule: each `tensor` group is a block of neighbouring chips.

    Args:
      devices: of one slice.
      shape: sizes of `MESH_AXES`, `tensor` the last.
      submesh: T5X's `(x, y, z, cores)` of a TPU, `(processes, local devices)` elsewhere.

    Raises:
      UserError: the block does not tile the slice, or is not the size of `tensor`.
    """
    places = np.array(_places(devices, len(submesh)))
    bounds = tuple(int(n) for n in places.max(axis=0) + 1)
    if math.prod(submesh) != shape[-1] or any(n % m for n, m in zip(bounds, submesh, strict=True)):
        raise UserError(
            f"model_parallel_submesh {submesh} does not tile a slice of {bounds} into groups of "
            f"tensor={shape[-1]}: every number must divide its bound, and all multiply to tensor."
        )
    grid = np.empty(bounds, object)
    for place, device in zip(places, devices, strict=True):
        grid[tuple(place)] = device
    split = [part for n, m in zip(bounds, submesh, strict=True) for part in (n // m, m)]
    outer, inner = range(0, len(split), 2), range(1, len(split), 2)
    return grid.reshape(split).transpose(*outer, *inner).reshape(shape)


def _places(devices: Sequence[Any], dimensions: int) -> list[tuple[int, ...]]:
    """The coordinates of each device, as many as a submesh has numbers."""
    if dimensions == 4 and hasattr(devices[0], "coords"):
        return [(*device.coords, getattr(device, "core_on_chip", 0)) for device in devices]
    if dimensions != 2 or hasattr(devices[0], "coords"):
        raise UserError(
            "model_parallel_submesh is (x, y, z, cores) on a TPU and (processes, local devices) "
            f"elsewhere: {dimensions} numbers were given for {devices[0].platform}."
        )
    met: dict[int, int] = {}
    places: list[tuple[int, ...]] = []
    for device in devices:
        local = met.setdefault(device.process_index, 0)
        places.append((list(met).index(device.process_index), local))
        met[device.process_index] += 1
    return places
