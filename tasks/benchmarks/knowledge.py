"""Questions of examinations, with options: ARC, OpenBookQA, MMLU."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tasks.benchmarks.form import Asks, Row, label_of
from tasks.errors import TaskError
from tasks.forms import text_of, texts_of

LETTERS = ("A", "B", "C", "D", "E")
MMLU_DESCRIPTION = "The following are multiple choice questions (with answers) about {group}."


@dataclasses.dataclass(frozen=True)
class Arc(Asks):
    """`Question: …` and three to five answers (Clark et al. 2018)."""

    columns: ClassVar[tuple[str, ...]] = (
        "question", "choices/text", "choices/label", "answerKey"
    )  # fmt: skip

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        labels = texts_of(row["choices/label"], "choices/label")
        answer = text_of(row["answerKey"]).strip()
        if answer not in labels:
            raise TaskError(
                f"column 'answerKey' is '{answer}', but the choices are {', '.join(labels)}."
            )
        options = texts_of(row["choices/text"], "choices/text")
        return f"Question: {text_of(row['question'])}\nAnswer:", options, labels.index(answer)


@dataclasses.dataclass(frozen=True)
class OpenBookQA(Asks):
    """The stem of a question and four ways to complete it (Mihaylov et al. 2018)."""

    columns: ClassVar[tuple[str, ...]] = (
        "question/stem", *(f"question/choice_{letter}" for letter in "ABCD"), "answerKey"
    )  # fmt: skip

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        options = [text_of(row[name]) for name in self.columns[1:5]]
        return text_of(row["question/stem"]), options, label_of(row, "answerKey", LETTERS[:4])


@dataclasses.dataclass(frozen=True)
class Mmlu(Asks):
    """A question, four lettered answers, and the letters to be ranked (Hendrycks et al. 2021).

    The subject is the row's group: examples are the first of the same, five of which there are for
    development, and the accuracy is given over questions and over subjects.
    """

    columns: ClassVar[tuple[str, ...]] = ("question", "subject", "choices", "answer")
    kept: ClassVar[Mapping[str, str]] = {**Asks.kept, "group": "text"}

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        choices = texts_of(row["choices"], "choices")
        if not 2 <= len(choices) <= len(LETTERS) or not all(text.strip() for text in choices):
            raise TaskError(f"column 'choices': {choices} are not two to five texts.")
        letters = LETTERS[: len(choices)]
        lines = [text_of(row["question"]).strip()]
        lines += [f"{letter}. {text}" for letter, text in zip(letters, choices, strict=True)]
        return "\n".join([*lines, "Answer:"]), letters, label_of(row, "answer", letters)

    def __call__(self, row: Row) -> dict[str, Any]:
        """See `Asks`; and the subject."""
        return {**super().__call__(row), "group": text_of(row["subject"])}
