"""A text or a pair of texts, with one label or number."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from t5x_like.data.formats.batch_format import TaskFacts
from t5x_like.data.formats.predictions import MeasuredRows
from t5x_like.data.formats.rows import Item, ModelBatch, Row, companion, layout


@dataclasses.dataclass(frozen=True)
class Labelled:
    """What an encoder reads, and what a row is to be classified as, or measured by.

    The objective gives `inputs`, `token_types` as long as these, and `label` of rank 0. The batch:

    * `encoder_input_tokens`, `encoder_token_types`, `encoder_segment_ids` (1 on the tokens), int32
      `[rows, length]`;
    * `label` `[rows]`, and `label_weight`, int32 `[rows]`, 1 where there is one.

    Attributes:
      numbers: whether labels are float32, and NaN where a row has none; else they are the int32
        numbers of classes, and -1 where a row has none.
    """

    numbers: bool

    task_features: ClassVar[tuple[str, ...]] = ("inputs",)
    reads: ClassVar[tuple[str, ...]] = ("inputs", "token_types", "label")
    may_read: ClassVar[tuple[str, ...]] = ()
    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[None] = None

    @property
    def measured(self) -> MeasuredRows:
        """Which of the model's outputs is compared with the label."""
        if self.numbers:
            return MeasuredRows("score", "label", "label_weight")
        return MeasuredRows("label", "label", "label_weight", "probabilities")

    def bind(self, facts: TaskFacts) -> "BoundLabelled":
        """See `BatchFormat`."""
        return BoundLabelled(self.numbers)


@dataclasses.dataclass(frozen=True)
class BoundLabelled:
    """`Labelled` for a task.

    Attributes:
      numbers: see `Labelled`.
    """

    numbers: bool

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The encoder's length."""
        return (lengths["inputs"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part, the inputs; their types; the label."""
        companions = {"token_types": example["token_types"]}
        return Item((example["inputs"],), companions=companions, labels={"label": example["label"]})

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `Labelled`."""
        laid_out = layout(rows, 0, lengths["inputs"])
        label = np.zeros(len(rows), np.float32 if self.numbers else np.int32)
        weight = np.zeros(len(rows), np.int32)
        for i, row in enumerate(rows):
            for item in row:
                value = item.labels["label"]
                if np.isfinite(value) if self.numbers else value >= 0:
                    label[i], weight[i] = value, 1
        return {
            "encoder_input_tokens": laid_out.tokens,
            "encoder_token_types": companion(rows, "token_types", laid_out.filled),
            "encoder_segment_ids": laid_out.segment_ids,
            "label": label,
            "label_weight": weight,
        }
