"""Softmax attention over given queries, keys and values, with its own backward pass."""

import functools
import itertools

import jax
import jax.numpy as jnp
from flax import struct
from jax.ad_checkpoint import checkpoint_name

from models.layers import mesh_context
from models.layers.attention.distances import Bias, dense
from models.layers.attention.masks import Mask, part
from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.linear import STORED_PRODUCT

# Rows of queries handled at a time under a causal mask: what lies above the diagonal of
# such blocks, or before the window of all their queries, is never computed.
QUERY_BLOCK = 128
# Most blocks that are written out one by one, each with a program of its own. A longer row has
# blocks of more queries, which are handled `QUERY_BLOCK` at a time in a loop.
MAX_BLOCKS = 16
# Rows of queries up to which a block without a causal mask is handled at once.
LONG_ROW = 1024


# Logical axes of queries and of results; every query may need any key, so keys and values are
# divided by heads alone.
QUERY_AXES = ("batch", "heads", "length", "kv")
KEY_AXES = ("batch", "heads", None, "kv")


@struct.dataclass
class KeysValues:
    """The keys and values of a sequence.

    Attributes:
      keys_bgsd: `[b, g, s, d]`; each head's slots are contiguous, so that one query's
        scores are matrix-vector products over contiguous memory.
      values_bgsd: the same shape, but for the units where a family has others.
    """

    keys_bgsd: jax.Array
    values_bgsd: jax.Array

    def written(self, new: "KeysValues", first_slot: jax.Array | int) -> "KeysValues":
        """A copy with `new` written to the slots from `first_slot` on."""
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
    if not (mask.causal and square) or mask.prefix_bt is not None or length_is_divided():
        return [(0, num_queries, 0, num_keys)]
    window = num_keys if mask.window is None else mask.window
    rows = QUERY_BLOCK * -(-num_queries // (QUERY_BLOCK * MAX_BLOCKS))
    blocks = []
    for first in range(0, num_queries, rows):
        last = min(first + rows, num_queries)
        blocks.append((first, last, max(first + 1 - window, 0), last))
    return blocks


def length_is_divided() -> bool:
    """Whether each device has some of the queries only, so that blocks of them would travel."""
    return mesh_context.shard_counts(QUERY_AXES)[2] > 1


def rows_at_once(num_queries: int, mask: Mask) -> int:
    """How many queries of a block are handled at a time; it divides `num_queries`."""
    if length_is_divided():
        return num_queries
    most = QUERY_BLOCK if mask.causal and mask.first_query is None else LONG_ROW
    if num_queries <= most or num_queries % QUERY_BLOCK:
        return num_queries
    return QUERY_BLOCK


def is_plain(num_queries: int, num_keys: int, mask: Mask) -> bool:
    """Whether all weights are made at once and kept for the backward pass of their layer.

    On TPUs, where all queries are one block anyway: what the backward pass below does beyond
    automatic differentiation is fast on CPUs, and on TPUs costs traffic, which limits them.
    """
    one_block = len(query_blocks(num_queries, num_keys, mask)) == 1
    at_once = one_block and rows_at_once(num_queries, mask) == num_queries <= LONG_ROW
    return mesh_context.platform() == "tpu" and at_once


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
    values, never a NaN, and passes no gradient to keys and values.

    The backward pass computes the weights again from the scores' log-normalisers, as
    FlashAttention does (Dao et al. 2022, algorithm 4), so that no `[b, h, t, s]` outlives
    its block of rows; see `is_plain` for where it does not.

    Args:
      q_bhtd: queries, already scaled.
      keys_values: with `g` heads, where `g` divides `h`.
      mask: which pairs are allowed.
      bias_bhts: added to the scores, `[c, h, t, s]`; c divides b, and each serves b / c rows.
      dropout: on the weights.
      dropout_key: without it there is no dropout.

    Returns:
      `[b, h, t, d]` in the dtype of the queries.
    """
    keys, values = keys_values.keys_bgsd, keys_values.values_bgsd
    plain = is_plain(q_bhtd.shape[2], keys.shape[2], mask)
    return (_attend_plainly if plain else _attend)(
        q_bhtd, keys, values, bias_bhts, mask, dropout_key, dropout
    )


def attention_weights(
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    bias: Bias | None = None,
) -> jax.Array:
    """The attention weights of `attend`, float32 `[b, h, t, s]`.

    0 for what is not allowed; a query that may attend to nothing weighs all alike. `attend` never
    holds all of them: this is to look at, not to train with.
    """
    k_bgsd = keys_values.keys_bgsd
    queries, keys = (0, q_bhtd.shape[2]), (0, k_bgsd.shape[2])
    scores, allowed = _scores(q_bhtd, k_bgsd, dense(bias), mask, queries, keys)
    if allowed is not None:
        scores = jnp.where(allowed, scores, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(scores)


def attention_scores(
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    bias: Bias | None = None,
) -> jax.Array:
    """What `attend` takes the softmax of, float32 `[b, h, t, s]`; 0 for what is not allowed.

    As `attention_weights`, with all of them at once.
    """
    k_bgsd = keys_values.keys_bgsd
    queries, keys = (0, q_bhtd.shape[2]), (0, k_bgsd.shape[2])
    scores, allowed = _scores(q_bhtd, k_bgsd, dense(bias), mask, queries, keys)
    return scores if allowed is None else jnp.where(allowed, scores, 0.0)


def _attend_plainly(q_bhtd, k_bgsd, v_bgsd, bias_bhts, mask, dropout_key, dropout):
    arrays = (checkpoint_name(x, STORED_PRODUCT) for x in (q_bhtd, k_bgsd, v_bgsd))
    q_bhtd, k_bgsd, v_bgsd = arrays
    queries, keys = (0, q_bhtd.shape[2]), (0, k_bgsd.shape[2])
    scores, allowed = _scores(q_bhtd, k_bgsd, bias_bhts, mask, queries, keys)
    if allowed is not None:
        scores = jnp.where(allowed, scores, jnp.finfo(jnp.float32).min)
    weights = dropout(jax.nn.softmax(scores), _rows_key(dropout_key, 0)).astype(q_bhtd.dtype)
    y_bhtd = _weighted_sums(weights, v_bgsd)
    if allowed is not None:
        seeing = allowed.any(axis=-1, keepdims=True)
        y_bhtd = jnp.where(seeing, y_bhtd, jax.lax.stop_gradient(y_bhtd))
    return checkpoint_name(y_bhtd, STORED_PRODUCT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _attend(q_bhtd, k_bgsd, v_bgsd, bias_bhts, mask, dropout_key, dropout):
    return _forward(q_bhtd, k_bgsd, v_bgsd, bias_bhts, mask, dropout_key, dropout)[0]


def _forward(q_bhtd, k_bgsd, v_bgsd, bias_bhts, mask, dropout_key, dropout):
    outputs, normalisers = [], []
    for t0, t1, s0, s1 in query_blocks(q_bhtd.shape[2], k_bgsd.shape[2], mask):
        keys = (s0, s1 - s0)

        def attend_rows(first, count, keys=keys):
            scores, allowed = _scores(q_bhtd, k_bgsd, bias_bhts, mask, (first, count), keys)
            if allowed is not None:
                scores = jnp.where(allowed, scores, jnp.finfo(jnp.float32).min)
            top = scores.max(axis=-1, keepdims=True)
            weights = jnp.exp(scores - top)
            total = weights.sum(axis=-1, keepdims=True)
            weights = dropout(weights, _rows_key(dropout_key, first)).astype(q_bhtd.dtype)
            y = _weighted_sums(weights, part(v_bgsd, *keys, axis=2))
            return (y / total.astype(q_bhtd.dtype), top + jnp.log(total)), ()

        (y, log_z), _ = _over_rows(attend_rows, t0, t1, mask)
        outputs.append(y)
        normalisers.append(log_z)
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
        keys = (s0, s1 - s0)

        def attend_rows(first, count, keys=keys):
            """Gradients of some queries, and their share in those of the block's keys."""
            rows = functools.partial(part, first=first, count=count, axis=2)
            key = _rows_key(dropout_key, first)
            scores, allowed = _scores(q_bhtd, k_bgsd, bias_bhts, mask, (first, count), keys)
            logs = scores - rows(log_z_bht1)
            weights = jnp.exp(logs if allowed is None else jnp.where(allowed, logs, -jnp.inf))
            dy = rows(dy_bhtd)
            dweights = dropout(_products(dy, part(v_bgsd, *keys, axis=2)), key)
            dscores = weights * (dweights - rows(shift_bht1))
            dbias = None
            if bias_bhts is not None:
                dbias = _sum_over_rows(dscores, bias_bhts.shape[0])
            weights = dropout(weights, key).astype(dy.dtype)
            # Each is read by several products, none of which should compute it again.
            weights, dscores = jax.lax.optimization_barrier((weights, dscores.astype(dy.dtype)))
            dq = _weighted_sums(dscores, part(k_bgsd, *keys, axis=2))
            of_keys = _column_sums(rows(q_bhtd), dscores, g), _column_sums(dy, weights, g)
            return (dq, dbias), of_keys

        (dq_rows, dbias_rows), (dk_keys, dv_keys) = _over_rows(attend_rows, t0, t1, mask)
        dq.append(dq_rows)
        dk.append(dk_keys)
        dv.append(dv_keys)
        if bias_bhts is not None:
            dbias.append(jnp.pad(dbias_rows, ((0, 0), (0, 0), (0, 0), (s0, s - s1))))
    dbias = None if bias_bhts is None else jnp.concatenate(dbias, axis=2).astype(bias_bhts.dtype)
    columns = [block[2:] for block in blocks]
    dk, dv = _overlaid(dk, columns), _overlaid(dv, columns)
    return jnp.concatenate(dq, axis=2), dk, dv, dbias, None, None


_attend.defvjp(_forward, _backward)


def _rows_key(dropout_key, first_query):
    return None if dropout_key is None else jax.random.fold_in(dropout_key, first_query)


def _over_rows(attend_rows, t0, t1, mask):
    """`attend_rows(first, count)` of the queries from t0 to t1, in a loop if they are many.

    It gives a tree `[b, h, count, d]` of the rows, and a tree that is summed over the rows.
    """
    count = rows_at_once(t1 - t0, mask)
    if count == t1 - t0:
        return attend_rows(t0, count)

    def add(total, first):
        of_rows, of_keys = attend_rows(first, count)
        return jax.tree.map(jnp.add, total, of_keys), of_rows

    shapes = jax.eval_shape(lambda: attend_rows(t0, count)[1])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    of_keys, of_rows = jax.lax.scan(add, zeros, jnp.arange(t0, t1, count))
    return jax.tree.map(_rows_joined, of_rows), of_keys


def _rows_joined(x_nbhtd):
    n, b, h, t, d = x_nbhtd.shape
    return jnp.moveaxis(x_nbhtd, 0, 2).reshape(b, h, n * t, d)


def _scores(q_bhtd, k_bgsd, bias_bhts, mask, queries, keys):
    """Scores of some queries and keys in float32, and which of them count; None is all."""
    scores = _products(part(q_bhtd, *queries, axis=2), part(k_bgsd, *keys, axis=2))
    if bias_bhts is not None:
        bias_chts = part(part(bias_bhts, *queries, axis=2), *keys, axis=3)
        scores_crhts = scores.reshape(bias_chts.shape[0], -1, *scores.shape[1:])
        scores = (scores_crhts + bias_chts[:, None]).reshape(scores.shape)
    return scores, mask.dense(queries, keys)


def _grouped(x_bhtz, g):
    """The query heads that share keys apart, `[b, g, r, t, z]`."""
    b, h, t, z = x_bhtz.shape
    return x_bhtz.reshape(b, g, h // g, t, z)


def _products(x_bhtd, y_bgsd):
    """`x yᵀ` of each head, float32 `[b, h, t, s]`."""
    x = _grouped(x_bhtd, y_bgsd.shape[1])
    z = jnp.einsum("bgrtd,bgsd->bgrts", x, y_bgsd, preferred_element_type=jnp.float32)
    return z.reshape(*x_bhtd.shape[:3], y_bgsd.shape[2])


def _weighted_sums(weights_bhts, y_bgsd):
    """`w y` of each head, `[b, h, t, d]`."""
    weights = _grouped(weights_bhts, y_bgsd.shape[1])
    z = jnp.einsum("bgrts,bgsd->bgrtd", weights, y_bgsd)
    return z.reshape(*weights_bhts.shape[:3], y_bgsd.shape[3])


def _column_sums(x_bhtd, weights_bhts, g):
    """`xᵀ w` of each group of heads, `[b, g, d, s]`.

    Not its transpose `wᵀ x`, which XLA's CPU kernels compute at a third of the rate: its rows
    are too short.
    """
    return jnp.einsum("bgrtd,bgrts->bgds", _grouped(x_bhtd, g), _grouped(weights_bhts, g))


def _sum_over_rows(x_bhts, c):
    """The gradient of a bias `[c, h, t, s]`: of the scores', the sums over the rows of each.

    As a product, which XLA's CPU kernels do at 40 times the rate of a sum.
    """
    b = x_bhts.shape[0]
    if b == c:
        return x_bhts
    x_crhts = x_bhts.reshape(c, b // c, *x_bhts.shape[1:])
    return jnp.einsum("r,crhts->chts", jnp.ones(b // c, x_bhts.dtype), x_crhts)


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
