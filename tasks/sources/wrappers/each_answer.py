"""Questions with several answers as a row for each."""

import dataclasses
from collections.abc import Iterator, Sequence

from tasks.errors import TaskError
from tasks.forms.form import texts_of
from tasks.sources import source as source_lib
from tasks.sources.wrappers.wrapper import Wrapper, as_tuples, in_texts


@dataclasses.dataclass(frozen=True)
class EachAnswer(Wrapper):
    """A row for each answer of a question, in the splits that are learned from.

    Of other splits there is a row for each question, with its first answer: it is asked once. So
    T5's code learns ReCoRD (Raffel et al. 2020), and measures it after it has left out the copies.

    Attributes:
      source: has a column with a list of answers.
      answers: that column.
      answer: the column of the one answer, which is added.
      learned: the splits with a row for each.
      unanswered: what stands in the added column where the list is empty, as in test sets.
    """

    source: source_lib.Source
    answers: str = "answers"
    answer: str = "answer"
    learned: tuple[str, ...] = ("train",)
    unanswered: str = "<unk>"

    def __post_init__(self) -> None:
        as_tuples(self, "learned")
        columns = self.source.columns
        if columns and self.answers not in columns:
            raise TaskError(
                f"EachAnswer.answers is '{self.answers}': its source has {', '.join(columns)}."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The source's and that of the one answer."""
        return (*self.source.columns, self.answer)

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows, each value as text."""
        if shards is not None and not shards:
            return
        for row in self.source.rows(split):
            answers = texts_of(row[self.answers], self.answers) or [self.unanswered]
            texts = in_texts(row)
            for answer in answers if split in self.learned else answers[:1]:
                yield source_lib.PlacedRow.like(row, {**texts, self.answer: answer})
