"""Questions about a text that stands before them, ranked or answered.

RACE, BoolQ and ANLI have options; DROP, SQuAD 2.0, CoQA and QuAC are answered in words.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from tasks.benchmarks.form import Answers, Asks, Row, label_of, once
from tasks.errors import TaskError
from tasks.forms import text_of, texts_of
from tasks.sources import Source
from tasks.sources.source import PlacedRow
from tasks.sources.wrappers.wrapper import Wrapper

UNANSWERABLE = "unanswerable"
# How RACE's files end a sentence that is to be completed.
_TO_COMPLETE = "  _  ."


@dataclasses.dataclass(frozen=True)
class Race(Asks):
    """An article, its earlier questions with their answers, and its last (Lai et al. 2017).

    One row an article, and so one question of it. The answer takes the place of a blank with which
    a question ends; the last one stands as it is.
    """

    columns: ClassVar[tuple[str, ...]] = ("article", "questions", "options", "answers")

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        questions = texts_of(row["questions"], "questions")
        options = _lists(row["options"], len(questions))
        answers = ["ABCD".find(text) for text in texts_of(row["answers"], "answers")]
        if not questions or len(answers) != len(questions) or min(answers) < 0:
            raise TaskError(
                f"columns 'questions', 'answers': {len(questions)} questions, and the answers "
                f"{', '.join(texts_of(row['answers'], 'answers'))}: A, B, C or D of each."
            )
        lines = [f"Article: {text_of(row['article'])}\n"]
        for asked, its, right in zip(questions[:-1], options, answers, strict=False):
            if asked.endswith(_TO_COMPLETE):
                lines.append(f"{asked.removesuffix(_TO_COMPLETE)} {its[right]}")
            else:
                lines.append(f"Question: {asked}\nAnswer: {its[right]}")
        return "\n".join([*lines, questions[-1]]), options[-1], answers[-1]


def _lists(value: Any, count: int) -> list[list[str]]:
    """Four options of each question: in TFDS a table, in files JSON."""
    if isinstance(value, bytes | str):
        found = json.loads(value)
        return [texts_of(one, "options") for one in found]
    flat = texts_of(value, "options")
    each = len(flat) // max(1, count)
    return [flat[i * each : (i + 1) * each] for i in range(count)]


@dataclasses.dataclass(frozen=True)
class BoolQ(Asks):
    """A passage, a question, and no or yes (Clark et al. 2019)."""

    columns: ClassVar[tuple[str, ...]] = ("passage", "question", "label")

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        asked = f"{text_of(row['passage'])}\nQuestion: {text_of(row['question'])}?\nAnswer:"
        return asked, ["no", "yes"], label_of(row, "label", ["false", "true"])


@dataclasses.dataclass(frozen=True)
class Anli(Asks):
    """A premise, a hypothesis, and whether it is true, open or false (Nie et al. 2020).

    In the words of Brown et al. 2020, appendix G: `… True, False, or Neither?`
    """

    columns: ClassVar[tuple[str, ...]] = ("context", "hypothesis", "label")

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        asked = (
            f"{text_of(row['context'])}\nQuestion: {text_of(row['hypothesis'])} "
            "True, False, or Neither?\nAnswer:"
        )
        return asked, ["True", "Neither", "False"], label_of(row, "label", "enc")


@dataclasses.dataclass(frozen=True)
class Drop(Answers):
    """A passage and a question that needs counting, sorting or sums (Dua et al. 2019)."""

    columns: ClassVar[tuple[str, ...]] = ("passage", "question", "answer", "validated_answers")

    def question(self, row: Row) -> tuple[str, Sequence[str]]:
        """See `Answers`."""
        asked = f"Passage: {text_of(row['passage'])}\nQuestion: {text_of(row['question'])}\nAnswer:"
        others = texts_of(row["validated_answers"], "validated_answers")
        return asked, once([text_of(row["answer"]), *others])


@dataclasses.dataclass(frozen=True)
class Squad2(Answers):
    """A title, a text and a question that it may not answer (Rajpurkar et al. 2018).

    What has no answer is answered `unanswerable`.
    """

    columns: ClassVar[tuple[str, ...]] = ("title", "context", "question", "answers/text")

    def __call__(self, row: Row) -> dict[str, Any]:
        """See `Answers`; a question without answers has none, and is answered in one word."""
        made = super().__call__(row)
        return {**made, "targets": made["targets"] or UNANSWERABLE}

    def question(self, row: Row) -> tuple[str, Sequence[str]]:
        """See `Answers`."""
        asked = "\n\n".join(
            [
                f"Title: {text_of(row['title'])}",
                f"Background: {text_of(row['context'])}",
                f"Question: {text_of(row['question'])}",
                "Answer:",
            ]
        )
        return asked, once(texts_of(row["answers/text"], "answers/text"))


@dataclasses.dataclass(frozen=True)
class Quac(Answers):
    """A section of an article and a question about it (Choi et al. 2018).

    TFDS has each question alone, without those before it in its dialogue.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "title", "section_title", "background", "context", "question", "answers/text"
    )  # fmt: skip

    def question(self, row: Row) -> tuple[str, Sequence[str]]:
        """See `Answers`."""
        title = f"{text_of(row['title'])} - {text_of(row['section_title'])}"
        # What ends every section of these articles.
        context = text_of(row["context"]).removesuffix(" CANNOTANSWER")
        asked = (
            f"TITLE: {title}\n{text_of(row['background'])}\nPARAGRAPH: {context}\n\n"
            f"Q: {text_of(row['question'])}\n\nA:"
        )
        # Each as often as it was given: a model is compared as people are with one another.
        return asked, texts_of(row["answers/text"], "answers/text")


@dataclasses.dataclass(frozen=True)
class Coqa(Answers):
    """A story, a dialogue about it, and the next question (Reddy et al. 2019)."""

    columns: ClassVar[tuple[str, ...]] = ("story", "dialogue", "answer")

    def question(self, row: Row) -> tuple[str, Sequence[str]]:
        """See `Answers`."""
        asked = f"{text_of(row['story'])}\n\n{text_of(row['dialogue'])}"
        return asked, [text_of(row["answer"])]


@dataclasses.dataclass(frozen=True)
class Turns(Wrapper):
    """A row for each question of CoQA's dialogues, with the right answers to those before it.

    Attributes:
      source: has a dialogue in each row.
    """

    source: Source

    columns: ClassVar[tuple[str, ...]] = Coqa.columns  # type: ignore[misc]
    of_source: ClassVar[tuple[str, ...]] = ("story", "questions", "answers/input_text")

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The turns, one dialogue after another."""
        if shards is not None and not shards:
            return
        for number, row in enumerate(self.source.rows(split), start=1):
            questions = texts_of(row["questions"], "questions")
            answers = texts_of(row["answers/input_text"], "answers/input_text")
            if len(questions) != len(answers):
                place = getattr(row, "place", f"split '{split}', dialogue {number}")
                raise TaskError(f"{place}: {len(questions)} questions have {len(answers)} answers.")
            before = ""
            for asked, answer in zip(questions, answers, strict=True):
                dialogue = f"{before}Q: {asked}\n\nA:"
                turn = {"story": text_of(row["story"]), "dialogue": dialogue, "answer": answer}
                yield PlacedRow.like(row, turn)
                before = f"{dialogue} {answer}\n\n"
