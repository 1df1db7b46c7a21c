"""Postprocessors: from decoded text, generated or target, to what the metrics compare."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


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
    """The index of a label, from 0; of another text -1 for a target, and -2 for a prediction.

    So what is no label counts as wrong, also where rows have none: their target is `<unk>`.

    Attributes:
      labels: the texts of all labels.
    """

    labels: Sequence[str]

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> int:
        """The index of the label that equals the text (Raffel et al. 2020, section 2.4)."""
        if text in self.labels:
            return list(self.labels).index(text)
        return -1 if is_target else -2


@dataclasses.dataclass(frozen=True)
class GroupedLabel:
    """The index of a label as `LabelClass` has it, of a target beside the number of its group.

    Attributes:
      labels: the texts of all labels.
      group: what of the example is the number that it shares with others, such as all answers to
        one question.
    """

    labels: Sequence[str]
    group: str

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """The index, or of a target `(group, index)`."""
        label = LabelClass(self.labels)(text, example, is_target)
        return (int(np.asarray(example[self.group]).item()), label) if is_target else label


@dataclasses.dataclass(frozen=True)
class Referent:
    """Whether a prediction means what the row says that a pronoun refers to, as T5 decides it.

    It does where, in lower case and without determiners, the words of one are all among those of
    the other, and both or neither have an apostrophe: `a potato` means `my potato`, and `Bob's hat`
    does not mean `Bob`. A text without other words is neither and counts as wrong.

    Attributes:
      label: what of the example says whether the pronoun refers to it: 1 or 0.
    """

    label: str = "label"

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> int:
        """1 or 0, or -1 for a prediction without words; of a target the example's label."""
        if is_target:
            return int(np.asarray(example[self.label]).item())
        guess, referent = _bare_words(text), _bare_words(_decoded(example["targets_pretokenized"]))
        if not guess:
            return -1
        apostrophes = [any("'" in word for word in words) for words in (guess, referent)]
        contained = bool(referent) and (guess <= referent or referent <= guess)
        return int(contained and apostrophes[0] == apostrophes[1])


_DETERMINERS = frozenset((
    "a", "an", "the", "this", "that", "these", "those", "my", "your", "his", "her", "our", "their",
    "whose", "which", "each", "every", "few", "many", "much", "some",
))  # fmt: skip


def _bare_words(text: str) -> set[str]:
    return set(text.strip().lower().split(" ")) - _DETERMINERS - {""}


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
class FinalAnswer:
    """The number in which a worked solution ends, as text; "" where there is none.

    Without commas between thousands and a full stop at its end (Wei et al. 2022). A solution that
    goes on after its answer is read up to there.

    Attributes:
      pattern: has one group, the number; where it occurs first is read.
    """

    pattern: str = r"The answer is (-?[0-9.,]+)"

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> str:
        """The number."""
        found = re.search(self.pattern, text)
        return "" if found is None else found[1].rstrip(".,").replace(",", "")


@dataclasses.dataclass(frozen=True)
class AllAnswers:
    """The text of a prediction, and all accepted answers of a target.

    Attributes:
      no_answer: what a model writes where it finds no answer, which becomes the empty text; None
        where it always answers.
    """

    no_answer: str | None = None

    def __call__(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """The text, or the example's list of answers."""
        if not is_target:
            return "" if text.strip() == self.no_answer else text
        return [_decoded(answer) for answer in example["answers"]]


def _decoded(text: Any) -> str:
    if isinstance(text, np.ndarray):
        text = text.item()
    return text.decode("utf-8") if isinstance(text, bytes) else str(text)
