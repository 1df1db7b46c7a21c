"""Metrics of labels: of one class, or equal or not."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.errors import TaskError
from tasks.metrics.arguments import A_CLASS, check_lengths, is_list, numbers, refused, shown


def exact_match(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Share of the predictions that equal their target, as texts."""
    return {"exact_match": _share_equal("exact_match", targets, predictions)}


def accuracy(targets: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """Share of the predictions that equal their target, as labels."""
    return {"accuracy": _share_equal("accuracy", targets, predictions)}


def _share_equal(metric: str, targets: Sequence[Any], predictions: Sequence[Any]) -> float:
    check_lengths(targets, predictions)
    for target, prediction in zip(targets, predictions, strict=True):
        # None is no answer, which no target equals.
        if prediction is not None and _kind(target) != _kind(prediction):
            raise refused(
                metric,
                target,
                f"the prediction is {shown(prediction)}, and both must be texts, or both numbers; "
                "metrics.squad takes lists of accepted answers",
            )
    return 100 * float(np.mean([t == p for t, p in zip(targets, predictions, strict=True)]))


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "list" if is_list(value) else "number"


def f1(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
    """F1 of class 1 for classes 0 and 1; any other prediction counts as the wrong class.

    Raises:
      TaskError: a target of a further class, of which predictions would count for class 1.
    """
    check_lengths(targets, predictions)
    true, guess = (numbers("f1", values, A_CLASS) for values in (targets, predictions))
    if (true > 1).any():
        raise TaskError(
            f"metrics.f1 got the target {true.max():g}: it is of classes 0 and 1, and "
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
      TaskError: a target that is no class, or `classes` below 1.
    """
    check_lengths(targets, predictions)
    if classes is not None and classes < 1:
        raise TaskError(f"metrics.macro_f1.classes is {classes}: 1 or more, or None, is needed.")
    true, guess = (numbers("macro_f1", values, A_CLASS) for values in (targets, predictions))
    if classes is not None and not ((true >= 0) & (true < classes)).all():
        other = true[(true < 0) | (true >= classes)][0]
        raise TaskError(
            f"macro_f1 of {classes} classes got the target {other:g}: 0 to {classes - 1}."
        )
    both = np.unique([*true, *guess])
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
    for value in (*targets, *predictions):
        if is_list(value):
            raise refused("matthews_corrcoef", value, A_CLASS)
    classes, codes = np.unique([*targets, *predictions], return_inverse=True)
    true = np.eye(len(classes))[codes[: len(targets)]]
    guess = np.eye(len(classes))[codes[len(targets) :]]

    def covariance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum((a - a.mean(0)) * (b - b.mean(0))))

    scale = covariance(true, true) * covariance(guess, guess)
    return {"matthews_corrcoef": 100 * covariance(true, guess) / scale**0.5 if scale else 0.0}
