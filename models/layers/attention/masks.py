"""Attention masks: causal, windowed, packed and padded, made dense block by block."""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Mask:
    """An attention mask: a query may attend to a key where every condition allows it.

    Slots are counted from 0 along an axis, whatever the positions in a packed row are.

    Attributes:
      causal: whether a key must not come after its query; known at trace time, so that an
        implementation of attention may leave out what is always forbidden.
      window: with `causal`, how many keys a query sees at most: itself and those right before
        it; None is all. Known at trace time for the same reason.
      query_segments_bt: int `[b, t]`; with `key_segments_bs`, both must be equal.
      key_segments_bs: int `[b, s]`.
      key_valid_bs: bool `[b, s]`, keys that may be attended to at all.
      prefix_bt: bool `[b, t]`, slots of a prefix within which attention is bidirectional,
        although `causal` (a prefix language model).
      first_query: slot of the first query, int32 scalar, where there are keys before it; None
        stands for 0.
      query_ranks_bt: int `[b, t]`; with `key_ranks_bs`, a key's must be below the query's, whatever
        the slots are (a permutation language model, Yang et al. 2019, section 2.2).
      key_ranks_bs: int `[b, s]`.
      sees_itself: whether a query sees the key of its own slot in any case.
    """

    causal: bool = struct.field(pytree_node=False, default=False)
    window: int | None = struct.field(pytree_node=False, default=None)
    sees_itself: bool = struct.field(pytree_node=False, default=False)
    query_segments_bt: jax.Array | None = None
    key_segments_bs: jax.Array | None = None
    key_valid_bs: jax.Array | None = None
    prefix_bt: jax.Array | None = None
    first_query: jax.Array | None = None
    query_ranks_bt: jax.Array | None = None
    key_ranks_bs: jax.Array | None = None

    @property
    def first_slot(self) -> jax.Array | int:
        """Slot of the first query: 0 where there are no keys before it."""
        return 0 if self.first_query is None else self.first_query

    def visible_pairs(self, num_queries: int, num_keys: int) -> int:
        """Pairs of query and key that are allowed as far as is known at trace time."""
        if not self.causal or self.prefix_bt is not None or self.first_query is not None:
            return num_queries * num_keys
        window = num_queries if self.window is None else self.window
        ends = range(1, num_queries + 1)
        return sum(max(min(end, num_keys) - max(end - window, 0), 0) for end in ends)

    def dense(
        self, queries: tuple[jax.Array | int, int], keys: tuple[int, int]
    ) -> jax.Array | None:
        """Allowed pairs among some of the queries and some of the keys.

        Args:
          queries: slot of the first, counted from `first_query`, and how many.
          keys: slot of the first, and how many.

        Returns:
          bool `[b or 1, 1, queries, keys]`, or None where everything is allowed.
        """
        allowed = None
        t = queries[0] + jnp.arange(queries[1])[:, None]
        if self.first_query is not None:
            t += self.first_query
        s = keys[0] + jnp.arange(keys[1])[None, :]
        if self.causal:
            allowed = (s <= t)[None]
            if self.window is not None:
                allowed &= s > t - self.window
            if self.prefix_bt is not None:
                of_queries, of_keys = (part(self.prefix_bt, *range_) for range_ in (queries, keys))
                allowed |= of_queries[:, :, None] & of_keys[:, None, :]
        if self.query_segments_bt is not None and self.key_segments_bs is not None:
            of_queries = part(self.query_segments_bt, *queries)
            same = of_queries[:, :, None] == part(self.key_segments_bs, *keys)[:, None, :]
            allowed = same if allowed is None else allowed & same
        if self.query_ranks_bt is not None and self.key_ranks_bs is not None:
            of_queries = part(self.query_ranks_bt, *queries)
            below = part(self.key_ranks_bs, *keys)[:, None, :] < of_queries[:, :, None]
            allowed = below if allowed is None else allowed & below
        if self.key_valid_bs is not None:
            valid = part(self.key_valid_bs, *keys)[:, None, :]
            allowed = valid if allowed is None else allowed & valid
        if allowed is not None and self.sees_itself:
            allowed |= (s == t)[None]
        return None if allowed is None else allowed[:, None]


@struct.dataclass
class SentencesMask(Mask):
    """A mask that says too which sentence of its row each token is of.

    Attributes:
      sentences_bs: int32 `[b, s]`, counted from 1; 0 of a token that is of none. By itself it
        forbids nothing: patterns may ask for it.
    """

    sentences_bs: jax.Array | None = None


def part(x: jax.Array, first: jax.Array | int, count: int, axis: int = 1) -> jax.Array:
    """`count` elements of an axis, from one that may be known only at run time."""
    if isinstance(first, int):
        return jax.lax.slice_in_dim(x, first, first + count, axis=axis)
    return jax.lax.dynamic_slice_in_dim(x, first, count, axis)
