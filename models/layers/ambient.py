"""What the engine has made ambient around a model: a mesh and the rules of logical axes.

Almost no layer needs to know. Those that do ask here, and get 1 where there is no mesh.
"""

import math

import jax
from flax import linen as nn


def shard_count(axis: str) -> int:
    """How many parts the logical axis is divided into, on an array that has no other axis."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return 1
    (target,) = nn.logical_to_mesh_axes((axis,))
    names = (target,) if isinstance(target, str) else tuple(target or ())
    return math.prod(mesh.shape[name] for name in names)
