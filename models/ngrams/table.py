"""Probabilities of n-grams as arrays: what a counted model has for parameters."""

from collections.abc import Iterator

import numpy as np

from models.ngrams.counts import NGramCounts
from models.ngrams.smoothing import Continuations, Smoothing

Table = dict[str, dict[str, np.ndarray]]
# n-grams whose probabilities are computed together, in float64.
_AT_ONCE = 2**22


def level_name(order: int) -> str:
    """The name of an order's arrays among the parameters."""
    return f"order_{order}"


def estimated_table(
    counts: NGramCounts, smoothing: Smoothing, dtype: type[np.floating] = np.float32
) -> tuple[Table, list[str]]:
    """The probabilities of all n-grams that were counted.

    Args:
      counts: of a corpus.
      smoothing: how probabilities are made of them; computed in float64.
      dtype: in which they are kept.

    Returns:
      For each order its `probability` `[n]`; below the highest `backoff` `[n]`, the weight of
      each as a context; above 1 `token` and `first`, int32, as `counts.Level` has them. And what
      a user should know of how they were made.
    """
    predictable = counts.predictable
    num_predictable = int(predictable.sum())
    table: Table = {}
    notes = []
    uniform = predictable / num_predictable
    for order, level in enumerate(counts.levels, 1):
        seen = counts.continuations(order) if smoothing.continuation_counts else level.counts
        discounts, note = smoothing.discounts_of(order, seen)
        if note:
            notes.append(note)
        probabilities = np.empty(level.tokens.size, dtype)
        backoffs = np.empty(level.first.size - 1, dtype)
        for begin, end in _parts(level.first):
            own = slice(level.first[begin], level.first[end])
            below = table[level_name(order - 1)]["probability"] if order > 1 else uniform
            found = smoothing.estimate(
                Continuations(
                    order,
                    seen[own],
                    np.repeat(np.arange(end - begin), np.diff(level.first[begin : end + 1])),
                    end - begin,
                    below[level.shorter[own]].astype(np.float64) if order > 1 else below,
                    num_predictable,
                ),
                discounts,
            )
            probabilities[own], backoffs[begin:end] = found.probabilities, found.backoffs
        arrays = {"probability": probabilities}
        if order > 1:
            table[level_name(order - 1)]["backoff"] = backoffs
            arrays |= {"token": level.tokens, "first": level.first}
        table[level_name(order)] = arrays
    return table, notes


def _parts(first: np.ndarray) -> Iterator[tuple[int, int]]:
    """Contexts, from the first to before the second, that together have not many n-grams."""
    begin, last = 0, first.size - 1
    while begin < last:
        end = int(np.searchsorted(first, first[begin] + _AT_ONCE, "right")) - 1
        end = min(max(end, begin + 1), last)
        yield begin, end
        begin = end
