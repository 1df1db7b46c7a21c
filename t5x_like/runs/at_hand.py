"""What a model gives for texts at hand, which no cache holds: of its heads, and its vectors."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import jax
import numpy as np

from t5x_like.data import formats
from t5x_like.decoding import TextCodec
from t5x_like.decoding.generate import fetched
from t5x_like.decoding.text import checked_texts
from t5x_like.errors import UserError
from t5x_like.evaluation.extraction import SpanReader, extracted_by
from t5x_like.evaluation.generation import measured_of
from t5x_like.evaluation.prediction import Text, TextReader, predict_batch
from t5x_like.interpretability.reading import read
from t5x_like.protocols import Batch, EmbedsContexts, Mixture, Model, Params, Task

# Where the rows of an encoder, or of a decoder, have tokens.
_SEGMENTS = ("encoder_segment_ids", "decoder_segment_ids")
_STATES = "hidden_states"
Pooling = Literal["mean", "first", "pooled"]
Reader = TextReader | SpanReader


def reader_of(model: Model, task: Task | Mixture, lengths: Mapping[str, int]) -> Reader | None:
    """What makes the rows that a model's head reads; None of a model or task without labels."""
    if formats.find(model.batch_format).prompts is not None:
        return None
    kind: Any = TextReader if extracted_by(model) is None else SpanReader
    return cast(Reader | None, kind.for_task(task, model, lengths))


def what_is_cut(codec: TextCodec, reader: Reader | None, texts: Sequence[Text]) -> str:
    """A sentence where texts are longer than what is read of them; else ""."""
    texts = checked_texts(texts, "texts")
    if reader is not None:
        cut = [excess for text in texts if (excess := reader.excess(text)) > 0]
        return f"{len(cut)} of {len(texts)} {reader.what_is_lost}" if cut else ""
    if (longest := codec.input_length) is None:
        return ""
    lengths = [codec.prompt_length(text) for text in cast(Sequence[str], texts)]
    cut = [length for length in lengths if length > longest]
    if not cut:
        return ""
    return (
        f"{len(cut)} of {len(texts)} texts lose their {codec.lost_part}: the longest has "
        f"{max(cut):,} tokens, and TASK_FEATURE_LENGTHS['inputs'] is {longest:,}."
    )


def outputs(
    model: Model,
    params: Params,
    codec: TextCodec,
    reader: Reader | None,
    texts: Sequence[Text],
    names: tuple[str, ...] | None,
) -> dict[str, np.ndarray]:
    """Outputs of the model by name, all texts in one batch.

    Args:
      model: with a head, as it is for one task; or of vectors alone any that writes text.
      params: of the model.
      codec: of the task.
      reader: makes rows for the model's head, where it has one.
      texts: at least one.
      names: which outputs; None for all.

    Returns:
      The outputs, and `lengths`, int32 `[texts]`, how many tokens each text has; of a model that
      marks answers in texts these, as `Run.predict` says.

    Raises:
      UserError: no texts, what is none, or vectors of a model that marks answers.
    """
    if names == (_STATES,) and (found := _in_context(model, params, codec, texts)) is not None:
        return found
    texts = checked_texts(texts, "texts")
    if isinstance(reader, SpanReader):
        if names is not None:
            raise UserError(
                f"{type(model).__name__} of this run marks answers in windows of texts, and gives "
                "no vector of a text: ask predict or attention."
            )
        return _answers(model, params, reader, texts)
    if reader is None:
        rows, batch = read(model, codec, cast(Sequence[str], texts), None)
        (sources,) = rows.values()
        lengths = np.array([len(ids) for ids in sources], np.int32)
        return {"lengths": lengths} | predict_batch(model, params, batch, names)
    if not texts:
        raise UserError("no text was given: give at least one.")
    examples = reader.examples(texts)
    batch = reader.batch_of(examples)
    segments = next(batch[name] for name in _SEGMENTS if name in batch)
    lengths = (segments != 0).sum(axis=-1).astype(np.int32)
    found = predict_batch(model, params, batch, names)
    measured = measured_of(model)
    if measured is not None and set(measured.outputs) <= set(found):
        found |= measured.of_examples(found, examples)
    return {"lengths": lengths} | found


def _in_context(
    model: Model, params: Params, codec: TextCodec, texts: Sequence[Text]
) -> dict[str, np.ndarray] | None:
    """The vectors of a model that writes text, as `hidden_states`, and `lengths`; None of another.

    Args:
      model: any model.
      params: of the model.
      codec: of its task.
      texts: what the encoder reads, or the decoder, whose start token has no vector here.

    Raises:
      UserError: no texts, or one without a token.
    """
    writes = formats.find(model.batch_format).prompts is not None
    if not (writes and isinstance(model, EmbedsContexts)):
        return None
    rows, batch = read(model, codec, cast(Sequence[str], texts), None)
    begun = 0 if "encoder" in rows else 1
    lengths = [len(ids) - begun for ids in rows["encoder" if "encoder" in rows else "decoder"]]
    if getattr(model, "embeds_words", False) and codec.inputs is not None and codec.inputs.add_eos:
        lengths = [length - 1 for length in lengths]
    if 0 in lengths:
        raise UserError(f"text {lengths.index(0) + 1} of {len(lengths)} has no tokens.")
    vectors = fetched(_contextual_vectors(model, params, batch))
    return {"lengths": np.array(lengths, np.int32), _STATES: vectors[:, begun:]}


@functools.partial(jax.jit, static_argnames="model")
def _contextual_vectors(model: EmbedsContexts, params: Params, batch: Batch) -> jax.Array:
    vectors: jax.Array = model.contextual_vectors(params, batch)
    return vectors


def _answers(
    model: Model, params: Params, reader: SpanReader, texts: Sequence[Text]
) -> dict[str, np.ndarray]:
    """The answers that a model marks in texts, by name; `Run.predict` says what each is."""
    found = reader.answers(model, params, texts)
    differences = [one.null_score_difference for one in found]
    return {
        "answer": np.array([one.text for one in found], str),
        "span": np.array([one.span or (-1, -1) for one in found], np.int32).reshape(-1, 2),
        "probability": np.array([one.probability for one in found], np.float32),
        "null_score_difference": np.array(differences, np.float32),  # NaN of None
    }


def pooled(vectors: np.ndarray, lengths: np.ndarray, pooling: Pooling) -> np.ndarray:
    """A vector for each text, or for each choice of a text.

    Args:
      vectors: float32 `[..., e]` with "pooled", else `[..., tokens, e]`.
      lengths: int32 `[...]`, how many tokens there are.
      pooling: as for `Run.embed`.

    Returns:
      float32 `[..., e]`.
    """
    if pooling == "pooled":
        return vectors
    if pooling == "first":
        return vectors[..., 0, :]
    real = np.arange(vectors.shape[-2]) < lengths[..., None]
    # A choice that a text has not has no tokens.
    mean = (vectors * real[..., None]).sum(axis=-2) / np.maximum(lengths[..., None], 1)
    return mean.astype(np.float32)
