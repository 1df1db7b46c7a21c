"""MultiRC: a question about a paragraph, and one of several answers, which is right or wrong."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.forms.form import integer_of, text_of
from tasks.forms.template import Template

# In TFDS a number, in files true or false.
_LABELS = {"0": "False", "1": "True", "false": "False", "true": "True"}
_BOLD = re.compile("</?b>")


@dataclasses.dataclass(frozen=True)
class MultiRC:
    """`multirc question: … answer: … paragraph: …` to `True` or `False`.

    Markup is taken out: `<br>` becomes a space, `<b>` and `</b>` nothing. `question_number` is kept
    for the metrics, which compare all answers to a question.

    Attributes:
      question: column of the question.
      answer: column of the answer.
      paragraph: column of the paragraph.
      label: column of the label: 1 where the answer is right, 0, or -1 in test sets.
      number: column of a number that all answers to a question have in common.
    """

    question: str = "question"
    answer: str = "answer"
    paragraph: str = "paragraph"
    label: str = "label"
    number: str = "idx/question"

    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {"question_number": "integer"}
    inputs_begin: ClassVar[str] = "multirc question: "

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the texts, the label and the number."""
        return (*self.input_columns, self.label, self.number)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The question, the answer and the paragraph."""
        return (self.question, self.answer, self.paragraph)

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """`multirc question: … answer: … paragraph: …`."""
        question, answer, paragraph = (text_of(row[column]) for column in self.input_columns)
        text = f"{self.inputs_begin}{question} answer: {answer} paragraph: {paragraph}"
        return self.plain(text)

    @staticmethod
    def plain(text: str) -> str:
        """A text without its markup."""
        return _BOLD.sub("", text.replace("<br>", " "))

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs, targets and the question's number."""
        targets = Template("", f"{{{self.label}}}", words={self.label: _LABELS})
        return {
            "inputs": self.inputs_of(row),
            "targets": targets({self.label: row[self.label]})["targets"],
            "question_number": integer_of(row, self.number),
        }
