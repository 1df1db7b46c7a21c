"""Winograd schemas: what a pronoun refers to, with stars around the pronoun.

WSC, of SuperGLUE, and the larger set of Rahman and Ng 2012 (DPR), which T5 learns with it.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.errors import TaskError
from tasks.forms.form import integer_of, text_of, texts_of

INPUTS_BEGIN = "wsc: "
# In files; TFDS has numbers.
_LABELS = {"false": 0, "true": 1}


@dataclasses.dataclass(frozen=True)
class Wsc:
    """`wsc: Bob asked Tom if *he* …` to what the row says that the pronoun refers to.

    Whether it does is `label`, which is kept: a model learns from rows in which it does, and is
    measured on all of them.

    Attributes:
      text: column of the text.
      pronoun: column of the pronoun.
      place: column of the number of the pronoun among the words that spaces part, from 0.
      referent: column of the words that it may refer to.
      label: column of whether it does: 1, 0, or -1 in test sets.
    """

    text: str = "text"
    pronoun: str = "span2_text"
    place: str = "span2_index"
    referent: str = "span1_text"
    label: str = "label"

    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {"label": "integer"}
    inputs_begin: ClassVar[str] = INPUTS_BEGIN

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the text, the pronoun, what it may refer to, and the label."""
        return (*self.input_columns, self.referent, self.label)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The text, the pronoun and its place."""
        return (self.text, self.pronoun, self.place)

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """`wsc: …` with stars around the pronoun.

        Raises:
          TaskError: the text has no such pronoun.
        """
        text, pronoun = text_of(row[self.text]), text_of(row[self.pronoun])
        return self.inputs_begin + _starred(text, pronoun, integer_of(row, self.place))

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs, targets and the label."""
        return {
            "inputs": self.inputs_of(row),
            "targets": text_of(row[self.referent]),
            "label": self._label(row),
        }

    def _label(self, row: Mapping[str, Any]) -> int:
        text = text_of(row[self.label])
        return _LABELS[text] if text in _LABELS else integer_of(row, self.label)


@dataclasses.dataclass(frozen=True)
class DefinitePronoun:
    """`wsc: Bob asked Tom if *he* …` to the right one of two candidates.

    Attributes:
      sentence: column of the sentence.
      pronoun: column of the pronoun, which stands for its first occurrence after the first word.
      candidates: column of the list of candidates.
      label: column of the number of the right one, from 0.
    """

    sentence: str = "sentence"
    pronoun: str = "pronoun"
    candidates: str = "candidates"
    label: str = "label"

    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {}
    inputs_begin: ClassVar[str] = INPUTS_BEGIN

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the sentence, the pronoun, the candidates and the label."""
        return (*self.input_columns, self.candidates, self.label)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The sentence and the pronoun."""
        return (self.sentence, self.pronoun)

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """`wsc: …` with stars around the pronoun."""
        sentence, pronoun = (text_of(row[column]) for column in self.input_columns)
        pattern = f" ({re.escape(pronoun)})([ .,])"
        return self.inputs_begin + re.sub(pattern, r" *\1*\2", sentence, count=1)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs and targets.

        Raises:
          TaskError: the label is no candidate's.
        """
        candidates = texts_of(row[self.candidates], self.candidates)
        label = integer_of(row, self.label)
        if not 0 <= label < len(candidates):
            raise TaskError(
                f"column '{self.label}' is {label}: there are {len(candidates)} candidates."
            )
        return {"inputs": self.inputs_of(row), "targets": candidates[label]}


def _starred(text: str, pronoun: str, place: int) -> str:
    """The text with stars around the pronoun.

    In two rows of WSC the place is not that of the pronoun: in one, other characters follow it
    without a space, in the other it is the next word. T5's code has the texts of both in full.

    Raises:
      TaskError: it is nowhere in the text.
    """
    words = text.split(" ")
    if not (0 <= place < len(words) and words[place] == pronoun):
        stuck = 0 <= place < len(words) and re.fullmatch(
            rf"{re.escape(pronoun)}(\W+)", words[place]
        )
        if stuck:
            words = [*words[:place], pronoun, stuck[1], *words[place + 1 :]]
            text = " ".join(words).rstrip()
            words = text.split(" ")
        else:
            places = [i for i, word in enumerate(words) if word == pronoun]
            if not places:
                raise TaskError(
                    f"the text '{text[:60]}' has no word '{pronoun}', neither at {place} nor "
                    "anywhere else."
                )
            place = min(places, key=lambda found: abs(found - place))
    return " ".join([*words[:place], f"*{pronoun}*", *words[place + 1 :]])
