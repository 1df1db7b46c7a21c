"""The loss on held-out data."""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import jax
import numpy as np

from t5x_like.data import DatasetConfig, EvaluationDataset, formats, open_evaluation
from t5x_like.data.records import open_documents
from t5x_like.decoding.options import Cut
from t5x_like.errors import UserError
from t5x_like.evaluation import windows
from t5x_like.evaluation.interrupted import Measured, as_arrays, of_batches, of_carried
from t5x_like.evaluation.measurement import ROWS, SPLIT_ROWS, Finding, Subject
from t5x_like.evaluation.standard_error import StandardError, moments_of
from t5x_like.host.journal import NO_JOURNAL, Journal
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import (
    Carry,
    Decodes,
    Metrics,
    Model,
    Params,
    carries,
    longest_row,
    measures_rows,
)
from t5x_like.training import loss
from t5x_like.training.state import initial_carry

# What a measured split has beside the model's metrics.
STANDARD_ERROR = "loss_standard_error"
BITS_PER_BYTE = "bits_per_byte"
PERPLEXITY, WORD_PERPLEXITY = "perplexity", "word_perplexity"
CROSS_ENTROPY = "cross_entropy"  # of language models
# Fewer are measured in one program before others are compiled for shorter rows.
_MANY_BATCHES = 8


@functools.partial(jax.jit, static_argnames="model")
def batch_metrics(
    model: Model,
    params: Params,
    batch: Mapping[str, jax.Array],
    carry: Carry = None,
    frozen: Mapping[str, Params] | None = None,
) -> tuple[Metrics, dict[str, jax.Array], Carry]:
    """The model's summed metrics on one batch, without dropout.

    Returns:
      The metrics; the moments of the rows' losses, see `StandardError`, or nothing where the model
      does not tell rows apart; and what the next batch begins with.
    """
    if not measures_rows(model):
        _, metrics, carry = loss.summed_loss(model, params, batch, carry=carry, frozen=frozen)
        return metrics, {}, carry
    rows, others = model.row_metrics(params, batch)  # type: ignore[attr-defined]
    metrics = {name: (value.sum(), weight.sum()) for name, (value, weight) in rows.items()}
    moments = moments_of(*rows[loss.TOTAL]) if loss.TOTAL in rows else {}
    return {**others, **metrics}, moments, carry


def open_held_out(
    config: DatasetConfig, batch_format: str, partitioner: Partitioner, limit: int | None = None
) -> EvaluationDataset:
    """Opens a split for `measure`, which may be called many times, whatever becomes of the cache.

    Args:
      config: which split of what.
      batch_format: of the model.
      partitioner: the mesh.
      limit: the most rows, drawn evenly from the split; None for all.

    Raises:
      UserError: the split is not in the cache, or is empty.
    """
    index, count = partitioner.data_shard()
    return open_evaluation(
        config, batch_format=batch_format, shard_index=index, shard_count=count, limit=limit
    )


@dataclasses.dataclass(frozen=True)
class Loss:
    """The model's loss on every row, and what follows from it: see `measure`.

    Attributes:
      window: tokens that are read at once of documents of plain text, each of which is then
        measured whole, by `windows.rolling_windows`; None for rows as in training.
      stride: how many tokens of a window count, after the first one; fewer give each token more to
        be predicted from, and cost as many times more. None for all of the window.
    """

    window: int | None = None
    stride: int | None = None

    name: ClassVar[str] = "loss"

    def __post_init__(self) -> None:
        if self.window is None and self.stride is not None:
            raise UserError(f"stride is {self.stride}, but there is no window: give both.")

    def measure(self, subject: Subject) -> Finding:
        """See `Measurement`."""
        if self.window is not None:
            return self._documents(subject, self.window)
        split = open_held_out(
            subject.dataset, subject.model.batch_format, subject.partitioner, subject.limit
        )
        values, examples = measure(subject, split), split.examples

        def part(places: Sequence[int]) -> dict[str, float]:
            """Those of some examples, which are measured once more, apart from the others."""
            return _of_rows(subject, split.only([examples[i] for i in places]), Cut(), _means)

        return Finding(values, examples=examples, part=part if examples else None)

    def _documents(self, subject: Subject, window: int) -> Finding:
        """The loss of documents, each whole; every process measures all, as generation does."""
        model, dataset = cast(Decodes, subject.model), subject.dataset
        stride = windows.checked_stride(model, window, self.stride)
        documents = open_documents(dataset, subject.limit)
        ids = list(documents)
        bar = subject.bar(windows.count_windows([one.size for one in ids], window, stride))
        with bar, subject.partitioner.activate():
            found = windows.document_likelihoods(
                model,
                subject.params,
                ids,
                start_id=documents.start_id,
                window=window,
                stride=stride,
                batch_size=dataset.batch_size,
                progress=bar.add,
                journal=subject.journal,
            )
        tokens = np.array([one.tokens for one in found], np.float64)
        losses = -np.array([one.log_likelihood for one in found])
        if not tokens.sum():
            raise UserError("the evaluation split has no document with a token.")

        def part(places: Sequence[int]) -> dict[str, float]:
            return _mean_of_documents(losses[list(places)], tokens[list(places)])

        values = part(range(len(found)))
        values |= of_text(
            values[loss.TOTAL], documents.bytes_per_target, documents.words_per_target
        )
        values |= {ROWS: len(found), SPLIT_ROWS: documents.records.num_examples}
        settings = {"windows": f"documents by window {window}, stride {stride}"}
        return Finding(values, found, settings, documents.records.numbers, part)


def _mean_of_documents(losses: np.ndarray, tokens: np.ndarray) -> dict[str, float]:
    """The loss of a token of documents, from the sums and tokens of each; nothing of no token."""
    if not tokens.sum():
        return {}
    mean = float(losses.sum() / tokens.sum())
    values = {loss.TOTAL: mean, CROSS_ENTROPY: mean}
    if len(losses) > 1:
        rest = float(np.square(losses - mean * tokens).sum())
        values[STANDARD_ERROR] = math.sqrt(rest * len(losses) / (len(losses) - 1)) / tokens.sum()
    return values


def held_out(configs: Sequence[DatasetConfig]) -> list[DatasetConfig]:
    """Those but of tasks whose source was asked to hold nothing out."""

    def only_trains(config: DatasetConfig) -> bool:
        sources = [getattr(task, "source", None) for task, _ in config.task.tasks]
        return config.split != "train" and all(
            getattr(source, "only_trains", False) for source in sources
        )

    return [config for config in configs if not only_trains(config)]


def measure(subject: Subject, split: EvaluationDataset) -> dict[str, float]:
    """Everything that is measured of a model's loss on a split.

    Args:
      subject: what is measured.
      split: of its data, opened with `open_held_out`.

    Returns:
      `mean_metrics`; `rows`, those measured, of `split_rows`; and, of targets that are the text
      itself, what `of_text` makes of the cross-entropy.
    """
    cut = Cut()
    values = _of_rows(subject, split, cut, mean_metrics)
    if cut.cut:
        print(cut, file=sys.stderr, flush=True)
    values |= {ROWS: split.measured, SPLIT_ROWS: split.num_examples}
    if CROSS_ENTROPY in values:
        values |= of_text(values[CROSS_ENTROPY], split.bytes_per_target, split.words_per_target)
    return values


def _of_rows(
    subject: Subject, split: EvaluationDataset, cut: Cut, means: Callable[..., dict[str, float]]
) -> dict[str, float]:
    """`mean_metrics`, or `_means`, of all rows of a split, which says how far it is."""
    rows = _rows_of(split, subject.model, cut.see)
    with subject.bar_of_batches(split.measured, len(split)) as progress:
        return means(
            subject.model,
            subject.params,
            rows,
            subject.partitioner,
            subject.frozen,
            subject.journal,
            progress,
        )


def of_text(
    cross_entropy: float, bytes_per_target: float | None, words_per_target: float | None
) -> dict[str, float]:
    """A cross-entropy in the units of the text that it is of.

    Args:
      cross_entropy: mean of the target tokens, in nats; ends of texts are among them.
      bytes_per_target: bytes of UTF-8 for each target token; None where targets are no text.
      words_per_target: words, as white space parts them, for each target token; None where unknown.

    Returns:
      `bits_per_byte`, and `perplexity` per token, of which the former alone compares vocabularies;
      and `word_perplexity`, which does too: the exponent of all nats over all words.
    """
    if not bytes_per_target:
        return {}
    values = {
        BITS_PER_BYTE: cross_entropy / math.log(2) / bytes_per_target,
        PERPLEXITY: _exp(cross_entropy),
    }
    if words_per_target:
        values[WORD_PERPLEXITY] = _exp(cross_entropy / words_per_target)
    return values


def _exp(nats: float) -> float:
    # Of a loss that diverged, Python would refuse.
    return math.exp(nats) if nats < 700 else math.inf


def _rows_of(
    split: EvaluationDataset, model: Model, see: Callable[[int, int], None]
) -> Iterator[Mapping[str, np.ndarray]]:
    """Batches of a split, by length where that is known to be the same and worth more programs."""
    batch_format = formats.find(model.batch_format)
    alone = measures_rows(model) and split.shard_count == 1 and not batch_format.contiguous
    longest = split.bound.capacities(split.lengths)[-1]
    room = longest_row(model)
    fits = room is None or longest <= room
    if alone and batch_format.prompts is not None and (len(split) >= _MANY_BATCHES or not fits):
        return split.by_length(room, see)
    return (each.batch for each in split)


def of_rows(values: Mapping[str, float]) -> str:
    """Of how many rows values are, for a person."""
    rows, split_rows = int(values[ROWS]), int(values[SPLIT_ROWS])
    return f"{rows:,} rows" if rows == split_rows else f"{rows:,} of {split_rows:,} rows"


def summary_of(values: Mapping[str, float]) -> str:
    """The loss that was measured, per byte where that is known, and of how many rows."""
    parts = [f"loss {values[loss.TOTAL]:.4f}"]
    if BITS_PER_BYTE in values:
        parts.append(f"{values[BITS_PER_BYTE]:.3f} bits/byte")
    return "  ".join([*parts, f"({of_rows(values)})"])


def mean_metrics(
    model: Model,
    params: Params,
    batches: Iterable[Mapping[str, np.ndarray]],
    partitioner: Partitioner,
    frozen: Mapping[str, Params] | None = None,
    journal: Journal = NO_JOURNAL,
    progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """The weighted means of the model's metrics over all `batches`, and the total loss of them.

    Args:
      model: whose metrics these are.
      params: placed by `partitioner`.
      batches: this process's rows of each global batch.
      partitioner: the mesh.
      frozen: see `TrainState`.
      journal: of results of batches that are known.
      progress: called with the number of batches done.

    Returns:
      The means by name, and `loss_standard_error` where the model tells rows apart.

    Raises:
      UserError: there is no batch, or no target in any.
    """
    values = _means(model, params, batches, partitioner, frozen, journal, progress)
    if not values:
        raise UserError("the evaluation split has no example with a target.")
    return values


def _means(
    model: Model,
    params: Params,
    batches: Iterable[Mapping[str, np.ndarray]],
    partitioner: Partitioner,
    frozen: Mapping[str, Params] | None,
    journal: Journal,
    progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """As `mean_metrics`; nothing where there is no target."""
    pending: list[tuple[str | None, Measured]] = []
    totals: dict[str, tuple[float, float]] = {}
    error = StandardError()

    def settle(key: str | None, measured: Measured) -> None:
        nonlocal totals
        found = jax.device_get(measured)
        if key:
            journal.put(key, as_arrays([found]))
        totals = add_metrics(totals, found[0])
        error.add(found[1])
        if progress is not None:
            progress(1)

    def measured(rows: Mapping[str, np.ndarray], carry: Carry = None) -> Any:
        return batch_metrics(model, params, partitioner.shard_batch(rows), carry, frozen)

    def begun(rows: Mapping[str, np.ndarray]) -> Carry:
        count = next(iter(partitioner.shard_batch(rows).values())).shape[0]
        return initial_carry(model, partitioner, count)

    found = of_batches(measured, batches, journal)
    if carries(model):
        found = of_carried(measured, begun, batches, journal)
    with partitioner.activate():
        for one in found:
            pending.append(one)
            if len(pending) > 2:  # two steps in flight keep the device busy, no more
                settle(*pending.pop(0))
    for one in pending:
        settle(*one)
    if not loss.has_weight(model, totals):
        return {}
    values = loss.with_mean_total(model, mean(totals))
    if loss.TOTAL in totals:
        spread = error.of(values[loss.TOTAL], totals[loss.TOTAL][1])
        if spread is not None:
            values[STANDARD_ERROR] = spread
    return values


def add_metrics(
    totals: Mapping[str, tuple[float, float]], metrics: Metrics
) -> dict[str, tuple[float, float]]:
    """`totals` with one step's sums and weights added, in double precision on the host."""
    fetched = jax.device_get(metrics)
    return {
        name: (
            totals.get(name, (0.0, 0.0))[0] + float(value),
            totals.get(name, (0.0, 0.0))[1] + float(weight),
        )
        for name, (value, weight) in fetched.items()
    }


def mean(totals: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Each sum divided by its weight; a metric without weight is left out."""
    return {name: value / weight for name, (value, weight) in totals.items() if weight}
