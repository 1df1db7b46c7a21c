"""What metrics ask of their arguments."""

from collections.abc import Collection, Mapping, Sequence, Sized
from typing import Any, SupportsFloat

import numpy as np
import numpy.typing as npt

from tasks.errors import TaskError

Numbers = npt.NDArray[np.float64]
Several = str | Sequence[str]
"""A text, or several of which each is as good."""

A_NUMBER = "a number is needed, as postprocessors.Number reads it in a text"
A_CLASS = "the number of a class is needed, as postprocessors.LabelClass makes it of a text"


def check_lengths(targets: Sized, predictions: Sized) -> None:
    """Checks that there is a prediction for each target, and at least one.

    Raises:
      TaskError: there is not.
    """
    if len(targets) != len(predictions) or not len(targets):
        raise TaskError(
            f"a metric got {len(targets)} targets and {len(predictions)} predictions: "
            "the same number of both, and at least one, is needed."
        )


def refused(metric: str, value: Any, needed: str) -> TaskError:
    """The error of a value that a metric cannot read."""
    return TaskError(f"metrics.{metric} got {shown(value)}: {needed}.")


def shown(value: Any) -> str:
    """A value in a message, on one line."""
    told = " ".join(repr(value).split())
    told = told if len(told) <= 60 else f"{told[:60]}…"
    return f"the text {told}" if isinstance(value, str) else told


def is_list(value: Any) -> bool:
    """Whether a value is several, and no text."""
    is_one = isinstance(value, str | bytes | Mapping) or getattr(value, "ndim", None) == 0
    return isinstance(value, Collection) and not is_one


def texts(metric: str, value: Any) -> list[str]:
    """Texts, such as accepted answers; one that is alone is the only one.

    Raises:
      TaskError: another value, or one among them.
    """
    several = list(value) if is_list(value) else [value]
    for one in several:
        if not isinstance(one, str):
            raise refused(metric, one, "a text is needed, as postprocessors.Text gives it")
    return several


def answers_and_texts(
    metric: str, targets: Sequence[Several], predictions: Sequence[str]
) -> tuple[list[list[str]], list[str]]:
    """The accepted answers of each row, of which a text is the only one, and what was said.

    Raises:
      TaskError: as many of both are needed, and texts.
    """
    check_lengths(targets, predictions)
    return [texts(metric, answers) for answers in targets], texts(metric, predictions)


def numbers(metric: str, values: Sequence[Any], needed: str = A_NUMBER) -> Numbers:
    """Numbers, float64.

    Args:
      metric: its name.
      values: its targets or predictions.
      needed: what is, and the postprocessor that gives it, for errors.

    Raises:
      TaskError: one of them is none.
    """
    for value in values:
        if isinstance(value, str) or is_list(value) or not isinstance(value, SupportsFloat):
            raise refused(metric, value, needed)
    return np.asarray(values, np.float64)


def check_lists(
    metric: str, targets: Sequence[Any], predictions: Sequence[Any], needed: str
) -> None:
    """Checks that each row has a list on either side, of equal lengths.

    Args:
      metric: its name.
      targets: a list each.
      predictions: as many.
      needed: what is, and which tasks have it, for errors.

    Raises:
      TaskError: they are not.
    """
    check_lengths(targets, predictions)
    for value in (*targets, *predictions):
        if not is_list(value):
            raise refused(metric, value, needed)
    for i, (target, prediction) in enumerate(zip(targets, predictions, strict=True)):
        if len(target) != len(prediction):
            raise TaskError(
                f"metrics.{metric} got {len(target)} targets and {len(prediction)} predictions in "
                f"row {i}: as many of both are needed."
            )
