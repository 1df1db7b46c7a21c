"""Adam with decoupled weight decay, and its form with the largest gradient for a moment."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5x_like.optimizers.axes import decays, map_axes
from t5x_like.optimizers.optimizer import Optimizer, check_numbers, clipping
from t5x_like.schedules import Schedule


def adamw(
    schedule: Schedule,
    b1: float = 0.9,
    b2: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    global_norm: float | None = 1.0,
    bias_correction: bool = True,
) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019, algorithm 2), its decay multiplied by the schedule.

    Args:
      schedule: learning rate.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
      weight_decay: strength, on matrices only.
      global_norm: gradient norm above which all gradients are scaled down.
      bias_correction: whether moments are divided by what their zero starts took from them
        (Kingma and Ba 2015, section 3). The released code of BERT does not: its first update is
        `(1 - b1) / sqrt(1 - b2)` times the sign of the gradient, 3.162 and not 1.

    Raises:
      UserError: a number with which it cannot learn.
    """
    check_numbers(
        "adamw", global_norm=global_norm, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay
    )

    def build(axes: Any) -> optax.GradientTransformation:
        mask = map_axes(decays, axes)
        if bias_correction:
            rule = optax.adamw(
                schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=mask
            )
        else:
            rule = optax.chain(
                uncorrected_adam(b1, b2, eps),
                optax.add_decayed_weights(weight_decay, mask),
                optax.scale_by_learning_rate(schedule),
            )
        return optax.chain(*clipping(global_norm), rule)

    return Optimizer("AdamW", schedule, build)


def adamax(
    schedule: Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    global_norm: float | None = 1.0,
) -> Optimizer:
    """Adamax (Kingma and Ba 2015, algorithm 2): Adam whose second moment is a maximum.

    Args:
      schedule: learning rate.
      b1: decay of the first moment.
      b2: decay of the largest gradient so far.
      eps: added to each gradient's size, as in PyTorch.
      weight_decay: strength, on matrices only, multiplied by the schedule.
      global_norm: gradient norm above which all gradients are scaled down.

    Raises:
      UserError: a number with which it cannot learn.
    """
    check_numbers(
        "adamax", global_norm=global_norm, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay
    )

    def build(axes: Any) -> optax.GradientTransformation:
        return optax.chain(
            *clipping(global_norm),
            optax.scale_by_adamax(b1, b2, eps),
            optax.add_decayed_weights(weight_decay, map_axes(decays, axes)),
            optax.scale_by_learning_rate(schedule),
        )

    return Optimizer("Adamax", schedule, build)


def uncorrected_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """`m / (sqrt(v) + eps)`, with the moments as they are."""

    def init(params: optax.Params) -> optax.ScaleByAdamState:
        mu, nu = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), mu, nu)

    def update(
        updates: optax.Updates, state: optax.ScaleByAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.nu, updates)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(optax.safe_increment(state.count), mu, nu)

    return optax.GradientTransformation(init, update)
