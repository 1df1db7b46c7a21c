"""SQuAD: a question, the paragraph that answers it, and every accepted answer."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.forms.form import text_of

# In TensorFlow's regular expressions, which T5 used, only ASCII has word characters.
_PUNCTUATION = re.compile(r"(\W)", re.ASCII)
_SPACE = re.compile(r"[ \t\n\f\r]+")


@dataclasses.dataclass(frozen=True)
class Squad:
    """`question: … context: …` to the first answer, with spaces around punctuation.

    As T5 writes it (Raffel et al. 2020, appendix D.15). `answers` is kept for the metrics,
    which take the best over all of them.

    Attributes:
      question: column of the question.
      context: column of the paragraph.
      answers: column of the answers, a list.
    """

    question: str = "question"
    context: str = "context"
    answers: str = "answers/text"

    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {"answers": "texts"}

    @property
    def columns(self) -> tuple[str, ...]:
        """The question, the paragraph and the answers."""
        return (self.question, self.context, self.answers)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The question and the paragraph."""
        return (self.question, self.context)

    @property
    def inputs_begin(self) -> str:
        """`question: `."""
        return "question: "

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """`question: … context: …`."""
        question = pad_punctuation(text_of(row[self.question]))
        context = pad_punctuation(text_of(row[self.context]))
        return _SPACE.sub(" ", f"{self.inputs_begin}{question} context: {context}")

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs, targets and `answers`; a question without an answer has empty targets."""
        answers = [pad_punctuation(text_of(answer)) for answer in row[self.answers]]
        return {
            "inputs": self.inputs_of(row),
            "targets": answers[0] if answers else "",
            "answers": answers,
        }


def pad_punctuation(text: str) -> str:
    """The text with spaces around all that is not an ASCII letter, digit or underscore."""
    return _SPACE.sub(" ", _PUNCTUATION.sub(r" \1 ", text))
