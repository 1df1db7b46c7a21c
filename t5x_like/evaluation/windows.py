"""The log-likelihood of documents that are longer than what a model reads at once."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from t5x_like.data.formats.prompts import bucket_length, right_padded
from t5x_like.decoding.generate import fetched
from t5x_like.decoding.prompts import prompts_of
from t5x_like.decoding.scoring import token_log_likelihoods
from t5x_like.errors import UserError
from t5x_like.host.journal import NO_JOURNAL, Journal
from t5x_like.protocols import Decodes, Params, longest_row


class Window(NamedTuple):
    """Tokens of a document that are read together.

    Attributes:
      first: number of the first token that the model predicts in it.
      scored: number of the first one that counts.
      end: number after the last one.
    """

    first: int
    scored: int
    end: int


@dataclasses.dataclass(frozen=True)
class DocumentLikelihood:
    """How likely a document is.

    Attributes:
      tokens: how many it has, its end included.
      log_likelihood: natural, of all of them.
    """

    tokens: int
    log_likelihood: float


def rolling_windows(length: int, window: int, stride: int) -> Iterator[Window]:
    """Windows over a document, in which each token counts once.

    The first window is read after the start token, and all of it counts. Each next one counts
    `stride` tokens, or what is left, and reads before them as many as make up `window`: also the
    last one has a full context. Those of lm-evaluation-harness's `get_rolling_token_windows` with
    `max_seq_len = window` and `context_len = window - stride + 1`.

    Args:
      length: tokens of the document.
      window: tokens that are read at once.
      stride: how many of a window count, after the first one.
    """
    end = min(window, length)
    if end:
        yield Window(0, 0, end)
    while end < length:
        scored, end = end, min(end + stride, length)
        yield Window(end - window, scored, end)


def checked_stride(model: Decodes, window: int, stride: int | None) -> int:
    """The stride; None is the whole window.

    Raises:
      UserError: a window that the model cannot read, or a stride that leaves tokens out.
    """
    if prompts_of(model).needs_inputs:
        raise UserError(
            f"window is {window}, but {type(model).__name__} has an encoder: windows are of models "
            "that read a text as it is."
        )
    longest = longest_row(model)
    longest = window if longest is None else longest
    if not 1 <= window <= longest:
        raise UserError(f"window is {window}: the model reads 1 to {longest:,} tokens at once.")
    stride = window if stride is None else stride
    if not 1 <= stride <= window:
        raise UserError(
            f"stride is {stride}: give 1 to {window}, the window, so that each token counts."
        )
    return stride


def document_likelihoods(
    model: Decodes,
    params: Params,
    documents: Sequence[np.ndarray],
    *,
    start_id: int,
    window: int,
    stride: int,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
    journal: Journal = NO_JOURNAL,
) -> list[DocumentLikelihood]:
    """The log-likelihood of each document, by `rolling_windows`.

    Args:
      model: a `Decodes` without an encoder.
      params: its parameters.
      documents: token ids of each, int32.
      start_id: what the model reads first.
      window: see `rolling_windows`.
      stride: see `rolling_windows`.
      batch_size: windows scored together.
      progress: called with the number of windows done after each batch.
      journal: of results of batches that are known.
    """
    rows = [
        (number, each)
        for number, document in enumerate(documents)
        for each in rolling_windows(len(document), window, stride)
    ]
    rows.sort(key=lambda row: row[1].end - row[1].first)
    totals = np.zeros(len(documents))
    for begin in range(0, len(rows), batch_size):
        own = rows[begin : begin + batch_size]
        filled = own + own[:1] * (batch_size - len(own))
        parts = [(documents[number].tolist(), each) for number, each in filled]
        read = [[start_id, *tokens][each.first : each.end] for tokens, each in parts]
        length = bucket_length(max(map(len, read)), longest_row(model))
        weights = [
            [0] * (each.scored - each.first) + [1] * (each.end - each.scored) for _, each in filled
        ]
        targets = [tokens[each.first : each.end] for tokens, each in parts]
        batch = {
            "decoder_input_tokens": right_padded(read, length),
            "decoder_target_tokens": right_padded(targets, length),
            "decoder_loss_weights": right_padded(weights, length),
        }

        def compute(batch: Any = batch) -> dict[str, np.ndarray]:
            found_bt = fetched(token_log_likelihoods(model, params, batch))
            return {"sums": found_bt.sum(axis=1, dtype=np.float64)}

        sums = journal("windows", batch, compute)["sums"]
        np.add.at(totals, [number for number, _ in own], sums[: len(own)])
        if progress is not None:
            progress(len(own))
    return [
        DocumentLikelihood(len(document), float(total))
        for document, total in zip(documents, totals, strict=True)
    ]


def count_windows(lengths: Sequence[int], window: int, stride: int) -> int:
    """How many windows documents of these lengths have."""
    return sum(1 for length in lengths for _ in rolling_windows(length, window, stride))
