"""A question and a text that holds its answer, with the place of the answer."""

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from tasks.errors import TaskError
from tasks.forms.form import text_of
from tasks.forms.labelled import SEPARATOR

_LOG = logging.getLogger(__name__)
# An answer, and where in the text it begins where that is known.
Answer = tuple[str, int | None]


@dataclasses.dataclass(frozen=True)
class Spans:
    """The question as `inputs`, the text as `inputs_pair`, and the characters of each answer.

    Answers are a text, a list of texts, or SQuAD's: objects of `text` and `answer_start`, the
    character of the context, counted from 0, at which the answer begins; also one object of two
    lists. An answer without a place is looked for, and the first place counts.

    Attributes:
      question: column of the question.
      context: column of the text.
      answers: column of the answers: a list, or its JSON.
      starts: column of the characters at which they begin, where it is a column of its own: a
        number, a list of numbers, or either as text.
      id: column that tells rows apart; kept for what is predicted.
      unanswerable: whether rows may have no answer, as in SQuAD 2.0.
      misplaced: for an answer that does not stand where it should: "error", or "skip" for a row
        that is measured by it all the same, and not learned from.
    """

    question: str = "question"
    context: str = "context"
    answers: str = "answers"
    starts: str | None = None
    id: str | None = None
    unanswerable: bool = False
    misplaced: Literal["error", "skip"] = "error"

    features: ClassVar[tuple[str, ...]] = ("inputs", "inputs_pair")
    # Where in the text each of their tokens stands is kept.
    located: ClassVar[tuple[str, ...]] = ("inputs_pair",)

    def __post_init__(self) -> None:
        if self.misplaced not in ("error", "skip"):
            raise TaskError(f"Spans.misplaced is {self.misplaced!r}: 'error' or 'skip'.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The question, the text, the answers, and what else is named."""
        named = (self.question, self.context, self.answers, self.starts, self.id)
        return tuple(name for name in named if name is not None)

    @property
    def kept(self) -> Mapping[str, str]:
        """The answers, the characters from which and to before which they stand, and the id."""
        kinds = {"answers": "texts", "answer_begins": "integers", "answer_ends": "integers"}
        return kinds if self.id is None else {**kinds, "id": "text"}

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The question and the text."""
        return (self.question, self.context)

    @property
    def inputs_begin(self) -> str:
        """Nothing: a row begins with the question."""
        return ""

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """The question, a tab, and the text as it is, in which characters are counted."""
        question = text_of(row[self.question]).replace(SEPARATOR, " ")
        return f"{question}{SEPARATOR}{text_of(row[self.context])}"

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The texts, and the answers with their places, -1 of one that has none.

        Raises:
          TaskError: no answer where every row needs one, or one that is not in the text.
        """
        question, context = text_of(row[self.question]), text_of(row[self.context])
        starts = None if self.starts is None else _places(row[self.starts], question)
        answers = _answers(row[self.answers], starts, question, self.misplaced == "skip")
        if not answers and not self.unanswerable:
            raise TaskError(
                f"the question '{_short(question)}' has no answer: UNANSWERABLE = True takes such "
                "rows, as SQuAD 2.0 has them."
            )
        begins = [self._place(text, start, question, context) for text, start in answers]
        found: dict[str, Any] = {
            "inputs": question,
            "inputs_pair": context,
            "answers": [text for text, _ in answers],
            "answer_begins": begins,
            "answer_ends": [
                begin if begin < 0 else begin + len(text)
                for begin, (text, _) in zip(begins, answers, strict=True)
            ],
        }
        return found if self.id is None else {**found, "id": text_of(row[self.id])}

    def _place(self, answer: str, start: int | None, question: str, context: str) -> int:
        """The character of the text at which an answer begins; -1 for one that is skipped."""
        place = context.find(answer) if start is None else start
        if place >= 0 and answer.strip() and context[place : place + len(answer)] == answer:
            return place
        if self.misplaced == "skip":
            _LOG.warning(
                "some answers do not stand in the text where answer_start says: such rows are "
                "measured, and not learned from."
            )
            return -1
        where = "in its text"
        if start is not None:
            there = _short(context[max(0, start) :][: max(1, len(answer))])
            where = f"at character {start} of its text, where '{there}' stands"
        raise TaskError(
            f"the answer '{_short(answer)}' to '{_short(question)}' is not {where}: an answer is a "
            "part of the text, and answer_start counts its characters from 0."
        )


def _answers(value: Any, starts: Any, question: str, skips: bool) -> list[Answer]:
    """Answers of any of the forms that `Spans` names; where it skips, of other places no place.

    Raises:
      TaskError: the value has none of them.
    """
    if isinstance(value, bytes | str):
        value = text_of(value)
        with_brackets = value.lstrip()[:1] in ("[", "{")
        try:
            found = json.loads(value) if with_brackets else value
        except ValueError:
            found = value
        if isinstance(found, str):
            found = [found] if found.strip() else []
        value = found
    if isinstance(value, Mapping) and "text" in value:
        starts = value.get("answer_start", starts)
        value = value["text"]
        # One answer may stand in a list or by itself.
        value = [value] if isinstance(value, str) else value
        starts = [starts] if isinstance(starts, int | np.integer) else starts
    if not isinstance(value, Sequence | np.ndarray):
        raise _unknown(question)
    if starts is not None:
        if not isinstance(starts, Sequence | np.ndarray):
            raise _unknown(question)
        if len(starts) != len(value) and skips:
            return [(text_of(text), -1) for text in value]
        if len(starts) != len(value):
            raise TaskError(
                f"the question '{_short(question)}' has {len(value)} answers and {len(starts)} "
                "places where they begin: as many are needed."
            )
        places = [_whole(start, question) for start in starts]
        return list(zip(map(text_of, value), places, strict=True))
    return [_answer(one, question) for one in value]


def _answer(value: Any, question: str) -> Answer:
    if not isinstance(value, Mapping):
        return text_of(value), None
    if not isinstance(value.get("text"), str):
        raise _unknown(question)
    start = value.get("answer_start")
    return value["text"], None if start is None else _whole(start, question)


def _places(value: Any, question: str) -> Any:
    """What a column says of where answers begin: a list of numbers, one, or either as text.

    Raises:
      TaskError: it is none of these.
    """
    if isinstance(value, bytes | str):
        text = text_of(value)
        try:
            value = json.loads(text) if text.strip() else []
        except ValueError:
            value = text
    if isinstance(value, int | np.integer):
        return [value]
    if not isinstance(value, list | tuple | np.ndarray):
        raise TaskError(
            f"the answers to '{_short(question)}' begin at '{_short(str(value))}': the number of a "
            "character is needed, or a list of such numbers."
        )
    return value


def _whole(start: Any, question: str) -> int:
    if isinstance(start, int | np.integer):
        return int(start)
    raise _unknown(question)


def _unknown(question: str) -> TaskError:
    return TaskError(
        f"the answers to '{_short(question)}' are no text, list of texts, or list of objects with "
        "text and answer_start."
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
