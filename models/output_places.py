"""What an output says of each place by itself: a token drawn, and how probable the target is."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.layers import embeddings, mesh_context
from models.losses import chunk_count, position_chunks


def output_samples(
    x_bte: jax.Array,
    kernel_ev: jax.Array,
    key: jax.Array,
    weights_bt: jax.Array,
    *,
    most: int | None = None,
    bias_v: jax.Array | None = None,
    num_chunks: int | None = None,
) -> jax.Array:
    """A token for each place that has a weight, drawn from the softmax of the output's logits.

    By the largest of logits and Gumbel noise. Each place has a key of its own, so that neither
    chunks nor shards of the batch change what is drawn.

    Args:
      x_bte: what the output reads.
      kernel_ev: the output's matrix, float32.
      key: of all that is drawn.
      weights_bt: 0 where nothing is asked for.
      most: see `losses.chosen_cross_entropy`.
      bias_v: the output's bias, float32, if it has one.
      num_chunks: see `losses.output_cross_entropy`, where all places are computed.

    Returns:
      int32 `[b, t]`, without gradients; any token where there is no weight.
    """
    x_bte, kernel_ev, bias_v = jax.lax.stop_gradient((x_bte, kernel_ev, bias_v))
    length = x_bte.shape[1]
    keys_bt = jax.random.split(key, x_bte.shape[:2])

    def draw(x_bte: jax.Array, keys_bt: jax.Array) -> jax.Array:
        logits_btv = _logits(x_bte, kernel_ev, bias_v)
        noise = functools.partial(jax.random.gumbel, shape=logits_btv.shape[-1:])
        noise_btv = jax.vmap(jax.vmap(noise))(keys_bt)
        return (logits_btv + noise_btv).argmax(axis=-1).astype(jnp.int32)

    def of_all(x_bte: jax.Array, keys_bt: jax.Array) -> jax.Array:
        return _in_chunks(draw, (x_bte, keys_bt), kernel_ev, num_chunks)

    divided = math.prod(mesh_context.shard_counts(("length",))) > 1
    if most is None or most >= length or divided:
        return of_all(x_bte, keys_bt)

    def of_chosen(x_bte: jax.Array, keys_bt: jax.Array) -> jax.Array:
        _, places_bm = jax.lax.top_k((weights_bt != 0).astype(jnp.float32), most)
        x_bme, keys_bm = jax.vmap(lambda x, keys, m: (x[m], keys[m]))(x_bte, keys_bt, places_bm)
        drawn_bm = _in_chunks(draw, (x_bme, keys_bm), kernel_ev, None)
        put = jax.vmap(lambda m, drawn: jnp.zeros(length, jnp.int32).at[m].set(drawn))
        found: jax.Array = put(places_bm, drawn_bm)
        return found

    few = ((weights_bt != 0).sum(axis=1) <= most).all()
    found: jax.Array = jax.lax.cond(few, of_chosen, of_all, x_bte, keys_bt)
    return found


def output_log_probabilities(
    x_bte: jax.Array,
    kernel_ev: jax.Array,
    targets_bt: jax.Array,
    *,
    bias_v: jax.Array | None = None,
    num_chunks: int | None = None,
) -> jax.Array:
    """The logarithm of each target's probability.

    In chunks of positions, each chunk's logits are computed again for its gradients.

    Args:
      x_bte: what the output reads.
      kernel_ev: the output's matrix, float32.
      targets_bt: int `[b, t]`.
      bias_v: the output's bias, float32, if it has one.
      num_chunks: see `losses.output_cross_entropy`.

    Returns:
      Float32 `[b, t]`.
    """

    @jax.checkpoint
    def of_targets(x_bte: jax.Array, targets_bt: jax.Array) -> jax.Array:
        log_p_btv = jax.nn.log_softmax(_logits(x_bte, kernel_ev, bias_v))
        is_target_btv = jnp.arange(log_p_btv.shape[-1]) == targets_bt[..., None]
        return jnp.where(is_target_btv, log_p_btv, 0).sum(axis=-1)

    return _in_chunks(of_targets, (x_bte, targets_bt), kernel_ev, num_chunks)


def _logits(x_bte: jax.Array, kernel_ev: jax.Array, bias_v: jax.Array | None) -> jax.Array:
    logits_btv = embeddings.logits(x_bte, kernel_ev, bias_v)
    return nn.with_logical_constraint(logits_btv, ("batch", "length", "vocab"))


def _in_chunks(
    function: Callable[..., jax.Array],
    arrays: tuple[jax.Array, ...],
    kernel_ev: jax.Array,
    num_chunks: int | None,
) -> jax.Array:
    """What a function gives for each place, `[b, t]`, of some places at a time."""
    count = chunk_count(arrays[0], kernel_ev, num_chunks)
    if count == 1:
        return function(*arrays)
    chunks = [position_chunks(a, count) for a in arrays]
    found_cbt = jax.lax.map(lambda chunk: function(*chunk), chunks)
    return jnp.moveaxis(found_cbt, 0, 2).reshape(arrays[0].shape[:2])
