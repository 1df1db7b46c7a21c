"""What is added to the scores where it depends on a pair's distance, before it is spread out.

A row of `t` queries and `s` keys has `t + s - 1` distances, far fewer than pairs. Attention that
knows scores by their distance spreads them block by block; elsewhere `dense` makes all of them.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from models.layers import parts
from models.layers.attention.masks import Mask


@struct.dataclass
class DistanceBias:
    """A number for each head and distance, the same for all queries.

    Attributes:
      values_chn: `[c, h, t + s - 1]`, of the distances `-(t - 1) .. s - 1` from a query to a key in
        slots counted from the first query and the first key; one copy, or one for each part that
        the rows of a batch are divided into.
      num_queries: t.
    """

    values_chn: jax.Array
    num_queries: int = struct.field(pytree_node=False)

    @property
    def num_keys(self) -> int:
        """How many keys it is for."""
        return self.values_chn.shape[-1] - self.num_queries + 1

    def dense(self) -> jax.Array:
        """The bias of each pair, `[c, h, t, s]`."""
        return spread_diagonals(self.values_chn, self.num_queries, self.num_keys)

    def scaled(self, factor: float) -> "DistanceBias":
        """Every number multiplied by a factor."""
        return dataclasses.replace(self, values_chn=self.values_chn * factor)


@struct.dataclass
class DistanceScores:
    """For each distance a vector that queries are multiplied with (Dai et al. 2019).

    Attributes:
      q_bhtd: the queries that meet these vectors; others may meet the keys.
      distances_nhd: a vector of each head for each of the distances of `DistanceBias`.
      mask: which pairs count.
    """

    q_bhtd: jax.Array
    distances_nhd: jax.Array
    mask: Mask

    @property
    def num_queries(self) -> int:
        """How many queries there are."""
        return self.q_bhtd.shape[2]

    @property
    def num_keys(self) -> int:
        """How many keys there are."""
        return self.distances_nhd.shape[0] - self.num_queries + 1

    def dense(self) -> jax.Array:
        """The score of each pair, float32 `[b, h, t, s]`."""
        scores_bhtn = scores_of_distances(self.q_bhtd, self.distances_nhd, self.mask)
        return align_distances(scores_bhtn, self.num_keys)

    def scaled(self, factor: float) -> "DistanceScores":
        """Every score multiplied by a factor."""
        return dataclasses.replace(
            self, q_bhtd=self.q_bhtd * jnp.asarray(factor, self.q_bhtd.dtype)
        )


Bias = jax.Array | DistanceBias | DistanceScores
"""What is added to the scores: `[c, h, t, s]`, where c divides b, or by distance."""


def dense(bias: Bias | None) -> jax.Array | None:
    """A bias of each pair, `[c, h, t, s]`; None stays None."""
    return bias.dense() if isinstance(bias, DistanceBias | DistanceScores) else bias


def scaled(bias: Bias, factor: float) -> Bias:
    """A bias multiplied by a factor."""
    if isinstance(bias, DistanceBias | DistanceScores):
        return bias.scaled(factor)
    return bias * factor


def spread_diagonals(values_n: jax.Array, num_queries: int, num_keys: int) -> jax.Array:
    """The matrix that is constant along its diagonals.

    By reshaping rather than by gathering, so that the gradient is a sum and not a scatter.

    Args:
      values_n: `[..., queries + keys - 1]`, for the distances `-(queries - 1) .. keys - 1`.
      num_queries: rows of the matrix.
      num_keys: columns of the matrix.

    Returns:
      `[..., queries, keys]`, whose element (t, s) is `values[s - t + queries - 1]`.
    """
    *rest, n = values_n.shape
    values_tn = jnp.broadcast_to(values_n[..., None, :], (*rest, num_queries, n))
    return align_distances(values_tn, num_keys)


def align_distances(values_tn: jax.Array, num_keys: int) -> jax.Array:
    """From a column for each distance to a column for each key.

    Args:
      values_tn: `[..., queries, queries + keys - 1]`, for each query a value of each of the
        distances `-(queries - 1) .. keys - 1` from a query to a key.
      num_keys: columns of the result.

    Returns:
      `[..., queries, keys]`, whose element (t, s) is `values[t, s - t + queries - 1]`.
    """
    *rest, t, n = values_tn.shape
    # Rows of n + 1 read as rows of n move each one a step further to the right.
    rows = jnp.pad(values_tn, [(0, 0)] * (len(rest) + 1) + [(0, 1)]).reshape(*rest, -1)
    skewed = rows[..., : t * n].reshape(*rest, t, n)
    return skewed[..., t - 1 : t - 1 + num_keys]


def _visible_pairs(q_bhtd: jax.Array, distances_nhd: jax.Array, mask: Mask) -> parts.Share:
    """A score for each pair, where each query meets all distances that any query has."""
    t, n = q_bhtd.shape[2], distances_nhd.shape[0]
    return mask.visible_pairs(t, n + 1 - t), t * n


@parts.part(parts.RELATIVE_POSITIONS, needed=_visible_pairs)
def scores_of_distances(q_bhtd: jax.Array, distances_nhd: jax.Array, mask: Mask) -> jax.Array:
    """Products of each query with each distance's vector, float32 `[b, h, t, n]`.

    Args:
      q_bhtd: queries, or keys, to whose distances these are.
      distances_nhd: a vector of each head for each of `t + s - 1` distances.
      mask: which pairs count, of those that are computed.
    """
    return jnp.einsum("bhtd,nhd->bhtn", q_bhtd, distances_nhd, preferred_element_type=jnp.float32)
