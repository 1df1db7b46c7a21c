"""Inputs to an encoder, targets to a decoder."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from t5x_like.data.formats.batch_format import TaskFacts
from t5x_like.data.formats.prompts import EncoderPrompts, PromptFormat
from t5x_like.data.formats.rows import (
    Item,
    ModelBatch,
    Row,
    decoder_features,
    given_positions,
    layout,
)


@dataclasses.dataclass(frozen=True)
class EncoderDecoder:
    """`encoder_input_tokens` and the decoder's features; seqio's `EncDecFeatureConverter`.

    Packed rows have segment ids and positions of both sides. Where id 0 is a token, rows that
    are not packed have `encoder_segment_ids` too, 1 on the tokens. Examples that bring
    `targets_positions` give `decoder_positions`, packed or not.
    """

    task_features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    reads: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    may_read: ClassVar[tuple[str, ...]] = ()
    packs: ClassVar[bool] = True
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[PromptFormat] = EncoderPrompts()

    def bind(self, facts: TaskFacts) -> "BoundEncoderDecoder":
        """See `BatchFormat`."""
        return BoundEncoderDecoder(facts)


@dataclasses.dataclass(frozen=True)
class BoundEncoderDecoder:
    """`EncoderDecoder` for a task."""

    facts: TaskFacts

    @property
    def _positioned(self) -> bool:
        return "targets" in self.facts.positioned

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """Encoder's and decoder's length."""
        return lengths["inputs"], lengths["targets"]

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """Parts: inputs, targets."""
        positions = example.get("targets_positions") if self._positioned else None
        return Item((example["inputs"], example["targets"]), positions=positions)

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """int32 `[rows, length]` features; see `EncoderDecoder`."""
        encoder = layout(rows, 0, lengths["inputs"])
        decoder = layout(rows, 1, lengths["targets"])
        batch = {"encoder_input_tokens": encoder.tokens}
        batch |= decoder_features(decoder, pack, self.facts.zero_is_token, self.facts.start_id)
        if pack or self.facts.zero_is_token:
            batch["encoder_segment_ids"] = encoder.segment_ids
        if pack:
            batch["encoder_positions"] = encoder.positions
        if self._positioned:
            batch["decoder_positions"] = given_positions(rows, decoder)
        return batch
