"""Postprocessors: from decoded text, generated or target, to what the metrics compare."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Postprocessor(Protocol):
    """A function of decoded text, its example, and whether the text is the target."""

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """The value that the metrics compare."""


@dataclasses.dataclass(frozen=True)
class Text:
    """Returns the text unchanged."""

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> str:
        """The text."""
        return text


TEXT = Text()


@dataclasses.dataclass(frozen=True)
class LabelClass:
    """The index of a label, from 0; -1 for any other text, which always counts as wrong.

    Attributes:
      labels: the texts of all labels.
    """

    labels: Sequence[str]

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> int:
        """The index of the label that equals the text (Raffel et al. 2020, section 2.4)."""
        return list(self.labels).index(text) if text in self.labels else -1


@dataclasses.dataclass(frozen=True)
class Number:
    """The number that a text spells, or `otherwise` where it spells none.

    Attributes:
      otherwise: a number outside the range of the targets.
    """

    otherwise: float = -1.0

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> float:
        """The text as a finite number, or `otherwise`."""
        try:
            value = float(text)
        except ValueError:
            return self.otherwise
        return value if abs(value) < float("inf") else self.otherwise


@dataclasses.dataclass(frozen=True)
class AllAnswers:
    """The text of a prediction, and all accepted answers of a target."""

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """The text, or the example's list of answers."""
        if not is_target:
            return text
        answers = example["answers"]
        return [a.decode("utf-8") if isinstance(a, bytes) else str(a) for a in answers]
