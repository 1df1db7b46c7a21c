"""Texts as a model reads them, padded on the right."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t5x_like.data import formats
from t5x_like.data.formats.prompts import bucket_length, encoder_batch, right_padded
from t5x_like.decoding import TextCodec
from t5x_like.decoding.text import checked_texts
from t5x_like.errors import UserError
from t5x_like.protocols import Model, longest_row


def read(
    model: Model,
    codec: TextCodec,
    texts: Sequence[str],
    targets: Sequence[str] | None,
) -> tuple[dict[str, list[list[int]]], dict[str, np.ndarray]]:
    """Tokenizes the texts, and makes a batch that is padded on the right."""
    texts = checked_texts(texts, "texts")
    targets = None if targets is None else checked_texts(targets, "targets")
    if not texts:
        raise UserError("no text was given: give at least one.")
    if targets is not None and len(targets) != len(texts):
        raise UserError(f"{len(targets)} targets were given for {len(texts)} texts.")
    layout = formats.find(model.batch_format).prompts
    if layout is None:  # an encoder alone
        return _of_encoder(model, [codec.row(text) for text in texts])
    sources = [codec.encode(text) for text in texts]
    # The end token is written, and not read.
    written = [list(codec.targets.vocabulary.encode(text)) for text in targets or [""] * len(texts)]
    pairs = list(zip(sources, written, strict=True))
    batch: dict[str, np.ndarray] = {}
    if layout.needs_inputs:
        rows = {"encoder": sources, "decoder": [[codec.start_id, *ids] for ids in written]}
        batch |= encoder_batch(sources, longest_row(model))
    else:
        rows = {"decoder": [[codec.start_id, *source, *ids] for source, ids in pairs]}
    longest = _check_length(model, rows["decoder"])
    length = bucket_length(longest, longest_row(model))
    batch["decoder_input_tokens"] = right_padded(rows["decoder"], length)
    if codec.bidirectional_prompt:
        prompts = [[1] * (1 + len(source)) for source in sources]
        batch["decoder_causal_attention"] = right_padded(prompts, length)
    return rows, batch


def _of_encoder(
    model: Model, found: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, list[list[int]]], dict[str, np.ndarray]]:
    """Rows of an encoder, and their batch with all that there is of their tokens."""
    rows = {name: [[int(x) for x in row[name]] for row in found] for name in found[0]}
    sources = rows.pop("inputs")
    _check_length(model, sources)
    batch = encoder_batch(sources, longest_row(model))
    length = batch["encoder_input_tokens"].shape[1]
    further = {f"encoder_{name}": right_padded(of, length) for name, of in rows.items()}
    return {"encoder": sources}, batch | further


def _check_length(model: Model, rows: Sequence[Sequence[int]]) -> int:
    """The longest row, which the model must have positions for."""
    longest = max(len(ids) for ids in rows)
    room = longest_row(model)
    if room is not None and longest > room:
        raise UserError(
            f"a text of {longest} tokens, where the model has {room} positions: shorten it."
        )
    return longest


def as_text(codec: TextCodec, side: str, ids: Sequence[int]) -> list[str]:
    """The text of each token; its id, such as `<1>`, for tokens without text."""
    feature = codec.inputs if side == "encoder" and codec.inputs else codec.targets
    return [feature.vocabulary.decode([i]) or f"<{i}>" for i in ids]
