"""The mesh, the rules of logical axes and the platform of the current context.

Almost no layer needs to know. Those that do ask here, and get 1 where there is no mesh.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import PartitionSpec


def shard_counts(axes: tuple[str | None, ...]) -> tuple[int, ...]:
    """How many parts each dimension of an array with these logical axes is divided into."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return (1,) * len(axes)
    targets = nn.logical_to_mesh_axes(axes) or ()
    names = ((target,) if isinstance(target, str) else tuple(target or ()) for target in targets)
    return tuple(math.prod(mesh.shape[name] for name in group) for group in names)


def platform() -> str:
    """The platform that the program is for: "cpu", "gpu" or "tpu"."""
    return "tpu" if device_kind().lower().startswith("tpu") else jax.default_backend()


def device_kind() -> str:
    """The devices that the program is for, as their driver calls them: "TPU v4"."""
    # A mesh may be of devices that are only compiled for.
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    return jax.devices()[0].device_kind if device is None else device.device_kind


def per_shard(
    function: Callable[..., Any], axes: Any, result_axes: tuple[str | None, ...]
) -> Callable[..., Any]:
    """Maps `function` over the devices, each with its own shard of the arguments.

    Args:
      function: of arrays.
      axes: for each argument the logical axes of its dimensions, in a tree of tuples.
      result_axes: those of the result.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return function

    def spec(names: tuple[str | None, ...]) -> PartitionSpec:
        return nn.logical_to_mesh_axes(names) or PartitionSpec()

    def is_names(node: Any) -> bool:
        return isinstance(node, tuple) and all(n is None or isinstance(n, str) for n in node)

    in_specs = jax.tree.map(spec, axes, is_leaf=is_names)
    return jax.shard_map(function, in_specs=in_specs, out_specs=spec(result_axes), check_vma=False)
