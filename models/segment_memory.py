"""The memory of a Transformer: what entered each layer of tokens before a row (Dai et al. 2019).

A memory is the carry of contiguous rows: `states`, `[b, layers, m, e]`, of which the last ones
count, and `length`, int32 `[b]`, how many those are.
"""

import jax
import jax.numpy as jnp

from models.layers.attention.masks import part
from models.model import Array

Memory = dict[str, Array]


def empty(rows: int, layers: int, length: int, width: int, dtype: str, filled: int = 0) -> Memory:
    """A memory of zeros, of which the last `filled` tokens count."""
    states = jnp.zeros((rows, layers, length, width), dtype)
    return {"states": states, "length": jnp.full(rows, filled, jnp.int32)}


def continued(memory: Memory, fresh: Memory, row_continues: Array | None) -> Memory:
    """The memory, and `fresh` in the rows where `row_continues`, int `[b]`, is 0."""
    if row_continues is None:
        return memory

    def chosen(old: Array, new: Array) -> Array:
        return jnp.where(row_continues.reshape(-1, *(1,) * (old.ndim - 1)) == 0, new, old)

    return jax.tree.map(chosen, memory, fresh)


def histories(memory: Memory) -> Array:
    """The states as layers read them, `[layers, b, m, e]`."""
    return jnp.moveaxis(memory["states"], 1, 0)


def seen(memory: Memory) -> Array:
    """Which tokens of a memory count, bool `[b, m]`."""
    m = memory["states"].shape[2]
    return jnp.arange(m) >= m - memory["length"][:, None]


def remembered(memory: Memory, inputs_lbte: Array, segments_bt: Array | None) -> Memory:
    """The memory after a row.

    Args:
      memory: before it.
      inputs_lbte: what entered each layer of the row's tokens.
      segments_bt: int, 0 on padding, which is at the end of a row; of several texts in it the last
        one continues. None is one text without padding.
    """
    m, t = memory["states"].shape[2], inputs_lbte.shape[2]
    states = jnp.concatenate([memory["states"], jnp.moveaxis(inputs_lbte, 0, 1)], axis=2)
    if segments_bt is None:
        return {"states": states[:, :, -m:], "length": jnp.minimum(memory["length"] + t, m)}
    text_bt = segments_bt != 0
    end_b = jnp.max(text_bt * (jnp.arange(t) + 1), axis=1)
    last_b = segments_bt.max(axis=1)
    count_b = ((segments_bt == last_b[:, None]) & text_bt).sum(axis=1, dtype=jnp.int32)
    before_b = jnp.where(last_b > 1, 0, memory["length"])
    return {
        "states": jax.vmap(lambda x_lse, end: part(x_lse, end, m))(states, end_b),
        "length": jnp.minimum(before_b + count_b, m),
    }
