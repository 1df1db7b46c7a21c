"""Looking n-grams up in a table, for many contexts at once.

Shapes: `k` n-grams of the contexts' order, `n` of the order above, `r` contexts, `v` vocabulary.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from models.model import Array

NOTHING = -1  # in place of a token that is not there, or of an n-gram that was not counted
_AT_ONCE = 128  # continuations of each context that are looked at together


def places(level: Mapping[str, Array], contexts: Array, tokens: Array, vocab_size: int) -> Array:
    """The places of n-grams in an order of the table, -1 where it has none; by binary search.

    Args:
      level: the order's arrays.
      contexts: places of the contexts in the order below, int32, -1 for none.
      tokens: what follows them, int32 of the same shape.
      vocab_size: no context has more continuations.
    """
    token_n, first_k = level["token"], level["first"]
    low = first_k[jnp.maximum(contexts, 0)]
    end = first_k[jnp.maximum(contexts, 0) + 1]

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        is_less = token_n[middle] < tokens
        open_ = low < high
        return (
            jnp.where(open_ & is_less, middle + 1, low),
            jnp.where(open_ & ~is_less, middle, high),
        )

    low, _ = jax.lax.fori_loop(0, vocab_size.bit_length(), halve, (low, end))
    found = (contexts >= 0) & (low < end) & (token_n[low] == tokens)
    return jnp.where(found, low, NOTHING)


def with_continuations(level: Mapping[str, Array], contexts_r: Array, p_rv: Array) -> Array:
    """Puts the probabilities of all continuations of the contexts in their places."""
    first_k = level["first"]
    places_r = jnp.maximum(contexts_r, 0)
    begin_r = first_k[places_r]
    size_r = jnp.where(contexts_r >= 0, first_k[places_r + 1] - begin_r, 0)
    rows_r1 = jnp.arange(p_rv.shape[0])[:, None]

    def unfinished(state: tuple[Array, Array]) -> Array:
        return state[0] < size_r.max()

    def put(state: tuple[Array, Array]) -> tuple[Array, Array]:
        done, p_rv = state
        steps = done + jnp.arange(_AT_ONCE)
        places = begin_r[:, None] + steps
        tokens = jnp.where(steps < size_r[:, None], level["token"][places], p_rv.shape[1])
        p_rv = p_rv.at[rows_r1, tokens].set(level["probability"][places], mode="drop")
        return done + _AT_ONCE, p_rv

    return jax.lax.while_loop(unfinished, put, (jnp.int32(0), p_rv))[1]
