"""Losses, summed over the target tokens; the engine divides by the sum of the weights."""

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.errors import ModelError
from models.layers import embeddings, mesh_context
from models.layers.adaptive_softmax import AdaptiveSoftmax

Metrics = dict[str, tuple[jax.Array, jax.Array]]
"""Name to (sum, weight)."""

# Float32 logits that one device may hold at once, unless it is told otherwise: 256 MiB.
LOGITS_AT_ONCE = 2**26


def output_cross_entropy(
    x_bte: jax.Array,
    kernel_ev: embeddings.Output,
    targets_bt: jax.Array,
    weights_bt: jax.Array,
    *,
    bias_v: jax.Array | None = None,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    num_chunks: int | None = None,
) -> tuple[jax.Array, Metrics]:
    """`summed_cross_entropy` of the output's logits, which need not exist all at once.

    In chunks of positions, each chunk's loss is computed together with its gradients, which are
    kept in place of its logits: exact, and with no product more than the plain computation.

    Args:
      x_bte: what the output reads.
      kernel_ev: the output's matrix, float32, or an adaptive softmax.
      targets_bt: int `[b, t]`.
      weights_bt: `[b, t]`.
      bias_v: the output's bias, float32, if it has one.
      z_loss: see `summed_cross_entropy`.
      label_smoothing: see `summed_cross_entropy`.
      num_chunks: a divisor of t; None is the least with which one device holds no more than
        `LOGITS_AT_ONCE`.

    Returns:
      See `summed_cross_entropy`.

    Raises:
      ModelError: the chunks do not divide the positions.
    """
    num_chunks = chunk_count(x_bte, kernel_ev, num_chunks)
    options = (("z_loss", z_loss), ("label_smoothing", label_smoothing))
    output = (kernel_ev, bias_v)
    if num_chunks == 1:
        return _plain(x_bte, output, targets_bt, weights_bt, options)
    return _chunked(x_bte, output, targets_bt, weights_bt, num_chunks, options)


def chosen_cross_entropy(
    x_bte: jax.Array,
    kernel_ev: jax.Array,
    targets_bt: jax.Array,
    weights_bt: jax.Array,
    *,
    most: int | None,
    bias_v: jax.Array | None = None,
    label_smoothing: float = 0.0,
    num_chunks: int | None = None,
) -> tuple[jax.Array, Metrics]:
    """`output_cross_entropy` of rows in which few places have a weight, computed at these alone.

    Exact for any weights: where a row has more of them than `most`, all places are computed.

    Args:
      x_bte: as there.
      kernel_ev: as there.
      targets_bt: as there.
      weights_bt: as there.
      most: places of a row; None computes all, as where the length is divided among devices.
      bias_v: as there.
      label_smoothing: as there.
      num_chunks: as there, where all places are computed.

    Returns:
      See `summed_cross_entropy`.
    """
    length = x_bte.shape[1]
    divided = math.prod(mesh_context.shard_counts(("length",))) > 1
    operands = x_bte, kernel_ev, targets_bt, weights_bt, bias_v
    cross_entropy = functools.partial(output_cross_entropy, label_smoothing=label_smoothing)

    def of_all(x_bte, kernel_ev, targets_bt, weights_bt, bias_v):
        return cross_entropy(
            x_bte, kernel_ev, targets_bt, weights_bt, bias_v=bias_v, num_chunks=num_chunks
        )

    if most is None or most >= length or divided:
        return of_all(*operands)

    def of_chosen(x_bte, kernel_ev, targets_bt, weights_bt, bias_v):
        _, places_bm = jax.lax.top_k((weights_bt != 0).astype(jnp.float32), most)
        x_bme = jnp.take_along_axis(x_bte, places_bm[..., None], axis=1)
        targets_bm, weights_bm = (
            jnp.take_along_axis(a, places_bm, axis=1) for a in (targets_bt, weights_bt)
        )
        return cross_entropy(x_bme, kernel_ev, targets_bm, weights_bm, bias_v=bias_v)

    few = ((weights_bt != 0).sum(axis=1) <= most).all()
    return jax.lax.cond(few, of_chosen, of_all, *operands)


def chunk_count(x_bte: jax.Array, kernel_ev: embeddings.Output, num_chunks: int | None) -> int:
    """How many chunks of positions there are; see `output_cross_entropy`.

    Raises:
      ModelError: they do not divide the positions.
    """
    b, t, _ = x_bte.shape
    if num_chunks is None:
        shards = math.prod(mesh_context.shard_counts(("batch", "length", "vocab")))
        at_once = b * t * kernel_ev.shape[1] / shards
        divisors = (n for n in range(1, t + 1) if t % n == 0)
        num_chunks = next((n for n in divisors if at_once / n <= LOGITS_AT_ONCE), t)
    if t % num_chunks:
        raise ModelError(f"logit_chunks {num_chunks} does not divide the row's {t} tokens.")
    return num_chunks


def row_cross_entropy(
    x_bte: jax.Array,
    kernel_ev: embeddings.Output,
    targets_bt: jax.Array,
    weights_bt: jax.Array,
    *,
    bias_v: jax.Array | None = None,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    num_chunks: int | None = None,
) -> Metrics:
    """The metrics of `output_cross_entropy`, whose arguments these are, of each row by itself.

    Without gradients, which a chunk of the other computes at once.

    Returns:
      Name to sum and weight, float32 `[b]` each.
    """
    num_chunks = chunk_count(x_bte, kernel_ev, num_chunks)
    options = (("z_loss", z_loss), ("label_smoothing", label_smoothing))
    output = (kernel_ev, bias_v)

    def of_chunk(chunk):
        return _metrics_of_rows(_logits(chunk[0], output), *chunk[1:], **dict(options))

    arrays = (x_bte, targets_bt, weights_bt)
    if num_chunks == 1:
        return of_chunk(arrays)
    chunks = [position_chunks(a, num_chunks) for a in arrays]
    return jax.tree.map(lambda a_cb: a_cb.sum(axis=0), jax.lax.map(of_chunk, chunks))


def _logits(x_bte, output, rows="batch"):
    logits_btv = embeddings.logits(x_bte, *output)
    return nn.with_logical_constraint(logits_btv, (rows, "length", "vocab"))


def _plain(x_bte, output, targets_bt, weights_bt, options, rows="batch"):
    logits_btv = _logits(x_bte, output, rows)
    return summed_cross_entropy(logits_btv, targets_bt, weights_bt, **dict(options))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _chunked(x_bte, output, targets_bt, weights_bt, num_chunks, options):
    def add(total, chunk):
        x, targets, weights = chunk
        part = _plain(x, output, targets, weights, options)
        return jax.tree.map(jnp.add, total, part), None

    chunks = [position_chunks(a, num_chunks) for a in (x_bte, targets_bt, weights_bt)]
    return jax.lax.scan(add, _zero_loss(chunks, output, options), chunks)[0]


def _chunked_forward(x_bte, output, targets_bt, weights_bt, num_chunks, options):
    shards = math.gcd(*mesh_context.shard_counts(("batch",)), x_bte.shape[0])
    # Gathered once, where FSDP divides it, and not for each chunk.
    output = _constrained(output, ())
    loss = functools.partial(_plain, options=options, rows=None)
    gradient = jax.vmap(
        jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), in_axes=(0, None, 0, 0)
    )

    def add(carry, chunk):
        total, doutput = carry
        x, targets, weights = (_by_shard(a, shards) for a in chunk)
        # Each shard of the batch sums its own gradient of the output: devices exchange it once,
        # after the last chunk.
        part, (dx_sbte, dchunk) = gradient(x, output, targets, weights)
        total = jax.tree.map(lambda a, b: a + b.sum(axis=0), total, part)
        doutput = _constrained(jax.tree.map(jnp.add, doutput, dchunk), ("batch",))
        return (total, doutput), dx_sbte.reshape(chunk[0].shape)

    chunks = [position_chunks(a, num_chunks) for a in (x_bte, targets_bt, weights_bt)]
    zeros = (
        _zero_loss(chunks, output, options),
        jax.tree.map(lambda a: jnp.zeros((shards, *a.shape), jnp.float32), output),
    )
    (total, doutput), dx_cbte = jax.lax.scan(add, zeros, chunks)
    dx_bte = jnp.moveaxis(dx_cbte, 0, 2).reshape(x_bte.shape)
    return total, (dx_bte, jax.tree.map(lambda a: a.sum(axis=0), doutput))


def _chunked_backward(num_chunks, options, residuals, cotangents):
    dx_bte, doutput = residuals
    # Of the results only the loss is differentiated; metrics are for the log.
    scale = cotangents[0]
    doutput = jax.tree.map(lambda a: a * scale, doutput)
    return (dx_bte * scale).astype(dx_bte.dtype), doutput, None, None


_chunked.defvjp(_chunked_forward, _chunked_backward)


def _constrained(output, before):
    """Matrix and bias, divided by vocabulary alone; `before` are further first axes."""
    kernel_ev, bias_v = output
    if isinstance(kernel_ev, AdaptiveSoftmax):
        return kernel_ev.constrained(before), bias_v
    kernel_ev = nn.with_logical_constraint(kernel_ev, (*before, None, "vocab"))
    if bias_v is not None:
        bias_v = nn.with_logical_constraint(bias_v, (*before, "vocab"))
    return kernel_ev, bias_v


def position_chunks(a_bt: jax.Array, num_chunks: int) -> jax.Array:
    """`[b, t, ...]` as `[chunks, b, t / chunks, ...]`.

    Each takes positions from all over the rows, so that every device has its share where the
    length is divided among devices.
    """
    b, t, *rest = a_bt.shape
    return jnp.moveaxis(a_bt.reshape(b, t // num_chunks, num_chunks, *rest), 2, 0)


def _by_shard(a_bt, shards):
    return a_bt.reshape(shards, a_bt.shape[0] // shards, *a_bt.shape[1:])


def _zero_loss(chunks, output, options):
    x, targets, weights = (a[0] for a in chunks)
    shapes = jax.eval_shape(lambda output: _plain(x, output, targets, weights, options), output)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def summed_cross_entropy(
    logits_btv: jax.Array,
    targets_bt: jax.Array,
    weights_bt: jax.Array,
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
) -> tuple[jax.Array, Metrics]:
    """Softmax cross-entropy with its two common additions.

    Args:
      logits_btv: float32 `[b, t, v]`.
      targets_bt: int `[b, t]`.
      weights_bt: `[b, t]`; 0 leaves a token out.
      z_loss: coefficient of `log(Z)²`, which keeps the softmax's normaliser Z near 1
        (Chowdhery et al. 2022, section 5, with 1e-4).
      label_smoothing: probability taken from the target and spread evenly over the other
        tokens (Szegedy et al. 2016, section 7; Vaswani et al. 2017 with 0.1). The entropy
        of the smoothed target is subtracted, so that the least loss is 0.

    Returns:
      The sum over tokens, nats, and the metrics `loss` (the same), `cross_entropy` (of the
      unsmoothed target alone), `z_loss` and `token_accuracy` (whether the target is the likeliest
      token), each with the sum of the weights.
    """
    rows = _metrics_of_rows(
        logits_btv, targets_bt, weights_bt, z_loss=z_loss, label_smoothing=label_smoothing
    )
    metrics = jax.tree.map(jnp.sum, rows)
    return metrics["loss"][0], metrics


def _metrics_of_rows(logits_btv, targets_bt, weights_bt, *, z_loss, label_smoothing):
    """The metrics of `summed_cross_entropy`, `[b]` each."""
    weights_bt = weights_bt.astype(jnp.float32)
    weight_b = weights_bt.sum(axis=1)
    vocab_size = logits_btv.shape[-1]
    top_bt = jax.lax.stop_gradient(logits_btv.max(axis=-1))
    log_z_bt = top_bt + jnp.log(jnp.exp(logits_btv - top_bt[..., None]).sum(axis=-1))
    # A masked sum and not a gather, whose gradient would be a scatter.
    is_target_btv = jnp.arange(vocab_size) == targets_bt[..., None]
    target_bt = jnp.where(is_target_btv, logits_btv, 0).sum(axis=-1)
    cross_entropy_bt = log_z_bt - target_bt
    loss_bt = cross_entropy_bt
    if label_smoothing:
        other = label_smoothing / (vocab_size - 1)
        loss_bt = (
            (1 - label_smoothing - other) * cross_entropy_bt
            + other * (vocab_size * log_z_bt - logits_btv.sum(axis=-1))
            + (1 - label_smoothing) * math.log(1 - label_smoothing)
            + label_smoothing * math.log(other)
        )
    z_loss_bt = z_loss * jnp.square(log_z_bt)
    right_bt = (target_bt >= top_bt).astype(jnp.float32)
    values = {
        "loss": loss_bt + z_loss_bt,
        "cross_entropy": cross_entropy_bt,
        "z_loss": z_loss_bt,
        "token_accuracy": right_bt,
    }
    return {
        name: ((value_bt * weights_bt).sum(axis=1), weight_b) for name, value_bt in values.items()
    }


def summed_binary_cross_entropy(
    logits_bt: jax.Array, labels_bt: jax.Array, weights_bt: jax.Array
) -> tuple[jax.Array, Metrics]:
    """Cross-entropy of a logistic score for each of two labels.

    Args:
      logits_bt: float32 `[b, t]`, above 0 for label 1.
      labels_bt: 0, 1 or bool `[b, t]`.
      weights_bt: `[b, t]`; 0 leaves a place out.

    Returns:
      The sum over places, nats, and the metrics `loss` (the same) and `accuracy`, each with the
      sum of the weights.
    """
    weights_bt = weights_bt.astype(jnp.float32)
    loss_bt = jax.nn.softplus(logits_bt) - labels_bt * logits_bt
    right_bt = (logits_bt > 0) == (labels_bt == 1)
    loss, weight = (loss_bt * weights_bt).sum(), weights_bt.sum()
    return loss, {"loss": (loss, weight), "accuracy": ((right_bt * weights_bt).sum(), weight)}


def with_auxiliary(
    loss: jax.Array, metrics: Metrics, means: Mapping[str, jax.Array], extra: Metrics
) -> tuple[jax.Array, Metrics]:
    """A summed loss and its metrics, with what layers add.

    Args:
      loss: the sum over target tokens.
      metrics: with `loss`.
      means: name to a scalar that is added to the mean loss, and to the metrics.
      extra: metrics that are only logged.
    """
    weight = metrics["loss"][1]
    added = {name: (value * weight, weight) for name, value in means.items()}
    loss = sum((value for value, _ in added.values()), loss)
    return loss, {**metrics, **added, **extra, "loss": (loss, weight)}
