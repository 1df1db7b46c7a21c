"""Metrics of postprocessed targets and predictions, in percent.

Each function takes two lists of equal length and returns `{name: value}`, as seqio expects of
`metric_fns`; one with `aux_values` also what belongs to the predictions, lists by name. Names and
scales are those of T5's metrics. Nothing here needs TensorFlow.
"""

import collections
import re
import string
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.entity_tags import entities_of
from tasks.errors import TaskError

Metric = Callable[..., dict[str, float]]


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
    exact, overlap = _squad_scores(targets, predictions, both_empty=0.0).T
    return {"em": 100 * float(exact.mean()), "f1": 100 * float(overlap.mean())}


def squad2(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """SQuAD 2.0's exact match `em` and token `f1`, of all questions and of two kinds of them.

    A question without an accepted answer is answered by the empty text alone (Rajpurkar et al.
    2018; the released `evaluate-v2.0.py`). `em_has_answer` and `f1_has_answer` are of those with
    one, `em_no_answer` and `f1_no_answer` of those without; a kind of which there are none is left
    out.
    """
    _check(targets, predictions)
    accepted = [_accepted(answers) for answers in targets]
    scores = _squad_scores(accepted, predictions, both_empty=1.0)
    has_answer = np.array([answers != [""] for answers in accepted])
    values: dict[str, float] = {}
    kinds = {"": np.ones_like(has_answer), "_has_answer": has_answer, "_no_answer": ~has_answer}
    for kind, chosen in kinds.items():
        if chosen.any():
            exact, overlap = 100 * scores[chosen].mean(axis=0)
            values |= {f"em{kind}": float(exact), f"f1{kind}": float(overlap)}
    return values


def squad2_best_threshold(
    targets: Sequence[Sequence[str]],
    predictions: Sequence[str],
    aux_values: Mapping[str, Sequence[Any]],
) -> dict[str, float]:
    """What SQuAD 2.0's `em` and `f1` could be with the threshold that is best for these questions.

    It is chosen with the answers in view, and no measurement of a model that has not seen them
    (`find_all_best_thresh` of `evaluate-v2.0.py`): `best_em` at `best_em_null_threshold`, `best_f1`
    at `best_f1_null_threshold`, each a value of `heads.Spans.null_threshold`.

    Args:
      targets: accepted answers of each question.
      predictions: what was answered with the threshold that is set; not read.
      aux_values: `spans`, the best part of each text, whether or not it was the answer, and
        `null_score_differences`, how far the score of no answer exceeds its score.
    """
    spans = aux_values["spans"]
    _check(targets, spans)
    # Infinite where a text has no span at all.
    differences = np.clip(aux_values["null_score_differences"], -1e9, 1e9)
    accepted = [_accepted(answers) for answers in targets]
    answered = _squad_scores(accepted, spans, both_empty=1.0)
    silent = _squad_scores(accepted, [""] * len(spans), both_empty=1.0)
    order = np.argsort(differences, kind="stable")
    # Those with the least differences are answered, 0 of them, 1, 2, …
    totals = np.cumsum(np.concatenate([silent.sum(0)[None], (answered - silent)[order]]), axis=0)
    least = differences[order]
    # Not between questions of equal differences.
    possible = np.concatenate([[True], least[1:] != least[:-1], [True]])
    ends = np.concatenate([[least[0] - 2], least, [least[-1] + 2]])
    values: dict[str, float] = {}
    for name, total in zip(("em", "f1"), totals.T, strict=True):
        best = int(np.where(possible, total, -np.inf).argmax())
        values[f"best_{name}"] = 100 * float(total[best] / len(spans))
        values[f"best_{name}_null_threshold"] = -float(ends[best] + ends[best + 1]) / 2
    return values


def _accepted(answers: Sequence[str]) -> list[str]:
    """The answers of which words are left, or the empty one."""
    return [answer for answer in answers if _squad_words(answer)] or [""]


def _squad_scores(
    targets: Sequence[Sequence[str]], predictions: Sequence[str], both_empty: float
) -> npt.NDArray[np.float64]:
    """Exact match and F1 of each prediction, the best over the accepted answers, `[n, 2]`.

    `both_empty` is the F1 of two texts without words: 0 in SQuAD 1.1's script, 1 in 2.0's.
    """
    scores = np.zeros((len(predictions), 2))
    for i, (answers, prediction) in enumerate(zip(targets, predictions, strict=True)):
        guess = _squad_words(prediction)
        accepted = [_squad_words(answer) for answer in answers]
        scores[i, 0] = max((guess == answer for answer in accepted), default=False)
        scores[i, 1] = max(
            (_word_f1(answer, guess, both_empty) for answer in accepted), default=0.0
        )
    return scores


def _squad_words(text: str) -> list[str]:
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def _word_f1(answer: list[str], guess: list[str], both_empty: float) -> float:
    shared = sum((collections.Counter(answer) & collections.Counter(guess)).values())
    if not shared:
        return both_empty if answer == guess else 0.0
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
