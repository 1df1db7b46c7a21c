"""Attention with any number of heads, and heads that share their keys and values."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.linear import Initializer, Linear
from models.layers.masks import Mask

Rotation = Callable[[jax.Array, jax.Array | None], jax.Array]
"""`(x [b, heads, t, d], positions [b, t] or None) -> x`, for queries and for keys."""

# Rows of queries handled at a time under a causal mask: what lies above the diagonal of
# such blocks is never computed.
QUERY_BLOCK = 128


@struct.dataclass
class KeysValues:
    """What a sequence offers to be attended to.

    Attributes:
      keys_bgsd: `[b, g, s, d]`; each head's slots are contiguous, so that one query's
        scores are matrix-vector products over contiguous memory.
      values_bgsd: the same shape.
    """

    keys_bgsd: jax.Array
    values_bgsd: jax.Array

    def written(self, new: "KeysValues", first_slot: jax.Array | int) -> "KeysValues":
        """A copy in which `new` stands at the slots from `first_slot` on."""
        return jax.tree.map(
            lambda buffer, part: jax.lax.dynamic_update_slice(
                buffer, part.astype(buffer.dtype), (0, 0, first_slot, 0)
            ),
            self,
            new,
        )


def query_blocks(num_queries: int, num_keys: int, mask: Mask) -> list[tuple[int, int, int]]:
    """How to divide attention: the one place where an implementation is chosen.

    Args:
      num_queries: t.
      num_keys: s.
      mask: what is allowed.

    Returns:
      For each block its first query, one past its last query, and one past the last key
      that any of them may see.
    """
    square = num_queries == num_keys and isinstance(mask.first_query, int)
    if not (mask.causal and square) or mask.prefix_bt is not None:
        return [(0, num_queries, num_keys)]
    firsts = range(0, num_queries, QUERY_BLOCK)
    lasts = (min(first + QUERY_BLOCK, num_queries) for first in firsts)
    return [(first, last, last) for first, last in zip(firsts, lasts, strict=True)]


@functools.partial(jax.jit, static_argnames="dropout")
def attend(
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    bias_bhts: jax.Array | None = None,
    dropout: Dropout = NO_DROPOUT,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """`softmax(q kᵀ + bias) v` over the allowed keys (Vaswani et al. 2017, eq. 1).

    Scores and softmax are float32. A query that may attend to nothing gets the mean of the
    values, never a NaN. `models.flops` knows this function by name.

    Args:
      q_bhtd: queries, already scaled.
      keys_values: with `g` heads, where `g` divides `h`.
      mask: which pairs are allowed.
      bias_bhts: added to the scores, `[b or 1, h, t, s]`.
      dropout: on the weights.
      dropout_key: without it there is no dropout.

    Returns:
      `[b, h, t, d]` in the dtype of the queries.
    """
    outputs = []
    for t0, t1, s1 in query_blocks(q_bhtd.shape[2], keys_values.keys_bgsd.shape[2], mask):
        outputs.append(
            _attend_rows(
                q_bhtd[:, :, t0:t1],
                keys_values.keys_bgsd[:, :, :s1],
                keys_values.values_bgsd[:, :, :s1],
                mask.dense((t0, t1), (0, s1)),
                None if bias_bhts is None else bias_bhts[:, :, t0:t1, :s1],
                dropout,
                None if dropout_key is None else jax.random.fold_in(dropout_key, t0),
            )
        )
    return outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=2)


def _attend_rows(q_bhtd, k_bgsd, v_bgsd, allowed_b1ts, bias_bhts, dropout, dropout_key):
    b, h, t, d = q_bhtd.shape
    g, s = k_bgsd.shape[1:3]
    # The query heads that share keys are rows of one product.
    q_bgrd = q_bhtd.reshape(b, g, (h // g) * t, d)
    scores = jnp.einsum("bgrd,bgsd->bgrs", q_bgrd, k_bgsd, preferred_element_type=jnp.float32)
    scores = scores.reshape(b, h, t, s)
    if bias_bhts is not None:
        scores += bias_bhts
    if allowed_b1ts is not None:
        scores = jnp.where(allowed_b1ts, scores, jnp.finfo(jnp.float32).min)
    weights = dropout(jax.nn.softmax(scores), dropout_key).astype(q_bhtd.dtype)
    weights = weights.reshape(b, g, (h // g) * t, s)
    return jnp.einsum("bgrs,bgsd->bgrd", weights, v_bgsd).reshape(b, h, t, d)


class Attention(nn.Module):
    """Projections around `attend`: multi-head, grouped-query or multi-query.

    The parts are methods, because a decoder keeps what `keys_values` gives.

    Attributes:
      embed_dim: size of the residual stream.
      num_heads: heads of queries.
      head_dim: units of one head.
      query_init: initial values of the queries' projection.
      key_value_init: of the keys' and the values'.
      output_init: of the output's.
      num_kv_heads: heads of keys and values; None is as many as of queries, 1 is
        multi-query (Shazeer 2019), between is grouped-query (Ainslie et al. 2023).
      scale: multiplies the queries; `head_dim ** -0.5` in most families, 1 in T5.
      rotation: turns queries and keys according to their positions (rotary embeddings).
      use_bias: whether the four projections add a bias.
      dropout: on the attention weights.
      dtype: of the computation; scores are float32.
    """

    embed_dim: int
    num_heads: int
    head_dim: int
    query_init: Initializer
    key_value_init: Initializer
    output_init: Initializer
    num_kv_heads: int | None = None
    scale: float = 1.0
    rotation: Rotation | None = None
    use_bias: bool = False
    dropout: Dropout = NO_DROPOUT
    dtype: str = "float32"

    def setup(self) -> None:
        """Makes the four projections."""
        projection = functools.partial(Linear, use_bias=self.use_bias, dtype=self.dtype)
        joined = ("embed", "joined_kv")
        # One shared head cannot be divided among devices.
        shared = ("embed", "joined_kv" if self.kv_heads > 1 else "kv")
        kv_dim = self.kv_heads * self.head_dim
        self.query = projection(self.num_heads * self.head_dim, joined, self.query_init)
        self.key = projection(kv_dim, shared, self.key_value_init)
        self.value = projection(kv_dim, shared, self.key_value_init)
        self.out = projection(self.embed_dim, ("joined_kv", "embed"), self.output_init)

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_kv_heads or self.num_heads

    def keys_values(self, x_bse: jax.Array, positions_bs: jax.Array | None = None) -> KeysValues:
        """What `x` offers to be attended to."""
        k_bgsd = self._heads(self.key(x_bse), self.kv_heads)
        if self.rotation is not None:
            k_bgsd = self.rotation(k_bgsd, positions_bs)
        return KeysValues(k_bgsd, self._heads(self.value(x_bse), self.kv_heads))

    def __call__(
        self,
        x_bte: jax.Array,
        keys_values: KeysValues,
        mask: Mask,
        *,
        bias_bhts: jax.Array | None = None,
        positions_bt: jax.Array | None = None,
        enable_dropout: bool = False,
    ) -> jax.Array:
        """What `x` finds when it attends to `keys_values`, `[b, t, e]`."""
        q_bhtd = self._heads(self.query(x_bte), self.num_heads)
        if self.rotation is not None:
            q_bhtd = self.rotation(q_bhtd, positions_bt)
        key = self.make_rng("dropout") if enable_dropout and self.dropout.rate else None
        y_bhtd = attend(
            q_bhtd * jnp.asarray(self.scale, q_bhtd.dtype),
            keys_values,
            mask,
            bias_bhts,
            self.dropout,
            key,
        )
        b, h, t, d = y_bhtd.shape
        return self.out(y_bhtd.transpose(0, 2, 1, 3).reshape(b, t, h * d))

    def _heads(self, x_bte: jax.Array, num_heads: int) -> jax.Array:
        b, t, _ = x_bte.shape
        x_bhtd = x_bte.reshape(b, t, num_heads, self.head_dim).transpose(0, 2, 1, 3)
        return nn.with_logical_constraint(
            x_bhtd, ("batch", "heads" if num_heads > 1 else None, "length", "kv")
        )
