"""Token lists to the fixed shapes that a compiled decoding program takes.

Shapes: `b` rows, `p` prompt columns, `s` encoder positions.
"""

from collections.abc import Sequence

import numpy as np

from t5x_like.errors import UserError
from t5x_like.protocols import Architecture

Tokens = Sequence[int]


def bucket_length(length: int) -> int:
    """The padded length for `length`: a power of two from 8 to 64, then a multiple of 64.

    Few lengths mean few compilations; the steps of 64 bound what is wasted.
    """
    padded = 8
    while padded < min(length, 64):
        padded *= 2
    return padded if length <= 64 else -(-length // 64) * 64


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


def encoder_batch(rows: Sequence[Tokens]) -> dict[str, np.ndarray]:
    """Encoder inputs, padded to a bucket of lengths; 0 may be one of their tokens.

    Returns:
      int32 `[b, s]`: `encoder_input_tokens`, and `encoder_segment_ids`, 1 on the tokens.
    """
    length = bucket_length(max(len(row) for row in rows))
    return {
        "encoder_input_tokens": right_padded(rows, length),
        "encoder_segment_ids": right_padded([[1] * len(row) for row in rows], length),
    }


def decoding_batch(
    architecture: Architecture,
    prompts: Sequence[Tokens],
    *,
    bos_id: int | None = 0,
    bidirectional: bool = False,
) -> dict[str, np.ndarray]:
    """A batch for `generate_batch`, padded to a bucket of lengths.

    Args:
      architecture: of the model; `encoder_decoder` takes the prompts as encoder inputs, and
        its decoder's prompt is `bos_id` alone (0 for None).
      prompts: `b` token lists; they may be empty.
      bos_id: put before each decoder prompt; the vocabulary's `start_id` is the training
        convention (targets shifted right), None for models trained without one.
      bidirectional: whether the model was trained with full attention within the prompt
        (seqio's PrefixLM converter).

    Raises:
      UserError: an empty decoder prompt and no `bos_id`: there is nothing to start from.
    """
    if architecture == "encoder_decoder":
        start_b1 = np.full((len(prompts), 1), bos_id or 0, np.int32)
        return {**encoder_batch(prompts), "decoder_input_tokens": start_b1}
    start = [] if bos_id is None else [bos_id]
    rows = [[*start, *prompt] for prompt in prompts]
    if not all(rows):
        raise UserError("an empty prompt needs a bos_id to start from; found bos_id=None")
    batch = left_padded(rows, bucket_length(max(len(row) for row in rows)))
    if bidirectional:
        batch["decoder_causal_attention"] = batch["decoder_segment_ids"]
    return batch
