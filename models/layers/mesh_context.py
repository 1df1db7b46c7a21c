"""The mesh, the rules of logical axes and the platform of the current context.

Almost no layer needs to know. Those that do ask here, and get 1 where there is no mesh.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec

_shapes_alone = contextvars.ContextVar("_shapes_alone", default=False)


@contextlib.contextmanager
def shapes_alone() -> Iterator[None]:
    """A context in which functions are traced for shapes, which no platform changes.

    It answers as a CPU would, and looks for no device: a process that only counts parameters takes
    none from those that train.
    """
    token = _shapes_alone.set(True)
    try:
        yield
    finally:
        _shapes_alone.reset(token)


def shard_counts(axes: tuple[str | None, ...]) -> tuple[int, ...]:
    """How many parts each dimension of an array with these logical axes is divided into.

    One in a function that is mapped over the devices: its arrays are one device's.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.are_all_axes_manual:
        return (1,) * len(axes)
    targets = nn.logical_to_mesh_axes(axes) or ()
    names = ((target,) if isinstance(target, str) else tuple(target or ()) for target in targets)
    return tuple(math.prod(mesh.shape[name] for name in group) for group in names)


def copies(x: jax.Array, num_rows: int) -> jax.Array:
    """Copies of an array, one for each part that the rows of a batch are divided into.

    What is computed from a copy for its rows is computed on the devices of these rows alone. So is
    its gradient, and only the sum over the copies travels: a gradient of the array's size, however
    large what was made of it is, and once, however often that was read.

    Args:
      x: what all rows share, such as a parameter.
      num_rows: of the batch, over which the copies are spread evenly.

    Returns:
      `[copies, *x.shape]`; one copy where the batch is not divided, or not evenly.
    """
    (shards,) = shard_counts(("batch",))
    if shards == 1 or num_rows % shards:
        return x[None]
    spread = jnp.broadcast_to(x, (shards, *x.shape))
    return nn.with_logical_constraint(spread, ("batch", *(None,) * x.ndim))


def platform() -> str:
    """The platform that the program is for: "cpu", "gpu" or "tpu"."""
    if _shapes_alone.get():
        return "cpu"
    return "tpu" if device_kind().lower().startswith("tpu") else jax.default_backend()


def device_kind() -> str:
    """The devices that the program is for, as their driver calls them: "TPU v4"."""
    if _shapes_alone.get():
        return "cpu"
    # A mesh may be of devices that are only compiled for.
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    return jax.devices()[0].device_kind if device is None else device.device_kind


def per_shard(
    function: Callable[..., Any], axes: Any, result_axes: tuple[str | None, ...]
) -> Callable[..., Any]:
    """Maps `function` over the devices, each with its own shard of the arguments.

    A function that is called where this was done already is left as it is.

    Args:
      function: of arrays.
      axes: for each argument the logical axes of its dimensions, in a tree of tuples.
      result_axes: those of the result.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.are_all_axes_manual:
        return function

    def spec(names: tuple[str | None, ...]) -> PartitionSpec:
        return nn.logical_to_mesh_axes(names) or PartitionSpec()

    def is_names(node: Any) -> bool:
        return isinstance(node, tuple) and all(n is None or isinstance(n, str) for n in node)

    in_specs = jax.tree.map(spec, axes, is_leaf=is_names)
    return jax.shard_map(function, in_specs=in_specs, out_specs=spec(result_axes), check_vma=False)
