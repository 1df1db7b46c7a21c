"""Optimizers: optax transformations that know the logical axes of the parameters.

Axis names, and not the parameters' names or ranks, decide which parameters decay, which are
orthogonalized, and which dimensions are stacked layers.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from t5x_like.schedules import Schedule

Axes = tuple[str | None, ...]

# Axes along which parameters are stacked; not dimensions of the matrix.
STACKED_AXES = ("layers", "expert")
# The other dimensions of hidden matrices, besides `embed`.
HIDDEN_AXES = ("mlp", "heads", "kv", "joined_kv")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An update rule and its learning rate.

    Attributes:
      name: shown in the summary of a run.
      schedule: learning rate for the number of updates made.
      build: from the tree of the parameters' logical axes to the transformation, whose
        updates are added to the parameters.
    """

    name: str
    schedule: Schedule
    build: Callable[[Any], optax.GradientTransformation]


def decays(axes: Axes) -> bool:
    """Whether weight decay applies: to matrices on `embed`, not biases, norms, position tables."""
    own = [axis for axis in axes if axis not in STACKED_AXES]
    return len(own) >= 2 and "embed" in own


def muon_dimensions(axes: Axes) -> Any:
    """The input and output dimensions of a hidden matrix; None for other parameters.

    Attention kernels are matrices of `embed` by heads and head size together. Embeddings and the
    output head use Adam, as Jordan 2024 advises.
    """
    if "embed" not in axes or not any(axis in axes for axis in HIDDEN_AXES):
        return None
    if len([axis for axis in axes if axis not in STACKED_AXES]) < 2:
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
        return optax.chain(
            *_clipping(global_norm),
            optax.adafactor(
                learning_rate=schedule,
                decay_rate=decay_rate,
                clipping_threshold=clipping_threshold,
                multiply_by_parameter_scale=multiply_by_parameter_scale,
                factored=min_dim_size_to_factor is not None,
                min_dim_size_to_factor=min_dim_size_to_factor or 0,
                momentum=momentum,
                weight_decay_rate=weight_decay or None,
                weight_decay_mask=_map(decays, axes),
            ),
        )

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
    schedule serves both.

    Args:
      schedule: learning rate of both.
      beta: decay of the momentum that is orthogonalized.
      weight_decay: strength, on matrices only.
      b1: decay of Adam's first moment.
      b2: decay of Adam's second moment.
      global_norm: gradient norm above which all gradients are scaled down.
    """

    def build(axes: Any) -> optax.GradientTransformation:
        dimensions = _map(muon_dimensions, axes)
        return optax.chain(
            *_clipping(global_norm),
            contrib.muon(
                schedule,
                beta=beta,
                weight_decay=weight_decay,
                adam_b1=b1,
                adam_b2=b2,
                consistent_rms=0.2,
                # A function, because optax would take a tree with None leaves as a prefix.
                muon_weight_dimension_numbers=lambda params: dimensions,
            ),
        )

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


def _clipping(global_norm: float | None) -> list[optax.GradientTransformation]:
    return [] if global_norm is None else [optax.clip_by_global_norm(global_norm)]


def _map(function: Callable[[Axes], Any], axes: Any) -> Any:
    """Applies `function` to every parameter's axes; a tuple of names is a leaf, not a subtree."""
    return jax.tree.map(function, axes, is_leaf=lambda node: isinstance(node, tuple))
