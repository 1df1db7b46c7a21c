"""Position encodings: learned, sinusoidal, rotary, and two kinds of relative positions.

A position scheme acts in one of four places and is an object given to that place: it adds
to the embeddings (`LearnedPositions`, `add_sinusoids`), adds a bias to the scores of all
layers (`RelativePositionBias`), turns queries and keys (`Rotary`, as `Attention.rotation`),
or scores distances (`RelativePositionScores`, and `DisentangledScores` of a file of its own, by
`Attention.make_relative`).
"""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.errors import ModelError
from models.layers import mesh_context, parts
from models.layers.attention.distances import Bias, DistanceBias, DistanceScores, align_distances
from models.layers.attention.masks import Mask
from models.layers.dropout import NO_DROPOUT, Dropout
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


def check_buckets(num_buckets: int, max_distance: int, *, bidirectional: bool) -> None:
    """Checks that `relative_position_bucket` can divide the distances; its arguments.

    Raises:
      ModelError: too few buckets, or a distance within those that have a bucket each.
    """
    exact = num_buckets // (4 if bidirectional else 2)
    if exact < 1:
        raise ModelError(
            f"num_buckets is {num_buckets}: relative positions need {4 if bidirectional else 2} or "
            "more, half of them for one distance each."
        )
    if max_distance <= exact:
        raise ModelError(
            f"max_distance is {max_distance}: it must be above {exact}, since {exact} of "
            f"num_buckets {num_buckets} stand for one distance each."
        )


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
        self,
        num_queries: int,
        num_keys: int,
        first_query: jax.Array | int = 0,
        num_rows: int = 1,
    ) -> DistanceBias:
        """The bias of queries from slot `first_query` on and keys from 0 on.

        Packed rows need no more: within a segment the difference of two slots is the
        difference of their positions, and across segments attention is masked. The rows of each
        device, of `num_rows` in all, have a copy: of its gradient only the table's travels.
        """
        distances_n = jnp.arange(1 - num_queries, num_keys) - first_query
        buckets_n = relative_position_bucket(
            distances_n,
            bidirectional=self.bidirectional,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
        )
        table_ckh = mesh_context.copies(self.embedding, num_rows)
        values_chn = jnp.take(table_ckh, buckets_n, axis=1).swapaxes(1, 2)
        return DistanceBias(values_chn, num_queries)


class LayerRelativeBias(RelativePositionBias):
    """A table of each layer's own, made in its attention (`Attention.make_relative`)."""

    def queries(self, q_bhtd: jax.Array) -> jax.Array:
        """The queries as they are."""
        return q_bhtd

    def __call__(  # type: ignore[override]
        self, q_bhtd: jax.Array, k_bgsd: jax.Array, mask: Mask, **_: Any
    ) -> DistanceBias:
        """The bias of these queries and keys, of which only the numbers matter."""
        b, t = q_bhtd.shape[0], q_bhtd.shape[2]
        return super().__call__(t, k_bgsd.shape[2], mask.first_slot, b)


class LearnedPositions(nn.Module):
    """A learned vector for each absolute position, added to the embeddings.

    Attributes:
      max_length: how many positions have a vector.
      embedding_init: initial values.
      dtype: of the result.
      offset: row of position 0; BART's tables begin with rows that are never read, and RoBERTa's
        with those of padding, whose positions are negative.
    """

    max_length: int
    embedding_init: Initializer
    dtype: str = "float32"
    offset: int = 0

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
            (self.offset + self.max_length, x_bte.shape[-1]),
        )
        if positions_bt is not None:
            rows_bte = jnp.take(table_ne, positions_bt + self.offset, axis=0)
            return x_bte + rows_bte.astype(self.dtype)
        length = x_bte.shape[1]
        check_length(length, self.max_length)
        return x_bte + table_ne[None, self.offset : self.offset + length].astype(self.dtype)


def check_length(length: int, max_length: int) -> None:
    """Checks that positions counted from 0 in a row of this length have vectors.

    Raises:
      ModelError: the row is longer than the table.
    """
    if length > max_length:
        raise ModelError(
            f"{length} tokens in a row, but the model's max_length is {max_length}: "
            f"use rows of at most {max_length} tokens or raise max_length."
        )


def sinusoids(
    positions: jax.Array, features: int, base: float = 10000.0, *, in_halves: bool = False
) -> jax.Array:
    """Sines and cosines of geometrically growing periods (Vaswani et al. 2017, section 3.5).

    Args:
      positions: any shape; may be negative.
      features: how many, even.
      base: the longest period is almost `2π base`.
      in_halves: whether all sines stand before all cosines, as in the released code of
        Transformer-XL and XLNet, and not each before its own.

    Returns:
      float32 `[..., features]`: `sin(p / base^(2i / features))` at 2i, its cosine at 2i + 1.

    Raises:
      ModelError: an odd number of features.
    """
    if features % 2:
        raise ModelError(
            f"embed_dim is {features}: positions have as many sines as cosines, make it even."
        )
    angles = positions[..., None] * _frequencies(features, base)
    if in_halves:
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    pairs = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return pairs.reshape(*positions.shape, features)


def add_sinusoids(x_bte: jax.Array, positions_bt: jax.Array | None) -> jax.Array:
    """Embeddings with the sinusoids of their positions; None stands for 0, 1, 2, … in every row."""
    if positions_bt is None:
        positions_bt = jnp.arange(x_bte.shape[1])[None]
    return x_bte + sinusoids(positions_bt, x_bte.shape[-1]).astype(x_bte.dtype)


@dataclasses.dataclass(frozen=True)
class Rotary:
    """Turns pairs of units by angles proportional to the position (Su et al. 2021, eq. 34).

    The score of a query and a key then depends on their distance alone. Unit i is paired with
    unit i + d/2, as in the released LLaMA weights' Hugging Face form and in GPT-NeoX; the paper
    pairs neighbours, which is the same up to a permutation of the units.

    Attributes:
      base: the longest period is almost `2π base`.
      units: how many of a head's units turn, the first ones; None is all.
    """

    base: float = 10000.0
    units: int | None = None

    def __call__(self, x_bhtd: jax.Array, positions_bt: jax.Array | None) -> jax.Array:
        """Queries or keys, turned in float32; positions None are 0, 1, 2, … in every row.

        Raises:
          ModelError: an odd number of units would turn, or more than there are.
        """
        *_, t, head_dim = x_bhtd.shape
        d = head_dim if self.units is None else self.units
        if d % 2 or d > head_dim:
            raise ModelError(
                f"heads of {head_dim} units, of which {d} turn, but rotary positions turn pairs of "
                "units: use an even head size, of which an even number turns."
            )
        positions_bt = jnp.arange(t)[None] if positions_bt is None else positions_bt
        angles_b1td = positions_bt[:, None, :, None] * _frequencies(d, self.base)
        cos, sin = jnp.cos(angles_b1td), jnp.sin(angles_b1td)
        first, second, rest = jnp.split(x_bhtd.astype(jnp.float32), (d // 2, d), axis=-1)
        turned = [first * cos - second * sin, second * cos + first * sin, rest]
        return jnp.concatenate(turned, axis=-1).astype(x_bhtd.dtype)


class RelativePositionScores(nn.Module):
    """Scores of distances by each query (Dai et al. 2019, section 3.3, terms b, c and d).

    `(q + u)ᵀ k + (q + v)ᵀ W r`, where r are the sinusoids of the distance and W, u and v are
    learned in each layer. W is `[e, h d]`, as large as the projection of the keys.

    Attributes:
      embed_dim: features of r.
      num_heads: heads.
      head_dim: units of one head.
      kernel_init: initial values of W.
      bias_init: of u and v.
      in_halves: see `sinusoids`.
      clamp_length: the distance, in either direction, beyond which all are alike; None is none.
      dropout: on r.
      dtype: of the computation.
    """

    part: ClassVar[str] = parts.RELATIVE_POSITIONS

    embed_dim: int
    num_heads: int
    head_dim: int
    kernel_init: Initializer
    bias_init: Initializer = nn.initializers.zeros
    in_halves: bool = False
    clamp_length: int | None = None
    dropout: Dropout = NO_DROPOUT
    dtype: str = "float32"

    def setup(self) -> None:
        """Makes W, u and v."""
        shape = (self.embed_dim, self.num_heads * self.head_dim)
        self.kernel = self.param(
            "kernel", axis_names(("embed", "joined_kv"), self.kernel_init), shape
        )
        vector = axis_names(("heads", "kv"), self.bias_init)
        self.content_bias = self.param("content_bias", vector, (self.num_heads, self.head_dim))
        self.distance_bias = self.param("distance_bias", vector, (self.num_heads, self.head_dim))

    def queries(self, q_bhtd: jax.Array) -> jax.Array:
        """`q + u`, the queries for the products with the keys."""
        return q_bhtd + self.content_bias[:, None].astype(q_bhtd.dtype)

    def __call__(
        self,
        q_bhtd: jax.Array,
        k_bgsd: jax.Array,
        mask: Mask,
        *,
        enable_dropout: bool = False,
        **_: Any,
    ) -> Bias:
        """`(q + v)ᵀ W r` of each query and key.

        Packed rows need no more, for the reason given in `RelativePositionBias`.

        Args:
          q_bhtd: queries, not scaled.
          k_bgsd: keys, of which only the number matters.
          mask: its `first_query` is the first query's slot; hidden pairs are scored too.
          enable_dropout: needs an rng `dropout` where there is any.
          **_: what other scores read.
        """
        b, h, t, d = q_bhtd.shape
        num_keys = k_bgsd.shape[2]
        q_bhtd += self.distance_bias[:, None].astype(q_bhtd.dtype)
        # The paper counts from the key to the query.
        distances_n = mask.first_slot - jnp.arange(1 - t, num_keys)
        if self.clamp_length is not None:
            distances_n = jnp.clip(distances_n, -self.clamp_length, self.clamp_length)
        r_ne = sinusoids(distances_n, self.embed_dim, in_halves=self.in_halves).astype(self.dtype)
        draw = enable_dropout and self.dropout.rate
        r_ne = self.dropout(r_ne, self.make_rng("dropout") if draw else None)
        w_ehd = self.kernel.astype(self.dtype).reshape(self.embed_dim, h, d)
        if b * t < d:
            # Decoding: fewer queries than units, so W meets the queries and not the distances.
            queries_bhte = jnp.einsum("bhtd,ehd->bhte", q_bhtd, w_ehd)
            scores_bhtn = jnp.einsum(
                "bhte,ne->bhtn", queries_bhte, r_ne, preferred_element_type=jnp.float32
            )
            return align_distances(scores_bhtn, num_keys)
        return DistanceScores(q_bhtd, jnp.einsum("ne,ehd->nhd", r_ne, w_ehd), mask)


def _frequencies(features: int, base: float) -> jax.Array:
    return base ** (-jnp.arange(0, features, 2, dtype=jnp.float32) / features)
