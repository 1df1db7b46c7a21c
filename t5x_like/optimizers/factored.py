"""Adafactor: second moments as a row and a column for each matrix."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from t5x_like.optimizers.axes import Axes, decays, map_axes, own_dimensions, rms
from t5x_like.optimizers.optimizer import Optimizer, check_numbers, clipping
from t5x_like.schedules import Schedule

# Adafactor's two small constants, of second moments and of the parameter scale (Shazeer and
# Stern 2018, section 9).
_EPSILON_1, _EPSILON_2 = 1e-30, 1e-3


def adafactor(
    schedule: Schedule,
    decay_rate: float = 0.8,
    clipping_threshold: float | None = 1.0,
    multiply_by_parameter_scale: bool = True,
    min_dim_size_to_factor: int | None = 128,
    momentum: float | None = None,
    weight_decay: float | Schedule = 0.0,
    global_norm: float | None = None,
) -> Optimizer:
    """Adafactor (Shazeer and Stern 2018), with T5's settings as defaults.

    Each layer and each expert of a stack has its own scale, its own clipping and its own factors.

    Args:
      schedule: learning rate; with `multiply_by_parameter_scale` it is relative to
        the root mean square of each parameter (algorithm 4).
      decay_rate: exponent of the second moments' decay, `1 - n ** -decay_rate` (section 7.2).
      clipping_threshold: root mean square above which an update is scaled down
        (section 6).
      multiply_by_parameter_scale: see `schedule`.
      min_dim_size_to_factor: matrices with a smaller side keep whole second moments; None
        keeps those of all.
      momentum: decay of the averaged update; None for none.
      weight_decay: fraction of the weight that each step subtracts, independent of the
        learning rate: a number, or a schedule.
      global_norm: gradient norm above which all gradients are scaled down.

    Raises:
      UserError: a number with which it cannot learn.
    """
    check_numbers(
        "adafactor",
        global_norm=global_norm,
        clipping_threshold=clipping_threshold,
        decay_rate=decay_rate,
        momentum=momentum,
        weight_decay=weight_decay,
    )

    def build(axes: Any) -> optax.GradientTransformation:
        # In optax.adafactor's order, so that checkpoints name the state alike.
        rules = [_scale_by_second_moments(axes, decay_rate, min_dim_size_to_factor)]
        if clipping_threshold is not None:
            rules.append(_clip_by_rms(axes, clipping_threshold))
        rules.append(optax.scale_by_learning_rate(schedule, flip_sign=False))
        if multiply_by_parameter_scale:
            rules.append(_scale_by_parameter_rms(axes))
        if momentum is not None:
            rules.append(optax.ema(momentum, debias=False))
        if weight_decay:
            rules.append(optax.add_decayed_weights(weight_decay, map_axes(decays, axes)))
        return optax.chain(*clipping(global_norm), optax.chain(*rules, optax.scale(-1.0)))

    return Optimizer("Adafactor", schedule, build)


def _scale_by_second_moments(
    axes: Any, decay_rate: float, min_dim_size_to_factor: int | None
) -> optax.GradientTransformation:
    """Divides by the root of the second moments (algorithms 2 and 4), factored where it says so.

    Row, column and whole moments that a parameter does not have are of shape (1,), as optax's.
    """

    def moments(leaf: jax.Array, one: Axes) -> tuple[jax.Array, ...]:
        factored = _factored(one, leaf.shape, min_dim_size_to_factor)
        if factored is None:
            shapes: tuple[Any, ...] = ((1,), (1,), leaf.shape)
        else:
            row, column = (tuple(np.delete(leaf.shape, i)) for i in reversed(factored))
            shapes = (row, column, (1,))
        return tuple(jnp.zeros(shape, leaf.dtype) for shape in shapes)

    def init(params: optax.Params) -> optax.FactoredState:
        parts = _transposed(jax.tree.map(moments, params, axes), params, 3)
        return optax.FactoredState(jnp.zeros((), jnp.int32), *parts)

    def update(
        updates: optax.Updates, state: optax.FactoredState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.FactoredState]:
        kept = 1 - jnp.float32(state.count + 1) ** -decay_rate  # section 7.2

        def mean(before: jax.Array, now: jax.Array) -> jax.Array:
            return (kept * before + (1 - kept) * now).astype(before.dtype)

        def scale(
            gradient: jax.Array, one: Axes, row: jax.Array, column: jax.Array, whole: jax.Array
        ) -> tuple[jax.Array, ...]:
            squared = jnp.square(gradient) + _EPSILON_1
            factored = _factored(one, gradient.shape, min_dim_size_to_factor)
            if factored is None:
                whole = mean(whole, squared)
                return gradient * whole**-0.5, row, column, whole
            shorter, longer = factored
            row, column = mean(row, squared.mean(longer)), mean(column, squared.mean(shorter))
            mean_row = row.mean(shorter - (shorter > longer), keepdims=True)
            row_scale = jnp.expand_dims((row / mean_row) ** -0.5, longer)
            column_scale = jnp.expand_dims(column**-0.5, shorter)
            return gradient * row_scale * column_scale, row, column, whole

        scaled = jax.tree.map(scale, updates, axes, *state[1:])
        updates, *parts = _transposed(scaled, updates, 4)
        return updates, optax.FactoredState(optax.safe_increment(state.count), *parts)

    return optax.GradientTransformation(init, update)


def _transposed(tree: Any, like: Any, count: int) -> Any:
    """A tree of tuples of `count` as a tuple of trees."""
    return jax.tree.transpose(jax.tree.structure(like), jax.tree.structure((0,) * count), tree)


def _factored(axes: Axes, shape: tuple[int, ...], smallest: int | None) -> tuple[int, int] | None:
    """The two longest dimensions of a single layer's parameter, the longest last.

    None where it keeps its whole second moments.
    """
    longest = sorted(own_dimensions(axes), key=lambda dimension: shape[dimension])[-2:]
    if smallest is None or len(longest) < 2 or shape[longest[0]] < smallest:
        return None
    return longest[0], longest[1]


def _clip_by_rms(axes: Any, threshold: float) -> optax.GradientTransformation:
    """Scales each layer's update down to this root mean square (section 6)."""

    def clip(update: jax.Array, one: Axes) -> jax.Array:
        return update / jnp.maximum(1.0, rms(update, one) / threshold)

    return optax.stateless(lambda updates, _: jax.tree.map(clip, updates, axes))


def _scale_by_parameter_rms(axes: Any) -> optax.GradientTransformation:
    """Multiplies each layer's update by the root mean square of its parameter (algorithm 4)."""

    def scale(update: jax.Array, parameter: jax.Array, one: Axes) -> jax.Array:
        return update * jnp.maximum(rms(parameter, one), _EPSILON_2)

    return optax.stateless(lambda updates, params: jax.tree.map(scale, updates, params, axes))
