"""Metrics of labels: of one class, or equal or not."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.errors import TaskError
from tasks.metrics.arguments import check_lengths


def exact_match(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Share of the predictions that equal their target, as texts."""
    return {"exact_match": _share_equal(targets, predictions)}


def accuracy(targets: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """Share of the predictions that equal their target, as labels."""
    return {"accuracy": _share_equal(targets, predictions)}


def _share_equal(targets: Sequence[Any], predictions: Sequence[Any]) -> float:
    check_lengths(targets, predictions)
    return 100 * float(np.mean([t == p for t, p in zip(targets, predictions, strict=True)]))


def f1(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
    """F1 of class 1 for classes 0 and 1; any other prediction counts as the wrong class.

    Raises:
      TaskError: a target of a further class, of which predictions would count for class 1.
    """
    check_lengths(targets, predictions)
    true, guess = np.asarray(targets), np.asarray(predictions)
    if (true > 1).any():
        raise TaskError(
            f"metrics.f1 got the target {true.max()}: it is of classes 0 and 1, and "
            "metrics.macro_f1 of several."
        )
    guess = np.where((guess == 0) | (guess == 1), guess, 1 - true)
    return {"f1": 100 * _f1_of(1, true, guess)}


def macro_f1(
    targets: Sequence[int], predictions: Sequence[int], classes: int | None = None
) -> dict[str, float]:
    """Mean of the F1 of all classes, each counting the same (de Marneffe et al. 2019).

    Args:
      targets: classes, from 0.
      predictions: the same; -1 is no class, and a miss of the right one.
      classes: how many there are. One that neither targets nor predictions have counts 0. None
        takes those that they have.

    Raises:
      TaskError: a target that is no class.
    """
    check_lengths(targets, predictions)
    true, guess = np.asarray(targets), np.asarray(predictions)
    if classes is not None and not ((true >= 0) & (true < classes)).all():
        other = true[(true < 0) | (true >= classes)][0]
        raise TaskError(
            f"macro_f1 of {classes} classes got the target {other}: 0 to {classes - 1}."
        )
    both = np.unique([*targets, *predictions])
    named = both[both >= 0] if classes is None else range(classes)
    return {"macro_f1": 100 * float(np.mean([_f1_of(one, true, guess) for one in named] or [0.0]))}


def _f1_of(one: int, true: npt.NDArray[Any], guess: npt.NDArray[Any]) -> float:
    hits = np.sum((true == one) & (guess == one))
    total = np.sum(true == one) + np.sum(guess == one)
    return float(2 * hits / total) if total else 0.0


def matthews_corrcoef(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
    """Matthews correlation coefficient, CoLA's metric, for any number of classes.

    The correlation of the two class indicators (Gorodkin 2004, equation 8). 0 where it is
    undefined because all targets or all predictions are of one class.
    """
    check_lengths(targets, predictions)
    classes, codes = np.unique([*targets, *predictions], return_inverse=True)
    true = np.eye(len(classes))[codes[: len(targets)]]
    guess = np.eye(len(classes))[codes[len(targets) :]]

    def covariance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum((a - a.mean(0)) * (b - b.mean(0))))

    scale = covariance(true, true) * covariance(guess, guess)
    return {"matthews_corrcoef": 100 * covariance(true, guess) / scale**0.5 if scale else 0.0}
