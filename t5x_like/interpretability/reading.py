"""Texts as a model reads them, padded on the right."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from t5x_like.data import formats
from t5x_like.data.formats.prompts import bucket_length, encoder_batch, right_padded
from t5x_like.decoding import TextCodec
from t5x_like.decoding.text import checked_texts
from t5x_like.errors import UserError
from t5x_like.evaluation.extraction import SpanReader
from t5x_like.evaluation.prediction import Text, TextReader
from t5x_like.protocols import Model, longest_row


def read(
    model: Model,
    codec: TextCodec,
    texts: Sequence[Text],
    targets: Sequence[str] | None,
    reader: TextReader | SpanReader | None = None,
) -> tuple[dict[str, list[list[int]]], dict[str, np.ndarray]]:
    """Tokenizes the texts, and makes a batch that is padded on the right.

    Args:
      model: that reads them.
      codec: from text to tokens.
      texts: at least one.
      targets: what is written after each; None: nothing.
      reader: makes the rows instead, of a model with a head.

    Raises:
      UserError: what cannot be read.
    """
    texts = checked_texts(texts, "texts")
    targets = None if targets is None else checked_texts(targets, "targets")
    if not texts:
        raise UserError("no text was given: give at least one.")
    if targets is not None and len(targets) != len(texts):
        raise UserError(f"{len(targets)} targets were given for {len(texts)} texts.")
    layout = formats.find(model.batch_format).prompts
    if layout is None and targets is not None:
        raise UserError(f"targets are given, but {type(model).__name__} writes none: leave it out.")
    if reader is not None:
        return _of_head(reader.batch(texts))
    several = [number for number, text in enumerate(texts) if not isinstance(text, str)]
    if several:
        raise UserError(f"texts[{several[0]}] has several texts where the task reads one.")
    alone = cast(Sequence[str], texts)
    if layout is None:  # an encoder alone
        return _of_encoder(model, [codec.row(text) for text in alone])
    sources = [codec.encode(text) for text in alone]
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


def _of_head(
    batch: Mapping[str, np.ndarray],
) -> tuple[dict[str, list[list[int]]], dict[str, np.ndarray]]:
    """The rows of a head's batch, one after another where a text has several, and their batch."""
    sides = [side for side in ("encoder", "decoder") if f"{side}_segment_ids" in batch]
    tokens = {
        name: x.reshape(-1, x.shape[-1])
        for name, x in batch.items()
        if name.startswith(("encoder_", "decoder_"))
    }
    # A choice that a text has not is a row without tokens.
    there = tokens[f"{sides[0]}_segment_ids"].any(axis=-1)
    tokens = {name: x[there] for name, x in tokens.items()}
    rows = {}
    for side in sides:
        pairs = zip(tokens[f"{side}_input_tokens"], tokens[f"{side}_segment_ids"], strict=True)
        rows[side] = [ids[segments != 0].tolist() for ids, segments in pairs]
    return rows, tokens


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
