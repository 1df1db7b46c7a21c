"""Rows of which a model is told too which sentence each token is of."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from t5x_like.data.formats.batch_format import BoundFormat, DerivedFormat, TaskFacts
from t5x_like.data.formats.rows import Item, ModelBatch, Row, companion

SENTENCES = "sentence_ids"


@dataclasses.dataclass(frozen=True)
class WithSentences(DerivedFormat):
    """A format of encoders, one row to an example, and the sentences of its tokens.

    The objective also gives `sentence_ids`, as long as the row: the number of the sentence that a
    token is of, counted from 1 through the row, 0 of a token that is of none. The batch has them as
    `encoder_sentence_ids`, int32 `[rows, length]`, 0 where there is nothing.

    Attributes:
      format: what a batch has besides.
    """

    @property
    def reads(self) -> tuple[str, ...]:
        """Those of `format`, and the sentences."""
        return (*self.format.reads, SENTENCES)

    def bind(self, facts: TaskFacts) -> "BoundWithSentences":
        """See `BatchFormat`."""
        return BoundWithSentences(self.format.bind(facts))


@dataclasses.dataclass(frozen=True)
class BoundWithSentences:
    """`WithSentences` for a task.

    Attributes:
      format: of all else.
    """

    format: BoundFormat

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The encoder's length."""
        return self.format.capacities(lengths)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """That of `format`, and a number for each of its tokens."""
        item = self.format.item(example)
        return item._replace(companions={**item.companions, SENTENCES: example[SENTENCES]})

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `WithSentences`."""
        batch = self.format.batch(rows, lengths, pack)
        filled = batch["encoder_segment_ids"] != 0
        return {**batch, f"encoder_{SENTENCES}": companion(rows, SENTENCES, filled)}
