"""Scores of whether two tokens are of one segment (Yang et al. 2019, section 2.5)."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from models.layers import parts
from models.layers.linear import Initializer, axis_names


@struct.dataclass
class Segments:
    """Which segment each token is of; only whether two are the same has a meaning.

    Attributes:
      queries_bt: int.
      keys_bs: int.
    """

    queries_bt: jax.Array
    keys_bs: jax.Array


class RelativeSegmentScores(nn.Module):
    """`(q + b)ᵀ s`, where s is one vector for a key of the query's segment, else another.

    b and both vectors are learned in each layer and for each head.

    Attributes:
      num_heads: heads.
      head_dim: units of one head.
      init: initial values.
    """

    part: ClassVar[str] = parts.RELATIVE_POSITIONS

    num_heads: int
    head_dim: int
    init: Initializer

    @nn.compact
    def __call__(self, q_bhtd: jax.Array, segments: Segments) -> jax.Array:
        """The scores of each query and key, float32 `[b, h, t, s]`.

        Args:
          q_bhtd: queries, not scaled.
          segments: of queries and keys.
        """
        shape = (self.num_heads, self.head_dim)
        bias_hd = self.param("bias", axis_names(("heads", "kv"), self.init), shape)
        # The first is of the same segment.
        vectors_nhd = self.param(
            "embedding", axis_names((None, "heads", "kv"), self.init), (2, *shape)
        )
        q_bhtd += bias_hd[:, None].astype(q_bhtd.dtype)
        scores_bhtn = jnp.einsum(
            "bhtd,nhd->bhtn",
            q_bhtd,
            vectors_nhd.astype(q_bhtd.dtype),
            preferred_element_type=jnp.float32,
        )
        same_bts = segments.queries_bt[:, :, None] == segments.keys_bs[:, None, :]
        return jnp.where(same_bts[:, None], scores_bhtn[..., :1], scores_bhtn[..., 1:])
