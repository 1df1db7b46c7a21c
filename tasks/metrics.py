"""Metrics of postprocessed targets and predictions, in percent.

Each function takes two lists of equal length and returns `{name: value}`, as seqio expects of
`metric_fns`. Names and scales are those of T5's metrics. Nothing here needs TensorFlow.
"""

import collections
import re
import string
from collections.abc import Callable, Sequence, Sized
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.entity_tags import entities_of
from tasks.errors import TaskError

Metric = Callable[[Sequence[Any], Sequence[Any]], dict[str, float]]


def exact_match(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Share of the predictions that equal their target, as texts."""
    return {"exact_match": _share_equal(targets, predictions)}


def accuracy(targets: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """Share of the predictions that equal their target, as labels."""
    return {"accuracy": _share_equal(targets, predictions)}


def _share_equal(targets: Sequence[Any], predictions: Sequence[Any]) -> float:
    _check(targets, predictions)
    return 100 * float(np.mean([t == p for t, p in zip(targets, predictions, strict=True)]))


def f1(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
    """F1 of class 1 for classes 0 and 1; any other prediction counts as the wrong class."""
    _check(targets, predictions)
    true, guess = np.asarray(targets), np.asarray(predictions)
    guess = np.where((guess == 0) | (guess == 1), guess, 1 - true)
    hits = np.sum((true == 1) & (guess == 1))
    total = np.sum(true == 1) + np.sum(guess == 1)
    return {"f1": 100 * float(2 * hits / total) if total else 0.0}


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
    _check(targets, predictions)
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
    _check(targets, predictions)
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


def matthews_corrcoef(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
    """Matthews correlation coefficient, CoLA's metric, for any number of classes.

    The correlation of the two class indicators (Gorodkin 2004, equation 8). 0 where it is
    undefined because all targets or all predictions are of one class.
    """
    _check(targets, predictions)
    classes, codes = np.unique([*targets, *predictions], return_inverse=True)
    true = np.eye(len(classes))[codes[: len(targets)]]
    guess = np.eye(len(classes))[codes[len(targets) :]]

    def covariance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum((a - a.mean(0)) * (b - b.mean(0))))

    scale = covariance(true, true) * covariance(guess, guess)
    return {"matthews_corrcoef": 100 * covariance(true, guess) / scale**0.5 if scale else 0.0}


def pearson_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Pearson's linear correlation; 0 where targets or predictions are constant."""
    return {"pearson_corrcoef": _correlation(targets, predictions)}


def spearman_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Spearman's rank correlation; equal values share their mean rank."""
    _check(targets, predictions)
    return {"spearman_corrcoef": _correlation(_ranks(targets), _ranks(predictions))}


def _correlation(targets: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    targets, predictions = np.asarray(targets), np.asarray(predictions)
    _check(targets, predictions)
    if np.ptp(targets) == 0 or np.ptp(predictions) == 0:
        return 0.0
    return 100 * float(np.corrcoef(targets, predictions)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + last - 1) / 2)[codes]


def squad(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """SQuAD's exact match `em` and token `f1`, each the best over the accepted answers.

    Texts are compared in lower case, without punctuation and articles (Rajpurkar et al.
    2016, section 6.1).
    """
    _check(targets, predictions)
    exact, overlap = [], []
    for answers, prediction in zip(targets, predictions, strict=True):
        guess = _squad_words(prediction)
        accepted = [_squad_words(answer) for answer in answers]
        exact.append(max((guess == answer for answer in accepted), default=False))
        overlap.append(max((_word_f1(answer, guess) for answer in accepted), default=0.0))
    return {"em": 100 * float(np.mean(exact)), "f1": 100 * float(np.mean(overlap))}


def _squad_words(text: str) -> list[str]:
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def _word_f1(answer: list[str], guess: list[str]) -> float:
    shared = sum((collections.Counter(answer) & collections.Counter(guess)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(guess), shared / len(answer)
    return 2 * precision * recall / (precision + recall)


def bleu(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU by sacrebleu, with international tokenization and exponential smoothing."""
    import sacrebleu

    _check(targets, predictions)
    score = sacrebleu.corpus_bleu(
        list(predictions), [list(targets)], smooth_method="exp", tokenize="intl"
    )
    return {"bleu": float(score.score)}


def rouge(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Mean F-measures of ROUGE-1, ROUGE-2 and summary-level ROUGE-L, by rouge-score.

    A sentence ends at ` . `, as in T5's metric. T5 reports the middle of a bootstrap
    interval, which differs from this mean by sampling noise.
    """
    from rouge_score import rouge_scorer

    _check(targets, predictions)
    names = ("rouge1", "rouge2", "rougeLsum")
    scorer = rouge_scorer.RougeScorer(names)
    scores = [
        scorer.score(target.replace(" . ", " .\n"), prediction.replace(" . ", " .\n"))
        for target, prediction in zip(targets, predictions, strict=True)
    ]
    return {n: 100 * float(np.mean([score[n].fmeasure for score in scores])) for n in names}


def _check(targets: Sized, predictions: Sized) -> None:
    if len(targets) != len(predictions) or not len(targets):
        raise TaskError(
            f"a metric got {len(targets)} targets and {len(predictions)} predictions: "
            "the same number of both, and at least one, is needed."
        )
