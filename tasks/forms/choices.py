"""A text with several choices, of which one is right."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tasks.errors import TaskError
from tasks.forms.form import checked_labels, is_unlabelled, text_of
from tasks.forms.labelled import SEPARATOR
from tasks.forms.template import columns_of, fill


@dataclasses.dataclass(frozen=True)
class Choices:
    """The text as `inputs`, what may follow it as `choices`, a list, and the right one's `label`.

    A choice is the question and an option. Where the question has a blank, the option stands there;
    else it follows, after a space. Options that are empty are left out.

    Attributes:
      context: template of the text, with columns in braces.
      options: columns, each of an option or of a list of them.
      question: template of what stands before each option; it may be empty.
      label: column of the label.
      labels: what it may be, in the order of the options.
      words: texts that stand for values of columns, as in `forms.Template`.
      blank: what stands in a question where the option belongs; None where it always follows.
      unlabelled: what the column of the label holds where a row has none, as in test sets; None
        where every row has one.
    """

    context: str
    options: Sequence[str]
    question: str = ""
    label: str = "label"
    labels: Sequence[str] = ("0", "1", "2", "3")
    words: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    blank: str | None = None
    unlabelled: str | None = None

    features: ClassVar[tuple[str, ...]] = ("inputs", "choices")
    listed: ClassVar[Mapping[str, str]] = {"choices": "texts"}
    kept: ClassVar[Mapping[str, str]] = {"label": "integer"}
    inputs_begin: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if isinstance(self.options, str) or not self.options:
            raise TaskError(
                f"Choices.options is {self.options!r}: a list of columns is needed, or of one that "
                "holds a list."
            )
        object.__setattr__(self, "options", tuple(map(str, self.options)))
        object.__setattr__(self, "labels", checked_labels(self))

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of both templates, the options and the label."""
        return (*self.input_columns, self.label)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Those of both templates, and the options."""
        of_templates = (*columns_of(self.context), *columns_of(self.question))
        return tuple(dict.fromkeys((*of_templates, *self.options)))

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """The text and its choices with tabs between them."""
        texts = (self._filled(self.context, row), *(text for _, text in self._choices(row)))
        return SEPARATOR.join(text.replace(SEPARATOR, " ") for text in texts)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The text, its choices, and the number of the right one, -1 where the row has none.

        Raises:
          TaskError: a label that is none of `labels`, or is that of an option which is not there;
            fewer than two options.
        """
        choices = self._choices(row)
        return {
            "inputs": self._filled(self.context, row),
            "choices": [text for _, text in choices],
            "label": self._number(row, [number for number, _ in choices]),
        }

    def _choices(self, row: Mapping[str, Any]) -> list[tuple[int, str]]:
        """Number among all options, and text, of each that is not empty."""
        options = [option for name in self.options for option in _listed(row[name])]
        question = self._filled(self.question, row).strip()
        choices = [
            (number, self._choice(question, option.strip()))
            for number, option in enumerate(options)
            if option.strip()
        ]
        if len(choices) < 2:
            raise TaskError(
                f"a row has {len(choices)} options in {', '.join(self.options)}: two or more are "
                "needed."
            )
        return choices

    def _choice(self, question: str, option: str) -> str:
        if self.blank and self.blank in question:
            return question.replace(self.blank, option)
        return f"{question} {option}".strip()

    def _number(self, row: Mapping[str, Any], there: Sequence[int]) -> int:
        text = text_of(row[self.label]).strip()
        if is_unlabelled(self, text):
            return -1
        if text not in self.labels:
            raise TaskError(
                f"column '{self.label}' is '{text}', which is none of the labels: they are "
                f"{', '.join(self.labels)}."
            )
        if self.labels.index(text) not in there:
            raise TaskError(
                f"column '{self.label}' is '{text}', and the row has no such option: it has "
                f"{len(there)}."
            )
        return there.index(self.labels.index(text))

    def _filled(self, template: str, row: Mapping[str, Any]) -> str:
        values = {name: text_of(row[name]) for name in columns_of(template)}
        for name, words in self.words.items():
            if name in values and values[name] not in words:
                raise TaskError(
                    f"column '{name}' is '{values[name]}', which has no word: Choices.words has "
                    f"{', '.join(words)}."
                )
            if name in values:
                values[name] = words[values[name]]
        return fill(template, values)


def _listed(value: Any) -> list[str]:
    """The options of a column: a text, or a list, which may be JSON."""
    if not isinstance(value, str | bytes) and hasattr(value, "__iter__"):
        return [text_of(each) for each in value]
    text = text_of(value)
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            return [text]
        if isinstance(found, list):
            return [text_of(each) for each in found]
    return [text]
