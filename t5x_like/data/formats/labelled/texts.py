"""A text or a pair of texts, with one label or number, for encoders, decoders and both together."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from t5x_like.data.formats.batch_format import BoundFormat, DerivedFormat, TaskFacts
from t5x_like.data.formats.labelled.choices import Choices, Comparisons
from t5x_like.data.formats.labelled.predictions import MeasuredRows
from t5x_like.data.formats.rows import Item, ModelBatch, Row, companion, layout

REVERSED = "inputs_reversed"


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


@dataclasses.dataclass(frozen=True)
class OfDecoders(DerivedFormat):
    """Rows with labels, choices or ranked answers, that a decoder reads from left to right.

    The row is read as it is, its first token included, and the language-model loss of a token is
    that of the one after it: all but a row's first token are targets, as in the released code of
    GPT-1. What the row is labelled with is `format`'s. The batch, int32 `[rows, length]`, or
    `[rows, choices, length]`:

    * `decoder_input_tokens` and `decoder_segment_ids` (1 on the tokens);
    * `decoder_target_tokens` and `decoder_loss_weights`, 0 at a row's last token;
    * what `format` has of labels or ranks.

    Where the examples have `inputs_reversed`, the pair in the other order, each is two rows,
    `[rows, 2, length]`.

    Attributes:
      format: how an encoder is given the same.
    """

    format: Labelled | Choices | Comparisons

    @property
    def may_read(self) -> tuple[str, ...]:
        """The pair in the other order."""
        return (REVERSED,)

    def bind(self, facts: TaskFacts) -> "BoundOfDecoders":
        """See `BatchFormat`."""
        written = facts.example_features or facts.features
        return BoundOfDecoders(self.format.bind(facts), REVERSED in written)


@dataclasses.dataclass(frozen=True)
class BoundOfDecoders:
    """`OfDecoders` for a task.

    Attributes:
      format: of an encoder.
      both_orders: whether examples have a second row.
    """

    format: BoundFormat
    both_orders: bool

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The decoder's length, for each row of an example."""
        return self.format.capacities(lengths) * (2 if self.both_orders else 1)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """As for an encoder; with both orders, a part for each."""
        made = self.format.item(example)
        return made._replace(parts=(*made.parts, example[REVERSED])) if self.both_orders else made

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `OfDecoders`."""
        found = self._laid_out(rows, lengths)
        if self.both_orders:
            swapped = [[item._replace(parts=item.parts[::-1]) for item in row] for row in rows]
            other = self._laid_out(swapped, lengths)
            found |= {
                name: np.stack([found[name], other[name]], axis=1)
                for name in found
                if name.startswith("decoder_")
            }
        return found

    def _laid_out(self, rows: Sequence[Row], lengths: Mapping[str, int]) -> ModelBatch:
        batch = self.format.batch(rows, lengths, False)
        tokens, segments = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
        of_examples = {name: x for name, x in batch.items() if not name.startswith("encoder_")}
        return {
            "decoder_input_tokens": tokens,
            "decoder_segment_ids": segments,
            "decoder_target_tokens": _shifted_left(tokens),
            "decoder_loss_weights": _shifted_left(segments),
            **of_examples,
        }


@dataclasses.dataclass(frozen=True)
class OfEncoderDecoders(DerivedFormat):
    """Rows with labels that an encoder and a decoder read (Lewis et al. 2019, section 3.1).

    The batch has `encoder_input_tokens` and `encoder_segment_ids` of `format`, its labels, and for
    the decoder, int32 `[rows, length]`:

    * `decoder_input_tokens`, what a decoder reads first and then the same row, one place on, so
      that the state at its last token is the one from which it would write the row's last;
    * `decoder_segment_ids`, 1 on as many places as the row has tokens.

    Attributes:
      format: how an encoder is given the same.
    """

    format: Labelled

    def bind(self, facts: TaskFacts) -> "BoundOfEncoderDecoders":
        """See `BatchFormat`."""
        return BoundOfEncoderDecoders(self.format.bind(facts), facts.start_id)


@dataclasses.dataclass(frozen=True)
class BoundOfEncoderDecoders:
    """`OfEncoderDecoders` for a task.

    Attributes:
      format: of an encoder.
      start_id: what the decoder reads first.
    """

    format: BoundFormat
    start_id: int

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The encoder's length, which is the decoder's too."""
        return self.format.capacities(lengths)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """As for an encoder."""
        return self.format.item(example)

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `OfEncoderDecoders`."""
        batch = dict(self.format.batch(rows, lengths, False))
        del batch["encoder_token_types"]
        segments = batch["encoder_segment_ids"]
        read = np.roll(batch["encoder_input_tokens"], 1, axis=1)
        read[:, 0] = self.start_id
        return {
            **batch,
            "decoder_input_tokens": read * segments,
            "decoder_segment_ids": segments,
        }


def _shifted_left(values: np.ndarray) -> np.ndarray:
    """What stands one place further on in each row; 0 at the end."""
    shifted = np.zeros_like(values)
    shifted[..., :-1] = values[..., 1:]
    return shifted
