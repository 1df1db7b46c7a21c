"""Attention with any number of heads, and heads that share their keys and values."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.errors import ModelError
from models.layers import intermediates, mesh_context, parts
from models.layers.attention import context_parallel
from models.layers.attention.distances import Bias, dense, scaled
from models.layers.attention.masks import Mask
from models.layers.attention.relative_segments import Segments
from models.layers.attention.softmax_attention import (
    KEY_AXES,
    QUERY_AXES,
    KeysValues,
    attention_scores,
    attention_weights,
)
from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.fused_projections import part_of_joined
from models.layers.linear import Initializer, Linear

Rotation = Callable[[jax.Array, jax.Array | None], jax.Array]
"""`(x [b, heads, t, d], positions [b, t] or None) -> x`, for queries and for keys."""


# Self-attention's projections of one input, which decoding may fuse.
SELF_PROJECTIONS = ("query", "key", "value")


def even_head_dim(embed_dim: int, num_heads: int) -> int:
    """The size of a head where heads divide the residual stream evenly.

    Raises:
      ModelError: they cannot.
    """
    if embed_dim % num_heads:
        raise ModelError(
            f"embed_dim {embed_dim} is not a multiple of num_heads {num_heads}: "
            "the heads divide it evenly among them."
        )
    return embed_dim // num_heads


class Attention(nn.Module):
    """Projections around `attend`: multi-head, grouped-query or multi-query.

    Keys and values are computed by a method of their own, because a decoder keeps them. Weights,
    `[b, h, t, s]`, are recorded as `intermediates.ATTENTION`.

    Attributes:
      embed_dim: size of the residual stream.
      num_heads: heads of queries.
      head_dim: units of one head.
      query_init: initial values of the queries' projection.
      key_value_init: of the keys' and the values'.
      output_init: of the output's.
      num_kv_heads: heads of keys and values; None is as many as of queries, 1 is
        multi-query (Shazeer 2019), between is grouped-query (Ainslie et al. 2023).
      value_dim: units of one head of values; None is `head_dim`.
      scale: multiplies the queries; `head_dim ** -0.5` in most families, 1 in T5.
      rotation: turns queries and keys according to their positions (rotary embeddings).
      make_relative: scores distances: `RelativePositionScores` or `DisentangledScores`, from sizes.
      make_segments: lets each query score whether a key is of its segment:
        `RelativeSegmentScores`, from sizes.
      window: how many keys a query of causal self-attention sees at most, itself the last;
        None is all.
      use_bias: whether the projections add a bias.
      use_key_bias: with `use_bias`, whether that of the keys does so too.
      dropout: on the attention weights.
      dtype: of the computation; scores are float32.
    """

    part: ClassVar[str] = parts.ATTENTION_PROJECTIONS

    embed_dim: int
    num_heads: int
    head_dim: int
    query_init: Initializer
    key_value_init: Initializer
    output_init: Initializer
    num_kv_heads: int | None = None
    value_dim: int | None = None
    scale: float = 1.0
    rotation: Rotation | None = None
    make_relative: Callable[..., nn.Module] | None = None
    make_segments: Callable[..., nn.Module] | None = None
    window: int | None = None
    use_bias: bool = False
    use_key_bias: bool = True
    dropout: Dropout = NO_DROPOUT
    dtype: str = "float32"

    def setup(self) -> None:
        """Makes the projections.

        Raises:
          ModelError: the heads of queries cannot share those of keys evenly.
        """
        if self.num_heads % self.kv_heads:
            raise ModelError(
                f"num_kv_heads {self.kv_heads} does not divide num_heads {self.num_heads}, which "
                f"share them: choose a divisor of {self.num_heads}."
            )
        projection = functools.partial(Linear, use_bias=self.use_bias, dtype=self.dtype)
        key_bias = self.use_bias and self.use_key_bias
        joined = ("embed", "joined_kv")
        # One shared head cannot be divided among devices.
        shared = joined if self.kv_heads == self.num_heads else ("embed", "joined_shared_kv")
        shared = shared if self.kv_heads > 1 else ("embed", "kv")
        self.query = projection(self.num_heads * self.head_dim, joined, self.query_init)
        key_dim, value_dim = (self.kv_heads * n for n in (self.head_dim, self.value_units))
        self.key = projection(key_dim, shared, self.key_value_init, use_bias=key_bias)
        self.value = projection(value_dim, shared, self.key_value_init)
        if self.make_relative is not None:
            self.relative = self.make_relative(
                self.embed_dim, self.num_heads, self.head_dim, dtype=self.dtype
            )
        if self.make_segments is not None:
            self.segments = self.make_segments(self.num_heads, self.head_dim)
        self.out = projection(self.embed_dim, ("joined_kv", "embed"), self.output_init)

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_kv_heads or self.num_heads

    @property
    def value_units(self) -> int:
        """Units of one head of values."""
        return self.value_dim or self.head_dim

    def keys_values(self, x_bse: jax.Array, positions_bs: jax.Array | None = None) -> KeysValues:
        """Keys and values of `x`, `[b, g, s, d]`; positions None are 0, 1, 2, …."""
        k_bgsd = self._heads(self._projected(x_bse, "key"), self.kv_heads, KEY_AXES)
        if self.rotation is not None:
            k_bgsd = self.rotation(k_bgsd, positions_bs)
        v_bgsd = self._heads(self._projected(x_bse, "value"), self.kv_heads, KEY_AXES)
        return KeysValues(k_bgsd, v_bgsd)

    def __call__(
        self,
        x_bte: jax.Array,
        keys_values: KeysValues,
        mask: Mask,
        *,
        bias: Bias | None = None,
        positions_bt: jax.Array | None = None,
        segments: Segments | None = None,
        relative_ne: jax.Array | None = None,
        enable_dropout: bool = False,
    ) -> jax.Array:
        """Attention of `x` to keys and values, `[b, t, e]`.

        Args:
          x_bte: what queries are made of.
          keys_values: of `keys_values`.
          mask: which pairs are allowed.
          bias: added to the scores.
          positions_bt: for the rotation of the queries; None is 0, 1, 2, ….
          segments: of queries and keys, for `make_segments`.
          relative_ne: a table of vectors of distances, for `make_relative`.
          enable_dropout: whether weights are dropped.
        """
        q_bhtd = self._heads(self._projected(x_bte, "query"), self.num_heads, QUERY_AXES)
        if self.rotation is not None:
            q_bhtd = self.rotation(q_bhtd, positions_bt)
        if self.window is not None:
            mask = dataclasses.replace(mask, window=self.window)
        if self.make_relative is not None:
            bias = self.relative(
                q_bhtd,
                keys_values.keys_bgsd,
                mask,
                table_ne=relative_ne,
                enable_dropout=enable_dropout,
            )
            if segments is not None:
                bias = dense(bias) + self.segments(q_bhtd, segments)
            bias = scaled(bias, self.scale)
            q_bhtd = self.relative.queries(q_bhtd)
        q_bhtd *= jnp.asarray(self.scale, q_bhtd.dtype)
        keys_values = _for_each_device(keys_values, q_bhtd.shape[1])
        y_bhtd = self.attend(q_bhtd, keys_values, mask, bias, enable_dropout=enable_dropout)
        y_bhtd = nn.with_logical_constraint(y_bhtd, QUERY_AXES)
        b, h, t, d = y_bhtd.shape
        return self.out(y_bhtd.transpose(0, 2, 1, 3).reshape(b, t, h * d))

    @intermediates.recorded(intermediates.SCORES, attention_scores)
    @intermediates.recorded(intermediates.ATTENTION, attention_weights)
    def attend(
        self,
        q_bhtd: jax.Array,
        keys_values: KeysValues,
        mask: Mask,
        bias: Bias | None,
        *,
        enable_dropout: bool,
    ) -> jax.Array:
        """Softmax attention of scaled queries, `[b, h, t, d]`."""
        key = self.make_rng("dropout") if enable_dropout and self.dropout.rate else None
        return context_parallel.attend(q_bhtd, keys_values, mask, bias, self.dropout, key)

    def _projected(self, x_bte: jax.Array, name: str) -> jax.Array:
        y_bte = part_of_joined(self, x_bte, SELF_PROJECTIONS.index(name), self.dtype)
        return getattr(self, name)(x_bte) if y_bte is None else y_bte

    def _heads(self, x_bte: jax.Array, num_heads: int, axes: tuple[str | None, ...]) -> jax.Array:
        b, t, _ = x_bte.shape
        x_bhtd = x_bte.reshape(b, t, num_heads, -1).transpose(0, 2, 1, 3)
        # Heads that are fewer than devices are on each of them.
        devices = mesh_context.shard_counts(axes)[1]
        axes = (axes[0], None, *axes[2:]) if num_heads % devices or num_heads == 1 else axes
        if axes[2] is None and context_parallel.divides(t):
            return x_bhtd  # attention says where they go
        return nn.with_logical_constraint(x_bhtd, axes)


def _for_each_device(keys_values: KeysValues, num_heads: int) -> KeysValues:
    """Keys and values of as many heads as devices divide queries' heads over, if those are more.

    Each device then has the heads that its queries share; one head that all share stays one. Where
    `num_heads` of queries do not divide either, each device has them all, see `_heads`.
    """
    g, devices = keys_values.keys_bgsd.shape[1], mesh_context.shard_counts(KEY_AXES)[1]
    if g == 1 or g % devices == 0 or num_heads % devices:
        return keys_values
    times = math.lcm(g, devices) // g
    return jax.tree.map(
        lambda x: nn.with_logical_constraint(jnp.repeat(x, times, axis=1), KEY_AXES), keys_values
    )
