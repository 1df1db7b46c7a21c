"""A question and a part of a text, and where in it the answer stands."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from t5x_like.data.formats.batch_format import TaskFacts
from t5x_like.data.formats.rows import Item, ModelBatch, Row, companion, layout


class Extracted(NamedTuple):
    """Names by which spans of a text are found.

    A batch format whose models mark spans has one, as its attribute `extracted`; a task's metrics
    are then computed of the spans' text.

    Attributes:
      start: of the model's `predict`, `[rows, length]`: how well a span begins at a token.
      end: of the model's `predict`, the same: how well one ends there.
      begins: of an example, int `[length]`: the text's character at which a token begins, -1 of
        tokens that are not of the text.
      ends: of an example, the same: the character after its last one.
      may_begin: of an example, the same: 0 of a token at which no span begins in this row.
      none: of an example, int `[]`: the place of the token that stands for no span.
    """

    start: str
    end: str
    begins: str
    ends: str
    may_begin: str
    none: str


@dataclasses.dataclass(frozen=True)
class SpanExtraction:
    """What an encoder reads, and where in a row its answer begins and ends.

    The objective gives `inputs`, `token_types` as long as these, and `span_start` and `span_end` of
    rank 0: the places in the row of the answer's first and last token; 0, which is the first
    token's, where the row has none; -1 where nobody knows. The batch, int32:

    * `encoder_input_tokens`, `encoder_token_types`, `encoder_segment_ids` (1 on the tokens),
      `[rows, length]`;
    * `span_start`, `span_end`, and `span_weight`, 1 where they are known, `[rows]`.

    Examples also have what leads from tokens back to the text, as long as `inputs` and in no batch:
    `char_begins` and `char_ends`, the characters of the text that a token stands for, -1 of tokens
    that are not of it; `may_begin`, 1 where an answer may begin, as a token that several rows of a
    text share counts in one of them.
    """

    task_features: ClassVar[tuple[str, ...]] = ("inputs",)
    reads: ClassVar[tuple[str, ...]] = ("inputs", "token_types", "span_start", "span_end")
    may_read: ClassVar[tuple[str, ...]] = (
        "char_begins", "char_ends", "may_begin", "no_answer_place"
    )  # fmt: skip
    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[None] = None
    extracted: ClassVar[Extracted] = Extracted(
        "start_logits", "end_logits", "char_begins", "char_ends", "may_begin", "no_answer_place"
    )

    def bind(self, facts: TaskFacts) -> "BoundSpanExtraction":
        """See `BatchFormat`."""
        return BoundSpanExtraction()


@dataclasses.dataclass(frozen=True)
class BoundSpanExtraction:
    """`SpanExtraction` for a task."""

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The encoder's length."""
        return (lengths["inputs"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part, the inputs; their types; the places of the answer."""
        labels = {name: example[name] for name in ("span_start", "span_end")}
        companions = {"token_types": example["token_types"]}
        return Item((example["inputs"],), companions=companions, labels=labels)

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `SpanExtraction`."""
        laid_out = layout(rows, 0, lengths["inputs"])
        places = np.zeros((2, len(rows)), np.int32)
        weight = np.zeros(len(rows), np.int32)
        for i, row in enumerate(rows):
            for item in row:
                start, end = (int(item.labels[name]) for name in ("span_start", "span_end"))
                if start >= 0:
                    places[:, i], weight[i] = (start, end), 1
        return {
            "encoder_input_tokens": laid_out.tokens,
            "encoder_token_types": companion(rows, "token_types", laid_out.filled),
            "encoder_segment_ids": laid_out.segment_ids,
            "span_start": places[0],
            "span_end": places[1],
            "span_weight": weight,
        }
