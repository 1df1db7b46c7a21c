"""Disentangled attention: what a token is and how far away it stands have scores of their own."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.layers import parts
from models.layers.attention.distances import align_distances, scores_of_distances
from models.layers.attention.masks import Mask
from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.linear import Initializer, Linear


def distance_row(distances: jax.Array, max_distance: int) -> jax.Array:
    """δ of He et al. 2021, equation 3: the row that a distance has in a table of 2k.

    Args:
      distances: int, any shape: place of the query minus place of the key.
      max_distance: k. Distances of -k and below share row 0, those of k - 1 and beyond the last.

    Returns:
      int in `[0, 2k)`, the same shape.
    """
    return jnp.clip(distances + max_distance, 0, 2 * max_distance - 1)


class DisentangledScores(nn.Module):
    """Scores between contents and distances (He et al. 2021, equation 4, second and third term).

    `q_i · K[δ(i, j)] + k_j · Q[δ(i, j)]`, where K and Q are projections of one table of vectors of
    distances, which all layers share. The paper prints δ(j, i) in the second of these; the
    authors' code, and with it every published weight, has δ(i, j).

    Attributes:
      embed_dim: features of the table.
      num_heads: heads.
      head_dim: units of one head.
      kernel_init: initial values of both projections.
      content_to_position: whether there is the first term.
      position_to_content: whether there is the second.
      mirrored: whether the second has δ(j, i), as it is printed.
      dropout: of the table.
      dtype: of the computation.
    """

    part: ClassVar[str] = parts.RELATIVE_POSITIONS

    embed_dim: int
    num_heads: int
    head_dim: int
    kernel_init: Initializer
    content_to_position: bool = True
    position_to_content: bool = True
    mirrored: bool = False
    dropout: Dropout = NO_DROPOUT
    dtype: str = "float32"

    def setup(self) -> None:
        """Makes the projections; as in the authors' code that of the queries has a bias."""
        size, axes = self.num_heads * self.head_dim, ("embed", "joined_kv")
        if self.content_to_position:
            self.key = Linear(size, axes, self.kernel_init, dtype=self.dtype)
        if self.position_to_content:
            self.query = Linear(size, axes, self.kernel_init, use_bias=True, dtype=self.dtype)

    def queries(self, q_bhtd: jax.Array) -> jax.Array:
        """The queries for the products with the keys: the same."""
        return q_bhtd

    def __call__(
        self,
        q_bhtd: jax.Array,
        k_bgsd: jax.Array,
        mask: Mask,
        *,
        table_ne: jax.Array | None,
        enable_dropout: bool = False,
        **_: Any,
    ) -> jax.Array:
        """Both terms of each query and key, float32 `[b, h, t, s]`.

        Each is a product with the vectors of all `t + s - 1` distances, whose columns are then
        moved into place: δ is constant along diagonals, so that nothing is gathered for each pair.
        Packed rows need no more, for the reason given in `RelativePositionBias`.

        Args:
          q_bhtd: queries, not scaled.
          k_bgsd: keys, a head for each of the queries'.
          mask: its `first_query` is the first query's slot; hidden pairs are scored too.
          table_ne: vectors of the distances, `[2k, e]`.
          enable_dropout: whether some of the table is dropped.
          **_: what other scores read.
        """
        assert table_ne is not None
        key = self.make_rng("dropout") if enable_dropout and self.dropout.rate else None
        table_ne = self.dropout(table_ne, key)
        t, s = q_bhtd.shape[2], k_bgsd.shape[2]
        first = mask.first_slot
        scores = jnp.zeros((), jnp.float32)
        if self.content_to_position:
            # `align_distances` counts from the query to the key.
            vectors_nhd = self._vectors(self.key, table_ne, first - jnp.arange(1 - t, s))
            scores += align_distances(scores_of_distances(q_bhtd, vectors_nhd, mask), s)
        if self.position_to_content:
            distances_n = first + jnp.arange(1 - s, t)
            if self.mirrored:
                distances_n = -distances_n
            vectors_nhd = self._vectors(self.query, table_ne, distances_n)
            of_keys_bhst = align_distances(scores_of_distances(k_bgsd, vectors_nhd, mask), t)
            scores += of_keys_bhst.swapaxes(2, 3)
        return scores

    def _vectors(
        self, projection: Linear, table_ne: jax.Array, distances_n: jax.Array
    ) -> jax.Array:
        """The projected vectors of some distances, `[n, h, d]`."""
        rows_n = distance_row(distances_n, table_ne.shape[0] // 2)
        # The fewer of both are projected: in short rows most of the table is never met.
        if rows_n.size < table_ne.shape[0]:
            vectors_nf = projection(jnp.take(table_ne, rows_n, axis=0))
        else:
            vectors_nf = jnp.take(projection(table_ne), rows_n, axis=0)
        return vectors_nf.reshape(-1, self.num_heads, self.head_dim)
