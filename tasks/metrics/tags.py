"""Metrics of tags of words."""

from collections.abc import Sequence, Sized

import numpy as np

from tasks.errors import TaskError
from tasks.forms.entity_tags import entities_of
from tasks.metrics.arguments import check_lengths


def entity_f1(
    targets: Sequence[Sequence[str]], predictions: Sequence[Sequence[str | None]]
) -> dict[str, float]:
    """`entity_precision`, `entity_recall` and `entity_f1` of tags of words, over all sentences.

    An entity is found if one of its kind with the same words is predicted; entities are read off
    tags by the rule of CoNLL's evaluation, see `entity_tags.entities_of`. A share of nothing is 0.

    Args:
      targets: the tags of each sentence.
      predictions: the same; None of a word for which there is none.
    """
    check_lengths(targets, predictions)
    hits = expected = found = 0
    for true, guess in zip(targets, predictions, strict=True):
        _check_words(true, guess)
        wanted, got = set(entities_of(true)), set(entities_of(guess))
        hits, expected, found = hits + len(wanted & got), expected + len(wanted), found + len(got)
    return {
        "entity_precision": 100 * hits / found if found else 0.0,
        "entity_recall": 100 * hits / expected if expected else 0.0,
        "entity_f1": 100 * 2 * hits / (expected + found) if hits else 0.0,
    }


def word_accuracy(
    targets: Sequence[Sequence[str]], predictions: Sequence[Sequence[str | None]]
) -> dict[str, float]:
    """Share of the words of all sentences whose predicted tag is the right one."""
    check_lengths(targets, predictions)
    equal = []
    for true, guess in zip(targets, predictions, strict=True):
        _check_words(true, guess)
        equal += [t == p for t, p in zip(true, guess, strict=True)]
    return {"word_accuracy": 100 * float(np.mean(equal)) if equal else 0.0}


def _check_words(targets: Sized, predictions: Sized) -> None:
    if len(targets) != len(predictions):
        raise TaskError(
            f"a metric got {len(targets)} tags and {len(predictions)} predictions for a sentence: "
            "as many are needed."
        )
