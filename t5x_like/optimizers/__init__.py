"""Optimizers: optax transformations that know the logical axes of the parameters.

Axis names, and not the parameters' names or ranks, decide which parameters decay, which are
orthogonalized, and which dimensions are stacked layers. Layers and experts that are stacked in one
array are updated as if each were an array of its own.
"""

from t5x_like.optimizers.adagrad import adadelta, adagrad
from t5x_like.optimizers.adam import adamax, adamw
from t5x_like.optimizers.averaged import moving_average
from t5x_like.optimizers.axes import STACKED_AXES, decays
from t5x_like.optimizers.factored import adafactor
from t5x_like.optimizers.first_layers import first_layers
from t5x_like.optimizers.layer_rates import layerwise_decay
from t5x_like.optimizers.momentum import sgd
from t5x_like.optimizers.nonmonotonic import (
    after_validation,
    follows_validation,
    measured_params,
    nonmonotonic_average,
)
from t5x_like.optimizers.optimizer import Optimizer, clipping, schedules_at
from t5x_like.optimizers.orthogonal import muon, muon_dimensions
from t5x_like.optimizers.signs import lion
from t5x_like.optimizers.trust_ratios import lamb
from t5x_like.optimizers.unfreezing import gradual_unfreezing

__all__ = [
    "STACKED_AXES",
    "Optimizer",
    "adadelta",
    "adafactor",
    "adagrad",
    "adamax",
    "adamw",
    "after_validation",
    "clipping",
    "decays",
    "first_layers",
    "follows_validation",
    "gradual_unfreezing",
    "lamb",
    "layerwise_decay",
    "lion",
    "measured_params",
    "moving_average",
    "muon",
    "muon_dimensions",
    "nonmonotonic_average",
    "schedules_at",
    "sgd",
]
