"""What may follow a context, asked of every row of a split: what rankings and LAMBADA share."""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import jax

from t5x_like.data.records import Records, open_records
from t5x_like.decoding import TextCodec
from t5x_like.decoding.options import Cut, OptionEncoder, PairRefused, Question, Reading
from t5x_like.errors import UserError
from t5x_like.evaluation.measurement import ROWS, SPLIT_ROWS, Finding, Subject
from t5x_like.evaluation.prompts.shots import Prompts, Shots, few_shot, place_of
from t5x_like.evaluation.prompts.split_text import codec_of_split
from t5x_like.protocols import Decodes, Task

Row = Mapping[str, Any]
Score = TypeVar("Score")
# By which the values of some rows are found, of their places.
Part = Callable[[Sequence[int]], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Asked:
    """Questions of a task's split, with examples before them.

    Attributes:
      subject: whose split this is.
      reading: how contexts and options become tokens.
      codec: of the task.
      shots: how many examples there are.
      records: of the split.
      rows: what the cache has of each.
      questions: one for each row.
      prompts: what stands before them.
    """

    subject: Subject
    reading: Reading
    codec: TextCodec
    shots: Shots
    records: Records
    rows: Sequence[Row]
    questions: Sequence[Question]
    prompts: Prompts

    @classmethod
    def of(
        cls,
        subject: Subject,
        features: Sequence[str],
        question_of: Callable[[Row], Question],
        shots: Shots,
        reading: Reading,
    ) -> "Asked | None":
        """The questions of a split whose cache has these features; None of any other.

        Raises:
          UserError: too few examples, or a row that is too long; the message says which.
        """
        dataset = subject.dataset
        records = open_records(dataset, features, subject.limit)
        if records is None:
            return None
        model = cast(Decodes, subject.model)
        codec = codec_of_split(dataset, model)
        reading = reading.of_model(model)
        prompts = shots.of(dataset, features)
        encoder = OptionEncoder(model, codec, reading)
        rows, questions = list(records), []
        for number, row in zip(records.numbers, rows, strict=True):
            question = question_of(row)
            before = prompts.before(number, row, encoder.spare(question))
            contexts = [before + context for context in question.contexts]
            questions.append(Question(contexts, question.continuations))
        return cls(subject, reading, codec, shots, records, rows, questions, prompts)

    def scored(
        self,
        score: Callable[..., tuple[list[Score], Cut]],
        asked: Sequence[Any],
        *,
        total: int,
        batch_size: int,
        **settings: Any,
    ) -> list[Score]:
        """What `score_options` or `score_pairs` finds, with a bar and a line on what was cut.

        Args:
          score: one of them; every process scores all rows, as one program over the mesh.
          asked: questions or pairs.
          total: of the bar.
          batch_size: options scored together.
          **settings: further ones.

        Raises:
          UserError: a row that cannot be scored; the message says which.
        """
        subject = self.subject
        bar = subject.bar(total)
        try:
            with bar, subject.partitioner.activate():
                found, cut = score(
                    cast(Decodes, subject.model),
                    subject.params,
                    self.codec,
                    asked,
                    self.reading,
                    batch_size=batch_size,
                    progress=bar.add,
                    journal=subject.journal,
                    **settings,
                )
        except PairRefused as error:
            owners = [i for i, one in enumerate(self.questions) for _ in one.pairs]
            place = place_of(subject.dataset, self.numbers[owners[error.pair % len(owners)]])
            raise UserError(f"{place}: {error}") from None
        if cut.cut and jax.process_index() == 0:
            print(f"{subject.label}: {cut}", file=sys.stderr, flush=True)
        return found

    def finding(self, name: str, part: Part, predictions: Sequence[Any], told: str = "") -> Finding:
        """What a measurement of this name has found.

        Args:
          name: of the measurement.
          part: the values of some rows; the values are those of all.
          predictions: one for each row.
          told: by what the values are, where there is something to say; for the record.
        """
        values = {ROWS: float(len(self.rows)), SPLIT_ROWS: float(self.records.num_examples)}
        values |= part(range(len(self.rows)))
        if self.shots.count:
            values[f"{name}_shots"] = self.prompts.mean
            if jax.process_index() == 0:
                self.prompts.tell()
        task, model = cast(Task, self.subject.dataset.task), cast(Decodes, self.subject.model)
        shown = self.shots.told(few_shot(task))
        parts = [*filter(None, [told]), shown, self.reading.told(model, self.codec)]
        return Finding(
            values,
            predictions,
            {name: ", ".join(parts)},
            self.numbers,
            part,
            self.shots.file_part,
        )

    @property
    def numbers(self) -> list[int]:
        """Of the rows in the whole split."""
        return self.records.numbers
