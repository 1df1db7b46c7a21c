"""Attention maps of a model over given texts.

Shapes: `h` heads, `t` tokens that the decoder reads, `s` tokens that the encoder reads.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from t5x_like.decoding import TextCodec
from t5x_like.errors import UserError
from t5x_like.evaluation.extraction import SpanReader
from t5x_like.evaluation.prediction import Text, TextReader
from t5x_like.interpretability.reading import as_text, read
from t5x_like.protocols import Batch, Model, Params, ShowsAttention

_SHOWN = 24  # characters of the tokens in a repr


@dataclasses.dataclass(frozen=True, repr=False)
class AttentionMaps:
    """The attention weights of all heads over one text; those of each query sum to 1.

    A recurrent model that attends to its source alone has `cross`, the alignment, and no others.

    Attributes:
      decoder_tokens: as text, what the decoder reads, the start token first; None without one.
      decoder: float32 `[layers, h, t, t]`, from a query (third axis) to keys (fourth).
      encoder_tokens: what the encoder reads; None without one.
      encoder: `[layers, h, s, s]`.
      cross: `[layers, h, t, s]`, from the decoder's tokens to the encoder's.
    """

    decoder_tokens: list[str] | None = None
    decoder: np.ndarray | None = None
    encoder_tokens: list[str] | None = None
    encoder: np.ndarray | None = None
    cross: np.ndarray | None = None

    def __repr__(self) -> str:
        """Shapes, and the first tokens: a notebook prints what a cell ends with."""
        shown = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                shown.append(f"{field.name} {list(value.shape)}")
            elif value is not None:
                text = repr("".join(value))
                shown.append(
                    f"{len(value)} {field.name} {text[:_SHOWN]}{'…' * (len(text) > _SHOWN)}"
                )
        return f"AttentionMaps({', '.join(shown)})"


def attention_maps(
    model: Model,
    params: Params,
    codec: TextCodec,
    texts: Sequence[Text],
    targets: Sequence[str] | None = None,
    reader: TextReader | SpanReader | None = None,
) -> list[AttentionMaps]:
    """Computes the attention weights of every layer and head over each text.

    Args:
      model: one that shows its attention.
      params: its parameters.
      codec: from text to tokens.
      texts: what the encoder reads, or the decoder first.
      targets: what the decoder reads after them; None: nothing.
      reader: makes the rows of a model with a head, one or several of a text.

    Raises:
      UserError: the model has no attention; not as many targets as texts, or more tokens than
        the model has positions.
    """
    if not isinstance(model, ShowsAttention):
        raise UserError(f"{type(model).__name__} has no attention to show.")
    rows, batch = read(model, codec, texts, targets, reader)
    weights = jax.device_get(_attention_weights(model, params, batch))
    if not weights:
        raise UserError(f"{type(model).__name__} has no attention to show.")
    maps = []
    for i, row in enumerate(zip(*rows.values(), strict=True)):
        tokens = dict(zip(rows, row, strict=True))
        lengths = {side: len(ids) for side, ids in tokens.items()}
        found: dict[str, Any] = {}
        for side, ids in tokens.items():
            n = lengths[side]
            found[f"{side}_tokens"] = as_text(codec, side, ids)
            if side in weights:
                found[side] = weights[side][:, i, :, :n, :n]
        if len(lengths) == 2:
            found["cross"] = weights["cross"][:, i, :, : lengths["decoder"], : lengths["encoder"]]
        maps.append(AttentionMaps(**found))
    return maps


@functools.partial(jax.jit, static_argnames="model")
def _attention_weights(model: ShowsAttention, params: Params, batch: Batch) -> Any:
    return model.attention_weights(params, batch)
