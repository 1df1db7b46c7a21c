"""What the kernels do with a block of scores `[keys, queries]`, in operations that a TPU has.

Relative positions depend on a pair's distance alone, so a block of scores is constant along its
diagonals, or each of its columns is cut out of a longer one further down. Both are made by
moving whole rows, in as many steps as the block's size has bits; nothing is gathered.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

SUBLANES = 8
_ODD = (-0x61C88647, -0x7A143595, -0x3D4D51CB)  # as int32: odd constants of mixing functions


def spread(values_1n: jax.Array, rows: int) -> jax.Array:
    """Rows of which each is the one before, a lane further to the right.

    Args:
      values_1n: the first row, float32 `[1, n]`.
      rows: how many, 8 times a power of 2.

    Returns:
      `[rows, n]`, whose element (c, x) is `values[x - c]`, counted around.
    """
    x = jnp.broadcast_to(values_1n, (SUBLANES, values_1n.shape[1]))
    for bit in (1, 2, 4):
        x = jnp.where(_has_bit(x.shape, 0, bit), pltpu.roll(x, bit, 1), x)
    while x.shape[0] < rows:
        x = jnp.concatenate([x, pltpu.roll(x, x.shape[0], 1)], axis=0)
    return x


def gathered(x_cn: jax.Array) -> jax.Array:
    """The transpose of `spread`, `[1, n]`: sums over what one value was spread to."""
    n = x_cn.shape[1]
    while (half := x_cn.shape[0] // 2) >= SUBLANES:
        x_cn = x_cn[:half] + pltpu.roll(x_cn[half:], n - half, 1)
    for bit in (4, 2, 1):
        x_cn = jnp.where(_has_bit(x_cn.shape, 0, bit), pltpu.roll(x_cn, n - bit, 1), x_cn)
    return jnp.sum(x_cn, axis=0, keepdims=True)


def lowered(x_nq: jax.Array) -> jax.Array:
    """Moves column r down by r rows, counted around, `[n, queries]`."""
    bit = 1
    while bit < x_nq.shape[1]:
        x_nq = jnp.where(_has_bit(x_nq.shape, 1, bit), pltpu.roll(x_nq, bit, 0), x_nq)
        bit *= 2
    return x_nq


def raised(x_nq: jax.Array) -> jax.Array:
    """Moves column r up by r rows: the transpose of `lowered`, and its inverse."""
    n, bit = x_nq.shape[0], 1
    while bit < x_nq.shape[1]:
        x_nq = jnp.where(_has_bit(x_nq.shape, 1, bit), pltpu.roll(x_nq, n - bit, 0), x_nq)
        bit *= 2
    return x_nq


def column(row_1n: jax.Array) -> jax.Array:
    """A row as a column, `[n, 1]`."""
    n = row_1n.shape[1]
    return jnp.broadcast_to(row_1n, (SUBLANES, n)).T[:, :1]


def kept(
    seed_11: jax.Array, keys_c1: jax.Array, queries_1r: jax.Array, threshold: int
) -> jax.Array:
    """Which weights are kept, drawn for each pair of slots, bool `[keys, queries]`.

    A function of the seed and the two slots, whatever the blocks are, so that the backward pass
    draws the same again.

    Args:
      seed_11: int32 `[1, 1]`.
      keys_c1: slots of the keys, int32 `[c, 1]`; constant where all keys share a draw.
      queries_1r: slots of the queries, int32 `[1, r]`, likewise.
      threshold: of 65536, how many are dropped.
    """
    of_keys = mixed(keys_c1 * _ODD[0] + seed_11)
    of_queries = mixed(queries_1r * _ODD[1] ^ seed_11)
    words = mixed(of_keys ^ of_queries)
    return jax.lax.shift_right_logical(words, 16) >= threshold


def mixed(x: jax.Array) -> jax.Array:
    """Mixes the bits of int32 words, one to one: the finalizer of MurmurHash3 (Appleby 2011)."""
    x ^= jax.lax.shift_right_logical(x, 16)
    x *= _ODD[1]
    x ^= jax.lax.shift_right_logical(x, 13)
    x *= _ODD[2]
    return x ^ jax.lax.shift_right_logical(x, 16)


def _has_bit(shape: tuple[int, ...], axis: int, bit: int) -> jax.Array:
    return (jax.lax.broadcasted_iota(jnp.int32, shape, axis) & bit) != 0
