"""Metrics of tags of words."""

from collections.abc import Sequence

import numpy as np

from tasks.forms.entity_tags import entities_of
from tasks.metrics.arguments import check_lists

_TAGS = (
    "a list of tags is needed, as tasks of tags have it (tasks/tagging_tsv.gin), and no text has"
)


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
    check_lists("entity_f1", targets, predictions, _TAGS)
    hits = expected = found = 0
    for true, guess in zip(targets, predictions, strict=True):
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
    check_lists("word_accuracy", targets, predictions, _TAGS)
    equal = []
    for true, guess in zip(targets, predictions, strict=True):
        equal += [t == p for t, p in zip(true, guess, strict=True)]
    return {"word_accuracy": 100 * float(np.mean(equal)) if equal else 0.0}
