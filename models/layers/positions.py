"""Where a token stands: T5's relative buckets, learned tables.

A position scheme acts in one of three places and is an object given to that place: it adds
to the embeddings (`LearnedPositions`), adds a bias to the attention scores
(`RelativePositionBias`), or turns queries and keys (`Attention.rotation`).
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.errors import ModelError
from models.layers.linear import Initializer, axis_names


def relative_position_bucket(
    relative_position: jax.Array, *, bidirectional: bool, num_buckets: int, max_distance: int
) -> jax.Array:
    """T5's bucket of a distance (Raffel et al. 2020, section 2.1).

    Half of the buckets stand for one distance each, the other half for ranges that grow
    logarithmically up to `max_distance`, beyond which all distances share the last one.

    Args:
      relative_position: int, any shape: slot of the key minus slot of the query.
      bidirectional: whether keys after the query have buckets of their own, the upper half;
        otherwise they all fall in bucket 0.
      num_buckets: how many buckets.
      max_distance: distance from which on all share one bucket.

    Returns:
      int32 in `[0, num_buckets)`, the same shape.
    """
    behind = -relative_position
    first = jnp.zeros_like(behind)
    if bidirectional:
        num_buckets //= 2
        first = jnp.where(behind < 0, num_buckets, 0)
        behind = jnp.abs(behind)
    else:
        behind = jnp.maximum(behind, 0)
    exact = num_buckets // 2
    # The reference implementations take float32 logarithms; other precisions move borders.
    ratio = jnp.log(jnp.maximum(behind, 1).astype(jnp.float32) / exact) / math.log(
        max_distance / exact
    )
    ranged = exact + (ratio * (num_buckets - exact)).astype(jnp.int32)
    ranged = jnp.minimum(ranged, num_buckets - 1)
    return (first + jnp.where(behind < exact, behind, ranged)).astype(jnp.int32)


def spread_diagonals(values_hn: jax.Array, num_queries: int, num_keys: int) -> jax.Array:
    """The matrix that is constant along its diagonals.

    By reshaping rather than by gathering, so that the gradient is a sum and not a scatter.

    Args:
      values_hn: `[h, queries + keys - 1]`, for the distances `-(queries - 1) .. keys - 1`.
      num_queries: rows of the matrix.
      num_keys: columns of the matrix.

    Returns:
      `[h, queries, keys]`, whose element (t, s) is `values[s - t + queries - 1]`.
    """
    h, n = values_hn.shape
    # Rows of n + 1 read as rows of n move each one a step further to the right.
    rows = jnp.pad(values_hn, ((0, 0), (0, 1)))
    rows = jnp.broadcast_to(rows[:, None], (h, num_queries, n + 1)).reshape(h, -1)
    skewed = rows[:, : num_queries * n].reshape(h, num_queries, n)
    return skewed[:, :, num_queries - 1 : num_queries - 1 + num_keys]


class RelativePositionBias(nn.Module):
    """A learned scalar for each head and bucket of distance, added to the attention scores.

    One table serves all layers of a stack (Raffel et al. 2020, section 2.1).

    Attributes:
      num_heads: heads that have their own scalars.
      bidirectional: see `relative_position_bucket`.
      num_buckets: rows of the table.
      max_distance: see `relative_position_bucket`.
      embedding_init: initial values.
    """

    num_heads: int
    bidirectional: bool
    embedding_init: Initializer
    num_buckets: int = 32
    max_distance: int = 128

    def setup(self) -> None:
        """Makes the table `[buckets, h]`."""
        self.embedding = self.param(
            "embedding",
            axis_names(("relpos_buckets", "heads"), self.embedding_init),
            (self.num_buckets, self.num_heads),
        )

    def __call__(
        self, num_queries: int, num_keys: int, first_query: jax.Array | int = 0
    ) -> jax.Array:
        """The bias of queries from slot `first_query` on and keys from 0 on, `[1, h, t, s]`.

        Packed rows need no more: within a segment the difference of two slots is the
        difference of their positions, and across segments attention is masked.
        """
        distances_n = jnp.arange(1 - num_queries, num_keys) - first_query
        buckets_n = relative_position_bucket(
            distances_n,
            bidirectional=self.bidirectional,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
        )
        values_hn = jnp.take(self.embedding, buckets_n, axis=0).T
        return spread_diagonals(values_hn, num_queries, num_keys)[None]


class LearnedPositions(nn.Module):
    """A learned vector for each absolute position, added to the embeddings.

    Attributes:
      max_length: how many positions have a vector.
      embedding_init: initial values.
      dtype: of the result.
    """

    max_length: int
    embedding_init: Initializer
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x_bte: jax.Array, positions_bt: jax.Array | None) -> jax.Array:
        """Adds each position's vector to `x_bte`.

        Args:
          x_bte: embeddings.
          positions_bt: int `[b, t]`; None stands for 0, 1, 2, … in every row.

        Raises:
          ModelError: the row is longer than the table.
        """
        table_ne = self.param(
            "embedding",
            axis_names(("positions", "embed"), self.embedding_init),
            (self.max_length, x_bte.shape[-1]),
        )
        length = x_bte.shape[1]
        if positions_bt is not None:
            return x_bte + jnp.take(table_ne, positions_bt, axis=0).astype(self.dtype)
        if length > self.max_length:
            raise ModelError(
                f"{length} tokens in a row, but the model's max_length is {self.max_length}: "
                f"use rows of at most {self.max_length} tokens or raise max_length."
            )
        return x_bte + table_ne[None, :length].astype(self.dtype)
