"""Attention by the kernels: from a model's arrays to theirs, and the gradient."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from models.layers import mesh_context
from models.layers.attention.distances import Bias, DistanceBias, DistanceScores
from models.layers.attention.flash import plan as plans
from models.layers.attention.flash.backward import backward
from models.layers.attention.flash.forward import forward
from models.layers.attention.flash.operands import Operands
from models.layers.attention.flash.plan import Plan
from models.layers.attention.masks import Mask
from models.layers.attention.softmax_attention import KeysValues, length_is_divided
from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.linear import STORED_PRODUCT

# Numbers of the queries' gradient that are kept on chip while a row's keys are gone through.
MOST_ON_CHIP = 2**20
# The number of keys that are no text's.
_NO_TEXT = -(2**31)


def lacks(
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    bias: Bias | None,
    has_dropout: bool = False,
) -> Iterator[tuple[bool, str]]:
    """Pairs of whether these arrays need something that the kernels do not have, and what."""
    t, d = q_bhtd.shape[2:]
    yield t == 1, "rows of one token"
    yield mask.query_ranks_bt is not None, "orders of the tokens other than the slots'"
    is_cached = t != keys_values.keys_bgsd.shape[2]
    yield mask.prefix_bt is not None and is_cached, "prefixes among keys from a cache"
    yield mask.sees_itself, "keys that a query sees whatever the mask says"
    yield isinstance(bias, jax.Array), "bias of each pair"
    yield t * d > MOST_ON_CHIP, f"rows of {t}, only up to {MOST_ON_CHIP // d}"
    yield length_is_divided(), "length divided among devices"


def attend(
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    bias: Bias | None = None,
    dropout: Dropout = NO_DROPOUT,
    dropout_key: jax.Array | None = None,
    *,
    interpret: bool = False,
) -> jax.Array:
    """`softmax(q kᵀ + bias) v` over the allowed keys; memory grows with the length alone.

    As `softmax_attention.attend`, but that a query which may attend to nothing gets 0. Weights are
    dropped by draws that depend on the key, the row, the head and both slots, not on devices.

    Args:
      q_bhtd: queries, already scaled.
      keys_values: with `g` heads, where `g` divides `h`.
      mask: what `lacks` lets pass.
      bias: by distance, or None.
      dropout: on the weights.
      dropout_key: without it there is no dropout.
      interpret: runs the kernels' programs without a TPU, for tests.

    Returns:
      `[b, h, t, d]` in the dtype of the queries.
    """
    b, h, t, _ = q_bhtd.shape
    g, s = keys_values.keys_bgsd.shape[1:3]
    plan = _plan(t, s, mask, bias, dropout if dropout_key is not None else NO_DROPOUT)
    of_queries = ("batch", "heads", None, None)
    of_keys = ("batch", "heads" if g > 1 else None, None, None)
    operands = Operands(
        queries=q_bhtd.swapaxes(2, 3),
        keys=keys_values.keys_bgsd.swapaxes(2, 3),
        values=keys_values.values_bgsd.swapaxes(2, 3),
        first=None if mask.first_query is None else jnp.reshape(mask.first_query, 1),
    )
    axes = Operands(queries=of_queries, keys=of_keys, values=of_keys)
    if operands.first is not None:
        axes = axes._replace(first=(None,))
    if isinstance(bias, DistanceBias):
        windows = _windows_of_bias(bias.values_chn.astype(jnp.float32), plan)
        operands = operands._replace(windows=windows)
        copies = None if windows.shape[0] == 1 else "batch"
        axes = axes._replace(windows=(copies, "heads", None, None, None))
    elif isinstance(bias, DistanceScores):
        vectors = _windows_of_vectors(bias.distances_nhd, plan)
        operands = operands._replace(scorers=bias.q_bhtd.swapaxes(2, 3), vectors=vectors)
        axes = axes._replace(scorers=of_queries, vectors=("heads", None, None, None))
    if (marks := _marks(q_bhtd.shape, s, mask)) is not None:
        operands = operands._replace(query_marks=marks[0], key_marks=marks[1])
        row = ("batch", None, None)
        axes = axes._replace(query_marks=row, key_marks=row)
    if plan.threshold:
        assert dropout_key is not None
        shape = (1 if 0 in _shared(dropout) else b, 1 if 1 in _shared(dropout) else h, 1, 1)
        seeds = jax.lax.bitcast_convert_type(jax.random.bits(dropout_key, shape), jnp.int32)
        operands = operands._replace(seeds=jnp.broadcast_to(seeds, (b, h, 1, 1)))
        axes = axes._replace(seeds=("batch", "heads", None, None))

    def local(operands: Operands) -> jax.Array:
        if operands.windows is not None:
            operands = operands._replace(windows=operands.windows[0])
        return _attend(operands, plan, interpret)

    y_bhdt = mesh_context.per_shard(local, (axes,), of_queries)(operands)
    return y_bhdt.swapaxes(2, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _attend(operands: Operands, plan: Plan, interpret: bool) -> jax.Array:
    return forward(operands, plan, interpret=interpret)[0]


def _attend_forward(operands, plan, interpret):
    y_bhdt, log_z_bh1t = forward(operands, plan, interpret=interpret)
    arrays = (*operands[:3], y_bhdt, log_z_bh1t)
    *qkv, y_bhdt, log_z_bh1t = (checkpoint_name(x, STORED_PRODUCT) for x in arrays)
    return y_bhdt, (Operands(*qkv, *operands[3:]), y_bhdt, log_z_bh1t)


def _attend_backward(plan, interpret, residuals, dy_bhdt):
    operands, y_bhdt, log_z_bh1t = residuals
    shift_bh1t = jnp.sum(dy_bhdt * y_bhdt, axis=2, keepdims=True, dtype=jnp.float32)
    gradients = backward(operands, dy_bhdt, log_z_bh1t, shift_bh1t, plan, interpret=interpret)
    sums = (
        _of_shared(gradients.keys, operands.keys),
        _of_shared(gradients.values, operands.values),
    )
    gradients = gradients._replace(keys=sums[0], values=sums[1])
    if operands.vectors is not None:
        gradients = gradients._replace(vectors=gradients.vectors.astype(operands.vectors.dtype))
    return (gradients,)


_attend.defvjp(_attend_forward, _attend_backward)


def _of_shared(gradient_bhds: jax.Array, shared_bgds: jax.Array) -> jax.Array:
    """The gradient of what heads share, from that of each head."""
    b, h, d, s = gradient_bhds.shape
    g = shared_bgds.shape[1]
    if g == h:
        return gradient_bhds
    return gradient_bhds.reshape(b, g, h // g, d, s).sum(axis=2).astype(shared_bgds.dtype)


def _plan(num_queries: int, num_keys: int, mask: Mask, bias: Bias | None, dropout: Dropout) -> Plan:
    most = plans.MOST_OF_VECTORS if isinstance(bias, DistanceScores) else plans.MOST
    query_block, key_block = (plans.block_size(x, most) for x in (num_queries, num_keys))
    if bias is not None:
        query_block = key_block = min(query_block, key_block)
    return Plan(
        num_queries,
        num_keys,
        query_block,
        key_block,
        causal=mask.causal,
        window=mask.window,
        has_prefix=mask.causal and mask.prefix_bt is not None,
        has_first=mask.first_query is not None,
        threshold=dropout.threshold,
        shared_axes=dropout.shared_axes,
    )


def _shared(dropout: Dropout) -> set[int]:
    return {axis % 4 for axis in dropout.shared_axes}


def _marks(q_shape: tuple[int, ...], num_keys: int, mask: Mask) -> list[jax.Array] | None:
    """A number for each text and, if there is one, the prefix, `[b, marks, t]` and `[b, marks, s]`.

    Keys that may not be attended to at all have a number of their own.
    """
    (b, _, t, _), s = q_shape, num_keys
    prefix = mask.prefix_bt if mask.causal else None
    of_queries, of_keys = mask.query_segments_bt, mask.key_segments_bs
    if of_queries is None or of_keys is None:
        if mask.key_valid_bs is None and prefix is None:
            return None
        of_queries, of_keys = jnp.zeros((b, t), jnp.int32), jnp.zeros((b, s), jnp.int32)
    if mask.key_valid_bs is not None:
        of_keys = jnp.where(mask.key_valid_bs, of_keys, _NO_TEXT)
    both = []
    for texts in (of_queries, of_keys):
        rows = [texts] if prefix is None else [texts, prefix]
        rows = [jnp.broadcast_to(x, (b, texts.shape[1])).astype(jnp.int32) for x in rows]
        both.append(jnp.stack(rows, axis=1))
    return both


def _windows_of_bias(values_chn: jax.Array, plan: Plan) -> jax.Array:
    """What each pair of blocks needs of a bias: `Operands.windows` of each copy."""
    # By how far a query is after a key, from one block more than there are keys.
    size = plan.key_block
    left = plan.key_blocks * size - (plan.num_keys - 1)
    right = plan.query_blocks * size - plan.num_queries
    padded_chn = jnp.pad(values_chn[..., ::-1], ((0, 0), (0, 0), (left, right)))
    chunks = padded_chn.reshape(*values_chn.shape[:2], plan.num_windows + 1, 1, size)
    return jnp.concatenate([chunks[:, :, :-1], chunks[:, :, 1:]], axis=-1)


def _windows_of_vectors(vectors_nhd: jax.Array, plan: Plan) -> jax.Array:
    """What each pair of blocks needs of the distances' vectors, `Operands.vectors`."""
    # By how far a key is after a query, from one block more than there are queries.
    size = plan.key_block
    left = plan.query_blocks * size - (plan.num_queries - 1)
    right = plan.key_blocks * size - plan.num_keys
    padded_hdn = jnp.pad(vectors_nhd.transpose(1, 2, 0), ((0, 0), (0, 0), (left, right)))
    h, d, _ = padded_hdn.shape
    chunks = padded_hdn.reshape(h, d, plan.num_windows + 1, size).transpose(0, 2, 1, 3)
    return jnp.concatenate([chunks[:, :-1], chunks[:, 1:]], axis=-1)[:, ::-1]
