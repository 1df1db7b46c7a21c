"""Losses, summed over the target tokens; the engine divides by the sum of the weights."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

Metrics = dict[str, tuple[jax.Array, jax.Array]]
"""Name to (sum, weight)."""


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
      unsmoothed target alone), `z_loss` and `accuracy`, each with the sum of the weights.
    """
    weights_bt = weights_bt.astype(jnp.float32)
    weight = weights_bt.sum()
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
    loss = ((loss_bt + z_loss_bt) * weights_bt).sum()
    right_bt = (target_bt >= top_bt).astype(jnp.float32)
    metrics = {
        "loss": (loss, weight),
        "cross_entropy": ((cross_entropy_bt * weights_bt).sum(), weight),
        "z_loss": ((z_loss_bt * weights_bt).sum(), weight),
        "accuracy": ((right_bt * weights_bt).sum(), weight),
    }
    return loss, metrics


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
