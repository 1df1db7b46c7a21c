"""What benchmarks ask: forms of rows that are read from TFDS or from JSON lines alike."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tasks.errors import TaskError
from tasks.forms import ranked_question, text_of

Row = Mapping[str, Any]
# What a set without published answers has in place of a label.
UNLABELLED = "-1"
# What each option says, where metrics compare this and not the option's text.
ANSWERS = "answers_of_options"


class Asks(abc.ABC):
    """A form of options to be ranked; a subclass reads one row.

    Subclasses are frozen dataclasses.

    Attributes:
      columns: that are read.
      delimiter: between context and option.
    """

    columns: ClassVar[tuple[str, ...]]
    delimiter: ClassVar[str] = " "
    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {
        "contexts": "texts", "continuations": "texts", "label": "integer"
    }  # fmt: skip

    @abc.abstractmethod
    def question(self, row: Row) -> tuple[str | Sequence[str], Sequence[str], int]:
        """A context, or one for each option; options, or what follows all contexts; and the label.

        Raises:
          TaskError: the row has something of another kind.
        """

    def __call__(self, row: Row) -> dict[str, Any]:
        """What is ranked, see `forms.Options`."""
        contexts, options, label = self.question(row)
        if isinstance(contexts, str):
            where = f"the question '{contexts[-40:]}'"
            return ranked_question([contexts], options, label, self.delimiter, where)
        return ranked_question(contexts, options, label, "", f"the blank of '{contexts[0][-40:]}'")


class Answers(abc.ABC):
    """A form of questions with accepted answers, kept for metrics; a subclass reads one row."""

    columns: ClassVar[tuple[str, ...]]
    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {"answers": "texts"}

    @abc.abstractmethod
    def question(self, row: Row) -> tuple[str, Sequence[str]]:
        """What is asked, and the accepted answers, the one that is shown in examples first.

        Raises:
          TaskError: the row has something of another kind.
        """

    def __call__(self, row: Row) -> dict[str, Any]:
        """Inputs, targets and answers."""
        asked, answers = self.question(row)
        return {"inputs": asked, "targets": answers[0] if answers else "", "answers": answers}


def label_of(row: Row, column: str, names: Sequence[str]) -> int:
    """A label as TFDS gives it, a number from 0, or as files do, one of the names.

    Returns:
      Its number; -1 where the row has none.

    Raises:
      TaskError: it is none of the labels.
    """
    text = text_of(row[column]).strip()
    numbers = list(map(str, range(len(names))))
    if text in ("", UNLABELLED):
        return -1
    for known in (numbers, list(names)):
        if text in known:
            return known.index(text)
    raise TaskError(
        f"column '{column}' is '{text}', which is no label: they are {', '.join(names)}, or their "
        "numbers from 0."
    )


def once(texts: Sequence[str]) -> list[str]:
    """Texts without those that came before, in their order, and without empty ones."""
    return list(dict.fromkeys(text for text in texts if text.strip()))
