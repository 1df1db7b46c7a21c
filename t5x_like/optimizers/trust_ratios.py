"""LAMB: every parameter moves in proportion to its own size."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5x_like.optimizers.adam import uncorrected_adam
from t5x_like.optimizers.axes import Axes, decays, map_axes, own_dimensions
from t5x_like.optimizers.optimizer import Optimizer, check_numbers, clipping
from t5x_like.schedules import Schedule


def lamb(
    schedule: Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    global_norm: float | None = 1.0,
    bias_correction: bool = False,
) -> Optimizer:
    """LAMB (You et al. 2020, algorithm 2), with the settings of ALBERT's released code as defaults.

    Adam's update, with its decay, has the norm of the parameter that it changes, times the rate.
    Each layer and each expert of a stack has its own norms. As in the released code, biases and
    norms neither decay nor are they scaled.

    Args:
      schedule: learning rate, relative to the norm of each matrix.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
      weight_decay: strength, on matrices only.
      global_norm: gradient norm above which all gradients are scaled down.
      bias_correction: whether moments are divided by what their zero starts took from them. The
        paper does, the released code does not.

    Raises:
      UserError: a number with which it cannot learn.
    """
    check_numbers("lamb", global_norm=global_norm, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)

    def build(axes: Any) -> optax.GradientTransformation:
        adam = optax.scale_by_adam if bias_correction else uncorrected_adam
        return optax.chain(
            *clipping(global_norm),
            adam(b1, b2, eps),
            optax.add_decayed_weights(weight_decay, map_axes(decays, axes)),
            _scale_to_norm_of_parameter(axes),
            optax.scale_by_learning_rate(schedule),
        )

    return Optimizer("LAMB", schedule, build)


def _scale_to_norm_of_parameter(axes: Any) -> optax.GradientTransformation:
    """Multiplies each layer's update by the ratio of norms; by 1 where either is 0."""

    def scale(update: jax.Array, parameter: jax.Array, one: Axes) -> jax.Array:
        if not decays(one):
            return update
        of_parameter, of_update = _norm(parameter, one), _norm(update, one)
        usable = (of_parameter > 0) & (of_update > 0)
        return update * jnp.where(usable, of_parameter / jnp.where(usable, of_update, 1.0), 1.0)

    return optax.stateless(lambda updates, params: jax.tree.map(scale, updates, params, axes))


def _norm(value: jax.Array, axes: Axes) -> jax.Array:
    """The Euclidean norm of each layer and expert, with its dimensions kept as 1."""
    return jnp.sqrt(jnp.sum(jnp.square(value), axis=own_dimensions(axes), keepdims=True))
