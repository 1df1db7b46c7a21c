"""Token lists to the fixed shapes that a compiled decoding program takes.

Shapes: `b` rows, `p` prompt columns, `s` encoder positions.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np

from t5x_like.errors import UserError

Tokens = Sequence[int]


def bucket_length(length: int, longest: int | None = None) -> int:
    """The padded length for `length`: a power of two from 8 to 64, then a multiple of 64.

    Few lengths mean few compilations; the steps of 64 bound what is wasted.

    Args:
      length: of what is padded.
      longest: nothing is padded beyond it; the model's `max_length`.
    """
    padded = 8
    while padded < min(length, 64):
        padded *= 2
    if length > 64:
        padded = -(-length // 64) * 64
    return padded if longest is None else min(padded, max(length, longest))


def left_padded(rows: Sequence[Tokens], length: int) -> dict[str, np.ndarray]:
    """Decoder prompts with the padding before them, so that all end in the same column.

    Args:
      rows: `b` token lists of at most `length`.
      length: `p`.

    Returns:
      int32 `[b, p]`: `decoder_input_tokens`, `decoder_positions` (0 on the first real
      token) and `decoder_segment_ids` (0 on the padding, 1 elsewhere).
    """
    tokens_bp = np.zeros((len(rows), length), np.int32)
    positions_bp = np.zeros_like(tokens_bp)
    segments_bp = np.zeros_like(tokens_bp)
    for i, row in enumerate(rows):
        start = length - len(row)
        tokens_bp[i, start:] = row
        positions_bp[i, start:] = np.arange(len(row))
        segments_bp[i, start:] = 1
    return {
        "decoder_input_tokens": tokens_bp,
        "decoder_positions": positions_bp,
        "decoder_segment_ids": segments_bp,
    }


def right_padded(rows: Sequence[Tokens], length: int) -> np.ndarray:
    """int32 `[b, length]`, zeros after each row."""
    padded = np.zeros((len(rows), length), np.int32)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


def encoder_batch(rows: Sequence[Tokens], max_length: int | None = None) -> dict[str, np.ndarray]:
    """Encoder inputs, padded to a bucket of lengths; 0 may be one of their tokens.

    Args:
      rows: `b` token lists.
      max_length: of the model; None for any.

    Returns:
      int32 `[b, s]`: `encoder_input_tokens`, and `encoder_segment_ids`, 1 on the tokens.
    """
    length = bucket_length(max(len(row) for row in rows), max_length)
    return {
        "encoder_input_tokens": right_padded(rows, length),
        "encoder_segment_ids": right_padded([[1] * len(row) for row in rows], length),
    }


class PromptFormat(Protocol):
    """How prompts, and texts to be scored, become batches for models of one batch format.

    Attributes:
      needs_inputs: whether a task must have `inputs`, in which prompts are then written.
      bidirectional: whether a decoder sees a prompt of `inputs` in both directions.
    """

    @property
    def needs_inputs(self) -> bool:
        """See above."""

    @property
    def bidirectional(self) -> bool:
        """See above."""

    def decoder_length(self, prompt_length: int) -> int:
        """How many positions of a decoder's row a prompt takes, `bos_id` included."""

    def decoding_batch(
        self,
        prompts: Sequence[Tokens],
        *,
        bos_id: int | None = 0,
        bidirectional: bool = False,
        max_length: int | None = None,
    ) -> dict[str, np.ndarray]:
        """A batch for `decoding.generate_batch`, padded to a bucket of lengths.

        Args:
          prompts: `b` token lists; they may be empty.
          bos_id: put before each decoder prompt; the vocabulary's `start_id` is the training
            convention (targets shifted right), None for models trained without one.
          bidirectional: whether a decoder attends in both directions within the prompt.
          max_length: of the model, beyond which no row is padded; None for any.

        Raises:
          UserError: there is nothing to start from.
        """

    def scoring_batch(
        self,
        rows: Sequence[tuple[Tokens, Tokens]],
        *,
        bos_id: int | None = 0,
        bidirectional: bool = False,
        max_length: int | None = None,
    ) -> dict[str, np.ndarray]:
        """A batch as for training, in which only the targets are weighed.

        Args:
          rows: input and target of each.
          bos_id: as for `decoding_batch`.
          bidirectional: as for `decoding_batch`.
          max_length: as for `decoding_batch`.
        """


@dataclasses.dataclass(frozen=True)
class EncoderPrompts:
    """The encoder reads the prompt; the decoder begins with `bos_id` alone (0 for None)."""

    needs_inputs: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = False

    def decoder_length(self, prompt_length: int) -> int:
        """One: the decoder's first token."""
        return 1

    def decoding_batch(
        self,
        prompts: Sequence[Tokens],
        *,
        bos_id: int | None = 0,
        bidirectional: bool = False,
        max_length: int | None = None,
    ) -> dict[str, np.ndarray]:
        """See `PromptFormat`."""
        start_b1 = np.full((len(prompts), 1), bos_id or 0, np.int32)
        return {**encoder_batch(prompts, max_length), "decoder_input_tokens": start_b1}

    def scoring_batch(
        self,
        rows: Sequence[tuple[Tokens, Tokens]],
        *,
        bos_id: int | None = 0,
        bidirectional: bool = False,
        max_length: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Inputs for the encoder; targets, and targets shifted right for the decoder."""
        length = bucket_length(max(len(target) for _, target in rows), max_length)
        return {
            **encoder_batch([source for source, _ in rows], max_length),
            "decoder_input_tokens": right_padded(
                [[bos_id or 0, *target[:-1]] for _, target in rows], length
            ),
            "decoder_target_tokens": right_padded([target for _, target in rows], length),
            "decoder_loss_weights": right_padded([[1] * len(target) for _, target in rows], length),
        }


@dataclasses.dataclass(frozen=True)
class DecoderPrompts:
    """The decoder reads the prompt and continues it.

    Attributes:
      prefix: whether training shows it `inputs` in both directions.
    """

    prefix: bool

    needs_inputs: ClassVar[bool] = False

    @property
    def bidirectional(self) -> bool:
        """See `PromptFormat`."""
        return self.prefix

    def decoder_length(self, prompt_length: int) -> int:
        """All of the prompt."""
        return prompt_length

    def decoding_batch(
        self,
        prompts: Sequence[Tokens],
        *,
        bos_id: int | None = 0,
        bidirectional: bool = False,
        max_length: int | None = None,
    ) -> dict[str, np.ndarray]:
        """See `PromptFormat`."""
        start = [] if bos_id is None else [bos_id]
        rows = [[*start, *prompt] for prompt in prompts]
        if not all(rows):
            raise UserError("an empty prompt needs a bos_id to start from; found bos_id=None")
        batch = left_padded(rows, bucket_length(max(len(row) for row in rows), max_length))
        if bidirectional:
            batch["decoder_causal_attention"] = batch["decoder_segment_ids"]
        return batch

    def scoring_batch(
        self,
        rows: Sequence[tuple[Tokens, Tokens]],
        *,
        bos_id: int | None = 0,
        bidirectional: bool = False,
        max_length: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Input and target in one row, of which only the target is weighed."""
        start = [] if bos_id is None else [bos_id]
        whole = [[*start, *source, *target] for source, target in rows]
        length = bucket_length(max(len(row) for row in whole) - 1, max_length)
        # Without a first token to follow, a row's own first token has no probability.
        weights = [
            [0] * (len(row) - 1 - len(target)) + [1] * min(len(target), len(row) - 1)
            for row, (_, target) in zip(whole, rows, strict=True)
        ]
        batch = {
            "decoder_input_tokens": right_padded([row[:-1] for row in whole], length),
            "decoder_target_tokens": right_padded([row[1:] for row in whole], length),
            "decoder_loss_weights": right_padded(weights, length),
        }
        if bidirectional:
            batch["decoder_causal_attention"] = right_padded(
                [[1] * min(len(start) + len(source), length) for source, _ in rows], length
            )
        return batch
