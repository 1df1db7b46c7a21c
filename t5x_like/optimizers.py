"""Optimizers: optax transformations that know the logical axes of the parameters.

Axis names, and not the parameters' names or ranks, decide which parameters decay, which are
orthogonalized, and which dimensions are stacked layers. Layers and experts that are stacked in one
array are updated as if each were an array of its own.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

from t5x_like.schedules import Schedule

Axes = tuple[str | None, ...]

# Axes along which parameters are stacked; not dimensions of the matrix.
STACKED_AXES = ("layers", "expert")
# The other dimensions of hidden matrices, besides `embed`.
HIDDEN_AXES = ("mlp", "heads", "kv", "joined_kv")
# Adafactor's two small constants, of second moments and of the parameter scale (Shazeer and
# Stern 2018, section 9).
_EPSILON_1, _EPSILON_2 = 1e-30, 1e-3


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An update rule and its learning rate.

    Attributes:
      name: shown in the summary of a run.
      schedule: learning rate for the number of steps made, skipped updates included.
      build: from the tree of the parameters' logical axes to the transformation, whose
        updates are added to the parameters.
    """

    name: str
    schedule: Schedule
    build: Callable[[Any], optax.GradientTransformation]


def schedules_at(opt_state: Any, step: jax.Array) -> Any:
    """The optimizer's state with the counts of its schedules set to `step`.

    optax counts updates. An update that is not applied leaves the state as it was, and the learning
    rate would lag behind the step by one from then on.

    Args:
      opt_state: of any optimizer.
      step: steps made, skipped updates included, int32 scalar.
    """

    def counts(node: Any) -> bool:
        # Of a schedule of learning rates, or of weight decay; moments have counts of their own.
        return getattr(node, "_fields", None) == ("count",)

    return jax.tree.map(
        lambda node: node._replace(count=step) if counts(node) else node, opt_state, is_leaf=counts
    )


def own_dimensions(axes: Axes) -> tuple[int, ...]:
    """The dimensions of a single layer's or expert's parameter, without those that stack it."""
    return tuple(i for i, axis in enumerate(axes) if axis not in STACKED_AXES)


def decays(axes: Axes) -> bool:
    """Whether weight decay applies: to matrices on `embed`, not biases, norms, position tables."""
    return len(own_dimensions(axes)) >= 2 and "embed" in axes


def muon_dimensions(axes: Axes) -> Any:
    """The input and output dimensions of a hidden matrix; None for other parameters.

    Attention kernels are matrices of `embed` by heads and head size together. Embeddings and the
    output head use Adam, as Jordan 2024 advises.
    """
    if "embed" not in axes or not any(axis in axes for axis in HIDDEN_AXES):
        return None
    if len(own_dimensions(axes)) < 2:
        return None
    embed = (axes.index("embed"),)
    others = tuple(i for i, axis in enumerate(axes) if axis in HIDDEN_AXES)
    first, second = (embed, others) if embed[0] < others[0] else (others, embed)
    return contrib.MuonDimensionNumbers(reduction_axis=first, output_axis=second)


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
    """

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
            rules.append(optax.add_decayed_weights(weight_decay, _map(decays, axes)))
        return optax.chain(*_clipping(global_norm), optax.chain(*rules, optax.scale(-1.0)))

    return Optimizer("Adafactor", schedule, build)


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
    """

    def build(axes: Any) -> optax.GradientTransformation:
        mask = _map(decays, axes)
        if bias_correction:
            rule = optax.adamw(
                schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=mask
            )
        else:
            rule = optax.chain(
                _uncorrected_adam(b1, b2, eps),
                optax.add_decayed_weights(weight_decay, mask),
                optax.scale_by_learning_rate(schedule),
            )
        return optax.chain(*_clipping(global_norm), rule)

    return Optimizer("AdamW", schedule, build)


def lion(
    schedule: Schedule,
    b1: float = 0.9,
    b2: float = 0.99,
    weight_decay: float = 1.0,
    global_norm: float | None = 1.0,
) -> Optimizer:
    """Lion (Chen et al. 2023, algorithm 2): the sign of an interpolated momentum.

    Args:
      schedule: learning rate; 3 to 10 times smaller than AdamW's (section 5).
      b1: interpolation for the update.
      b2: decay of the momentum.
      weight_decay: strength, on matrices only; 3 to 10 times AdamW's.
      global_norm: gradient norm above which all gradients are scaled down.
    """

    def build(axes: Any) -> optax.GradientTransformation:
        mask = _map(decays, axes)
        return optax.chain(
            *_clipping(global_norm),
            optax.lion(schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=mask),
        )

    return Optimizer("Lion", schedule, build)


def muon(
    schedule: Schedule,
    beta: float = 0.95,
    weight_decay: float = 0.1,
    b1: float = 0.9,
    b2: float = 0.95,
    global_norm: float | None = 1.0,
) -> Optimizer:
    """Muon (Jordan 2024) on hidden matrices, AdamW on everything else.

    Updates have AdamW's root mean square (Liu et al. 2025, equation 4), so that one
    schedule serves both. Each layer and each expert of a stack is orthogonalized by itself. AdamW
    is that of `adamw`: it decays the matrices among its parameters, such as embeddings.

    Args:
      schedule: learning rate of both.
      beta: decay of the momentum that is orthogonalized.
      weight_decay: strength, on matrices only.
      b1: decay of Adam's first moment.
      b2: decay of Adam's second moment.
      global_norm: gradient norm above which all gradients are scaled down.
    """

    def build(axes: Any) -> optax.GradientTransformation:
        # `optax.partition` hides from each rule the other's parameters, as `MaskedNode`s.
        hidden = optax.MaskedNode()
        dimensions = _map(lambda one: muon_dimensions(one) or hidden, axes)
        decayed = _map(lambda one: hidden if muon_dimensions(one) else decays(one), axes)
        matrices = optax.chain(
            contrib.scale_by_muon(beta=beta, weight_dimension_numbers=dimensions),
            _scale_to_adams_rms(dimensions),
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_learning_rate(schedule),
        )
        rest = optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=decayed)
        rule = optax.partition(
            {"muon": matrices, "adam": rest},
            _map(lambda one: "muon" if muon_dimensions(one) else "adam", axes),
        )
        return optax.chain(*_clipping(global_norm), rule)

    return Optimizer("Muon", schedule, build)


def _uncorrected_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
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
        return update / jnp.maximum(1.0, _rms(update, one) / threshold)

    return optax.stateless(lambda updates, _: jax.tree.map(clip, updates, axes))


def _scale_by_parameter_rms(axes: Any) -> optax.GradientTransformation:
    """Multiplies each layer's update by the root mean square of its parameter (algorithm 4)."""

    def scale(update: jax.Array, parameter: jax.Array, one: Axes) -> jax.Array:
        return update * jnp.maximum(_rms(parameter, one), _EPSILON_2)

    return optax.stateless(lambda updates, params: jax.tree.map(scale, updates, params, axes))


def _rms(value: jax.Array, axes: Axes) -> jax.Array:
    """The root mean square of each layer and expert, with its dimensions kept as 1."""
    return jnp.sqrt(jnp.mean(jnp.square(value), axis=own_dimensions(axes), keepdims=True))


def _scale_to_adams_rms(dimensions: Any) -> optax.GradientTransformation:
    """`0.2 sqrt(max(rows, columns))` times an orthogonal matrix (Liu et al. 2025, equation 4)."""

    def scale(update: jax.Array, one: contrib.MuonDimensionNumbers) -> jax.Array:
        sides = (math.prod(update.shape[i] for i in side) for side in one)
        return 0.2 * math.sqrt(max(sides)) * update

    return optax.stateless(lambda updates, _: jax.tree.map(scale, updates, dimensions))


def _clipping(global_norm: float | None) -> list[optax.GradientTransformation]:
    return [] if global_norm is None else [optax.clip_by_global_norm(global_norm)]


def _map(function: Callable[[Axes], Any], axes: Any) -> Any:
    """Applies `function` to every parameter's axes; a tuple of names is a leaf, not a subtree."""
    return jax.tree.map(function, axes, is_leaf=lambda node: isinstance(node, tuple))
