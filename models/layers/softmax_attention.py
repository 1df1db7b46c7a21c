"""Softmax attention over given queries, keys and values, with its own backward pass."""

import functools
import itertools

import jax
import jax.numpy as jnp
from flax import struct
from jax.ad_checkpoint import checkpoint_name

from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.linear import STORED_PRODUCT
from models.layers.masks import Mask

# Rows of queries handled at a time under a causal mask: what lies above the diagonal of
# such blocks, or before the window of all their queries, is never computed.
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


def query_blocks(num_queries: int, num_keys: int, mask: Mask) -> list[tuple[int, int, int, int]]:
    """How to divide attention: the one place where an implementation is chosen.

    Args:
      num_queries: t.
      num_keys: s.
      mask: what is allowed.

    Returns:
      For each block its first query and one past its last, then the first key that any of
      them may see and one past the last.
    """
    square = num_queries == num_keys and mask.first_query is None
    if not (mask.causal and square) or mask.prefix_bt is not None:
        return [(0, num_queries, 0, num_keys)]
    window = num_keys if mask.window is None else mask.window
    blocks = []
    for first in range(0, num_queries, QUERY_BLOCK):
        last = min(first + QUERY_BLOCK, num_queries)
        blocks.append((first, last, max(first + 1 - window, 0), last))
    return blocks


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
    values, never a NaN, and passes no gradient to keys and values. `models.flops` knows this
    function by name.

    The backward pass computes the weights again from the scores' log-normalisers, as
    FlashAttention does (Dao et al. 2022, algorithm 4), so that no `[b, h, t, s]` outlives
    its block of rows.

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
    keys, values = keys_values.keys_bgsd, keys_values.values_bgsd
    return _attend(q_bhtd, keys, values, bias_bhts, mask, dropout_key, dropout)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _attend(q_bhtd, k_bgsd, v_bgsd, bias_bhts, mask, dropout_key, dropout):
    return _forward(q_bhtd, k_bgsd, v_bgsd, bias_bhts, mask, dropout_key, dropout)[0]


def _forward(q_bhtd, k_bgsd, v_bgsd, bias_bhts, mask, dropout_key, dropout):
    outputs, normalisers = [], []
    for block in query_blocks(q_bhtd.shape[2], k_bgsd.shape[2], mask):
        t0, _, s0, s1 = block
        scores, allowed = _scores(q_bhtd, k_bgsd, bias_bhts, mask, block)
        if allowed is not None:
            scores = jnp.where(allowed, scores, jnp.finfo(jnp.float32).min)
        top = scores.max(axis=-1, keepdims=True)
        weights = jnp.exp(scores - top)
        total = weights.sum(axis=-1, keepdims=True)
        weights = dropout(weights, _block_key(dropout_key, t0)).astype(q_bhtd.dtype)
        outputs.append(_weighted_sums(weights, v_bgsd[:, :, s0:s1]) / total.astype(q_bhtd.dtype))
        normalisers.append(top + jnp.log(total))
    y_bhtd, log_z_bht1 = (jnp.concatenate(parts, axis=2) for parts in (outputs, normalisers))
    arrays = (q_bhtd, k_bgsd, v_bgsd, y_bhtd, log_z_bht1)
    arrays = tuple(checkpoint_name(x, STORED_PRODUCT) for x in arrays)
    return arrays[3], (arrays, bias_bhts, mask, dropout_key)


def _backward(dropout, residuals, dy_bhtd):
    (q_bhtd, k_bgsd, v_bgsd, y_bhtd, log_z_bht1), bias_bhts, mask, dropout_key = residuals
    g, s = k_bgsd.shape[1:3]
    shift_bht1 = jnp.sum(dy_bhtd * y_bhtd, axis=-1, keepdims=True, dtype=jnp.float32)
    dq, dk, dv, dbias = [], [], [], []
    blocks = query_blocks(q_bhtd.shape[2], s, mask)
    for t0, t1, s0, s1 in blocks:
        key = _block_key(dropout_key, t0)
        scores, allowed = _scores(q_bhtd, k_bgsd, bias_bhts, mask, (t0, t1, s0, s1))
        logs = scores - log_z_bht1[:, :, t0:t1]
        weights = jnp.exp(logs if allowed is None else jnp.where(allowed, logs, -jnp.inf))
        dy = dy_bhtd[:, :, t0:t1]
        dweights = dropout(_products(dy, v_bgsd[:, :, s0:s1]), key)
        dscores = weights * (dweights - shift_bht1[:, :, t0:t1])
        if bias_bhts is not None:
            rows = dscores if bias_bhts.shape[0] > 1 else _sum_over_batch(dscores)
            dbias.append(jnp.pad(rows, ((0, 0), (0, 0), (0, 0), (s0, s - s1))))
        weights = dropout(weights, key).astype(dy.dtype)
        # Each is read by several products, none of which should compute it again.
        weights, dscores = jax.lax.optimization_barrier((weights, dscores.astype(dy.dtype)))
        dq.append(_weighted_sums(dscores, k_bgsd[:, :, s0:s1]))
        dk.append(_column_sums(q_bhtd[:, :, t0:t1], dscores, g))
        dv.append(_column_sums(dy, weights, g))
    dbias = None if bias_bhts is None else jnp.concatenate(dbias, axis=2).astype(bias_bhts.dtype)
    columns = [block[2:] for block in blocks]
    dk, dv = _overlaid(dk, columns), _overlaid(dv, columns)
    return jnp.concatenate(dq, axis=2), dk, dv, dbias, None, None


_attend.defvjp(_forward, _backward)


def _block_key(dropout_key, first_query):
    return None if dropout_key is None else jax.random.fold_in(dropout_key, first_query)


def _scores(q_bhtd, k_bgsd, bias_bhts, mask, block):
    """Scores of a block in float32, and which of them count; None is all."""
    t0, t1, s0, s1 = block
    scores = _products(q_bhtd[:, :, t0:t1], k_bgsd[:, :, s0:s1])
    if bias_bhts is not None:
        scores += bias_bhts[:, :, t0:t1, s0:s1]
    return scores, mask.dense((t0, t1), (s0, s1))


def _grouped(x_bhtz, g):
    """The query heads that share keys as rows of one matrix, `[b, g, r t, z]`."""
    b, h, t, z = x_bhtz.shape
    return x_bhtz.reshape(b, g, (h // g) * t, z)


def _products(x_bhtd, y_bgsd):
    """`x yᵀ` of each head, float32 `[b, h, t, s]`."""
    x = _grouped(x_bhtd, y_bgsd.shape[1])
    z = jnp.einsum("bgrd,bgsd->bgrs", x, y_bgsd, preferred_element_type=jnp.float32)
    return z.reshape(*x_bhtd.shape[:3], y_bgsd.shape[2])


def _weighted_sums(weights_bhts, y_bgsd):
    """`w y` of each head, `[b, h, t, d]`."""
    weights = _grouped(weights_bhts, y_bgsd.shape[1])
    z = jnp.einsum("bgrs,bgsd->bgrd", weights, y_bgsd)
    return z.reshape(*weights_bhts.shape[:3], y_bgsd.shape[3])


def _column_sums(x_bhtd, weights_bhts, g):
    """`xᵀ w` of each group of heads, `[b, g, d, s]`.

    Not its transpose `wᵀ x`, which XLA's CPU kernels compute at a third of the rate: its rows
    are too short.
    """
    return jnp.einsum("bgrd,bgrs->bgds", _grouped(x_bhtd, g), _grouped(weights_bhts, g))


def _sum_over_batch(x_bhts):
    """`[1, h, t, s]`, as a product, which XLA's CPU kernels do at 40 times the rate of a sum."""
    return jnp.einsum("b,bhts->hts", jnp.ones(x_bhts.shape[0], x_bhts.dtype), x_bhts)[None]


def _overlaid(parts_bgds, columns):
    """The sum of matrices that each fill the columns from one to another, as `[b, g, s, d]`."""
    # Without the barrier XLA would compute the transpose of a single one after all.
    parts_bgds = jax.lax.optimization_barrier(parts_bgds)
    edges = sorted({edge for pair in columns for edge in pair})
    pieces = [
        sum(
            part[..., left - s0 : right - s0]
            for part, (s0, s1) in zip(parts_bgds, columns, strict=True)
            if s0 <= left and right <= s1
        )
        for left, right in itertools.pairwise(edges)
    ]
    return jnp.concatenate(pieces, axis=-1).swapaxes(2, 3)
