"""Muon: hidden matrices move by orthogonal ones."""

import math
from typing import Any

import jax
import optax
from optax import contrib

from t5x_like.optimizers.axes import Axes, decays, map_axes, own_dimensions
from t5x_like.optimizers.optimizer import Optimizer, check_numbers, clipping
from t5x_like.schedules import Schedule

# The other dimensions of hidden matrices, besides `embed`.
HIDDEN_AXES = ("mlp", "heads", "kv", "joined_kv", "joined_shared_kv")


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

    Raises:
      UserError: a number with which it cannot learn.
    """
    check_numbers("muon", global_norm=global_norm, b1=b1, b2=b2, weight_decay=weight_decay)

    def build(axes: Any) -> optax.GradientTransformation:
        # `optax.partition` hides from each rule the other's parameters, as `MaskedNode`s.
        hidden = optax.MaskedNode()
        dimensions = map_axes(lambda one: muon_dimensions(one) or hidden, axes)
        decayed = map_axes(lambda one: hidden if muon_dimensions(one) else decays(one), axes)
        matrices = optax.chain(
            contrib.scale_by_muon(beta=beta, weight_dimension_numbers=dimensions),
            _scale_to_adams_rms(dimensions),
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_learning_rate(schedule),
        )
        rest = optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=decayed)
        rule = optax.partition(
            {"muon": matrices, "adam": rest},
            map_axes(lambda one: "muon" if muon_dimensions(one) else "adam", axes),
        )
        return optax.chain(*clipping(global_norm), rule)

    return Optimizer("Muon", schedule, build)


def _scale_to_adams_rms(dimensions: Any) -> optax.GradientTransformation:
    """`0.2 sqrt(max(rows, columns))` times an orthogonal matrix (Liu et al. 2025, equation 4)."""

    def scale(update: jax.Array, one: contrib.MuonDimensionNumbers) -> jax.Array:
        sides = (math.prod(update.shape[i] for i in side) for side in one)
        return 0.2 * math.sqrt(max(sides)) * update

    return optax.stateless(lambda updates, _: jax.tree.map(scale, updates, dimensions))
