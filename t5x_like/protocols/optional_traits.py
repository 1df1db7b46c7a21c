"""What a model says of itself beyond `Model`, and what holds where it says nothing."""

from collections.abc import Mapping

from t5x_like.protocols.models import (
    Carries,
    LearnsFromRewards,
    MeasuresRows,
    Model,
    Tuning,
    UsesFrozen,
)


def frozen_models(model: Model) -> Mapping[str, Model]:
    """The models whose parameters a model's loss reads, by name; mostly none."""
    return model.frozen_models if isinstance(model, UsesFrozen) else {}


def beside_policy(model: Model) -> list[str]:
    """First parts of the names of parameters that a policy's class does not read; mostly none."""
    return list(model.beside_policy) if isinstance(model, LearnsFromRewards) else []


def tuning(model: Model) -> Tuning | None:
    """What of a model training changes; mostly None, which is all."""
    return getattr(model, "tuning", None)


def longest_row(model: Model) -> int | None:
    """Most tokens that a row may have: `max_length` less what stands before them; None for any."""
    tuned = tuning(model)
    if model.max_length is None or tuned is None:
        return model.max_length
    return model.max_length - tuned.added_length


def vocab_size(model: Model, feature: str) -> int:
    """How many ids a model knows of a feature, its own or a batch's: an encoder may have others."""
    of_source = getattr(model, "source_vocab_size", None)
    if of_source is None or not feature.startswith(("inputs", "encoder_")):
        return model.vocab_size
    return of_source


def mixes_rows(model: Model) -> bool:
    """Whether the loss of a row depends on those that it is computed together with."""
    return getattr(model, "mixes_rows", False)


def feature_values(model: Model) -> Mapping[str, int]:
    """How many values a model tells apart in a batch's features that are no tokens; mostly none."""
    return getattr(model, "feature_values", {})


def label_names(model: Model) -> Mapping[str, tuple[str, ...]]:
    """The names of classes that a model predicts, by output; mostly none."""
    return getattr(model, "label_names", {})


def carries(model: Model) -> bool:
    """Whether a model hands a state from one batch to the next."""
    return isinstance(model, Carries) and model.carries


def measures_rows(model: Model) -> bool:
    """Whether a model's `row_metrics` are of the loss that it is trained by.

    A class that derives another `loss`, without row metrics of its own, is measured by that one.
    """
    if not isinstance(model, MeasuresRows) or carries(model) or frozen_models(model):
        return False
    nearest = next(c for c in type(model).__mro__ if {"loss", "row_metrics"} & vars(c).keys())
    return "row_metrics" in vars(nearest)
