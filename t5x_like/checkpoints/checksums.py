"""Checksums of a checkpoint's arrays, independent of how they are sharded.

An array's words, 32 bits or less, are each multiplied by an odd number that depends on their index,
and summed modulo 2**32. A change of any one word changes the sum, because an odd factor is
invertible. Partial sums add up, so each device sums its own shard, and the array may be read with
another mesh.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5x_like.partitioning import path_name

# Odd and different, so that neighbours along any axis have different factors.
_AXIS_FACTORS = (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F, 0x165667B1, 0xD3A2646D, 0xFD7046C5)


def checksums(tree: Any) -> dict[str, int]:
    """Computes name to checksum of every array of a tree, in `[0, 2**32)`.

    Args:
      tree: arrays of at most 32 bits a word, all on the same devices.
    """
    named = jax.tree_util.tree_leaves_with_path(tree)
    sums = np.asarray(_sums([leaf for _, leaf in named])) if named else np.zeros(0, np.uint32)
    return {path_name(path): int(value) for (path, _), value in zip(named, sums, strict=True)}


def damaged(tree: Any, recorded: Mapping[str, int]) -> list[str]:
    """Names of arrays whose checksum is not the recorded one; unrecorded ones are not checked."""
    return [name for name, value in checksums(tree).items() if recorded.get(name, value) != value]


@jax.jit
def _sums(leaves: Sequence[jax.Array]) -> jax.Array:
    return jnp.stack([_sum(leaf) for leaf in leaves])


def _sum(leaf: jax.Array) -> jax.Array:
    bits = jnp.dtype(leaf.dtype).itemsize * 8
    if leaf.dtype == jnp.bool_:
        words = leaf.astype(jnp.uint32)
    else:
        words = jax.lax.bitcast_convert_type(leaf, f"uint{bits}").astype(jnp.uint32)
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for axis in range(leaf.ndim):
        along = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        place = place * jnp.uint32(_AXIS_FACTORS[axis]) + along
    place = (place ^ (place >> 15)) * jnp.uint32(0x2C1B3C6D)
    return jnp.sum(words * (place | jnp.uint32(1)), dtype=jnp.uint32)
