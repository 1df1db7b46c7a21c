"""Probabilities of n-grams as arrays: what a counted model has for parameters."""

import numpy as np

from models.ngrams.counts import NGramCounts
from models.ngrams.smoothing import Continuations, Smoothing

Table = dict[str, dict[str, np.ndarray]]


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
    probabilities = predictable / num_predictable
    for order, level in enumerate(counts.levels, 1):
        seen = counts.continuations(order) if smoothing.continuation_counts else level.counts
        found = smoothing.estimate(
            Continuations(
                order,
                seen,
                level.contexts,
                level.first.size - 1,
                probabilities if order == 1 else probabilities[level.shorter],
                num_predictable,
            )
        )
        del seen
        arrays = {"probability": found.probabilities.astype(dtype)}
        if order > 1:
            table[level_name(order - 1)]["backoff"] = found.backoffs.astype(dtype)
            arrays |= {"token": level.tokens, "first": level.first}
        table[level_name(order)] = arrays
        probabilities = found.probabilities
        if found.note:
            notes.append(found.note)
    return table, notes
