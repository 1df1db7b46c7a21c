"""Generated text to what the metrics compare; targets go the same way."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Postprocessor(Protocol):
    """Called with decoded text, the example it belongs to, and whether it is the target."""

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """What the metrics are given."""


@dataclasses.dataclass(frozen=True)
class Text:
    """The text as it is."""

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> str:
        """`text`."""
        return text


TEXT = Text()


@dataclasses.dataclass(frozen=True)
class LabelClass:
    """The number of a label, counted from 0; -1 for anything else, which is never right.

    Attributes:
      labels: all labels, as the model writes them.
    """

    labels: Sequence[str]

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> int:
        """The label's number; the exact text counts (Raffel et al. 2020, section 2.4)."""
        return list(self.labels).index(text) if text in self.labels else -1


@dataclasses.dataclass(frozen=True)
class Number:
    """A number, or `otherwise` for a text that is none.

    Attributes:
      otherwise: outside the range of the targets.
    """

    otherwise: float = -1.0

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> float:
        """`text` as a finite number."""
        try:
            value = float(text)
        except ValueError:
            return self.otherwise
        return value if abs(value) < float("inf") else self.otherwise


@dataclasses.dataclass(frozen=True)
class AllAnswers:
    """The text; as the target, every accepted answer of the example."""

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """`text`, or the list of answers."""
        if not is_target:
            return text
        answers = example["answers"]
        return [a.decode("utf-8") if isinstance(a, bytes) else str(a) for a in answers]
