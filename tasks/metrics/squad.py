"""SQuAD 1.1 and 2.0."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.metrics.answers import best_scores, em_and_f1, squad_words
from tasks.metrics.arguments import Several, answers_and_texts


def squad(targets: Sequence[Several], predictions: Sequence[str]) -> dict[str, float]:
    """SQuAD's exact match `em` and token `f1`, each the best over the accepted answers.

    Texts are compared in lower case, without punctuation and articles (Rajpurkar et al.
    2016, section 6.1).
    """
    return em_and_f1("squad", targets, predictions, squad_words)


def squad2(targets: Sequence[Several], predictions: Sequence[str]) -> dict[str, float]:
    """SQuAD 2.0's exact match `em` and token `f1`, of all questions and of two kinds of them.

    A question without an accepted answer is answered by the empty text alone (Rajpurkar et al.
    2018; the released `evaluate-v2.0.py`). `em_has_answer` and `f1_has_answer` are of those with
    one, `em_no_answer` and `f1_no_answer` of those without; a kind of which there are none is left
    out.
    """
    answers, predictions = answers_and_texts("squad2", targets, predictions)
    accepted = [_accepted(each) for each in answers]
    scores = best_scores(accepted, predictions, both_empty=1.0)
    has_answer = np.array([answers != [""] for answers in accepted])
    values: dict[str, float] = {}
    kinds = {"": np.ones_like(has_answer), "_has_answer": has_answer, "_no_answer": ~has_answer}
    for kind, chosen in kinds.items():
        if chosen.any():
            exact, overlap = 100 * scores[chosen].mean(axis=0)
            values |= {f"em{kind}": float(exact), f"f1{kind}": float(overlap)}
    return values


def squad2_best_threshold(
    targets: Sequence[Several],
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
    answers, spans = answers_and_texts("squad2_best_threshold", targets, aux_values["spans"])
    # Infinite where a text has no span at all.
    differences = np.clip(aux_values["null_score_differences"], -1e9, 1e9)
    names = ("em", "f1")
    if np.isnan(differences).any():
        nothing = [f"best_{name}{end}" for name in names for end in ("", "_null_threshold")]
        return dict.fromkeys(nothing, float("nan"))
    accepted = [_accepted(each) for each in answers]
    answered = best_scores(accepted, spans, both_empty=1.0)
    silent = best_scores(accepted, [""] * len(spans), both_empty=1.0)
    order = np.argsort(differences, kind="stable")
    # Those with the least differences are answered, 0 of them, 1, 2, …
    totals = np.cumsum(np.concatenate([silent.sum(0)[None], (answered - silent)[order]]), axis=0)
    least = differences[order]
    # Not between questions of equal differences.
    possible = np.concatenate([[True], least[1:] != least[:-1], [True]])
    ends = np.concatenate([[least[0] - 2], least, [least[-1] + 2]])
    values: dict[str, float] = {}
    for name, total in zip(names, totals.T, strict=True):
        best = int(np.where(possible, total, -np.inf).argmax())
        values[f"best_{name}"] = 100 * float(total[best] / len(spans))
        values[f"best_{name}_null_threshold"] = -float(ends[best] + ends[best + 1]) / 2
    return values


def _accepted(answers: Sequence[str]) -> list[str]:
    """The answers of which words are left, or the empty one."""
    return [answer for answer in answers if squad_words(answer)] or [""]
