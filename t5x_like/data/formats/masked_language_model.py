"""Text in which some tokens are hidden, and perhaps a label for a pair of segments."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from t5x_like.data.formats.batch_format import TaskFacts
from t5x_like.data.formats.rows import Item, ModelBatch, Row, companion, layout

_SPANS = ("span_left", "span_right", "span_offset")


@dataclasses.dataclass(frozen=True)
class MaskedLanguageModel:
    """What an encoder reads, and what stood where tokens are hidden (Devlin et al. 2019).

    The objective gives `inputs` (with hidden tokens) and, as long as these, `targets` (the
    tokens themselves), `loss_weights` (1 where the loss counts) and, where there are two
    segments, `token_types`; `pair_label` of rank 0 where the pair has one. The batch, int32:

    * `encoder_input_tokens`, `encoder_target_tokens`, `encoder_loss_weights`,
      `encoder_token_types`, `encoder_segment_ids` (1 on the tokens) `[rows, length]`;
    * `pair_label`, `pair_weight` (1 where there is one) `[rows]`.

    With `spans` also where the span of a hidden token lies in its row (Joshi et al. 2020): the
    objective gives `span_left` and `span_right`, the places of the tokens beside it, and
    `span_offset`, the token's number in it from 1, 0 for a token that is not hidden; the batch
    `encoder_span_left`, `encoder_span_right` and `encoder_span_offset`, int32 `[rows, length]`.

    Attributes:
      spans: whether spans are part of the batch.
    """

    spans: bool = False

    task_features: ClassVar[tuple[str, ...]] = ("targets",)
    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[None] = None

    @property
    def reads(self) -> tuple[str, ...]:
        """See `BatchFormat`."""
        return ("inputs", "targets", "loss_weights", *(_SPANS if self.spans else ()))

    @property
    def may_read(self) -> tuple[str, ...]:
        """See `BatchFormat`; without `spans` they are passed over."""
        return ("token_types", "pair_label", *_SPANS)

    def bind(self, facts: TaskFacts) -> "BoundMaskedLanguageModel":
        """See `BatchFormat`."""
        return BoundMaskedLanguageModel(_SPANS if self.spans else ())


@dataclasses.dataclass(frozen=True)
class BoundMaskedLanguageModel:
    """`MaskedLanguageModel` for a task.

    Attributes:
      further: further features of each token, by the names that examples have.
    """

    further: tuple[str, ...]

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The encoder's length."""
        return (lengths["targets"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part, the inputs; features of each token; the pair's label."""
        inputs = example["inputs"]
        companions = {
            "targets": example["targets"],
            "loss_weights": example["loss_weights"],
            "token_types": example.get("token_types", np.zeros_like(inputs)),
            **{name: example[name] for name in self.further},
        }
        labels = {"pair_label": example["pair_label"]} if "pair_label" in example else {}
        return Item((inputs,), companions=companions, labels=labels)

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `MaskedLanguageModel`."""
        laid_out = layout(rows, 0, lengths["targets"])
        batch = {
            "encoder_input_tokens": laid_out.tokens,
            "encoder_target_tokens": companion(rows, "targets", laid_out.filled),
            "encoder_loss_weights": companion(rows, "loss_weights", laid_out.filled),
            "encoder_token_types": companion(rows, "token_types", laid_out.filled),
            "encoder_segment_ids": laid_out.segment_ids,
            "pair_label": np.zeros(len(rows), np.int32),
            "pair_weight": np.zeros(len(rows), np.int32),
        }
        for name in self.further:
            batch[f"encoder_{name}"] = companion(rows, name, laid_out.filled)
        for i, row in enumerate(rows):
            for item in row:
                if "pair_label" in item.labels:
                    batch["pair_label"][i] = item.labels["pair_label"]
                    batch["pair_weight"][i] = 1
        return batch
