"""CoQA and QuAC: questions that follow one another, each answered by several people.

A person's answer can only be compared with those of the others. So that a model is measured in the
same way, each accepted answer is left out once and the best score over the others is taken; the
score is the mean of these. With one accepted answer it is the score against that.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.metrics.answers import best_scores, squad_words, word_f1
from tasks.metrics.arguments import Several, answers_and_texts

CANNOT_ANSWER = "CANNOTANSWER"


def coqa(targets: Sequence[Several], predictions: Sequence[str]) -> dict[str, float]:
    """CoQA's exact match `em` and token `f1` (Reddy et al. 2019, section 6.1).

    Words are SQuAD's, as in the released `evaluate-v1.0.py`.

    Args:
      targets: the answer of the conversation and those of others, each as often as it was given.
      predictions: as many.
    """
    rows = zip(*answers_and_texts("coqa", targets, predictions), strict=True)
    scores = [_others(answers, prediction, both_empty=1.0) for answers, prediction in rows]
    exact, overlap = np.mean(scores, axis=0)
    return {"em": 100 * float(exact), "f1": 100 * float(overlap)}


def quac(
    targets: Sequence[Several], predictions: Sequence[str], least_human_f1: float = 0.4
) -> dict[str, float]:
    """QuAC's token `f1`, and `heq_q`, how often it is at least a person's.

    Questions on whose answer people do not agree are left out of both; `unfiltered_f1` is of all.
    A question that most say has no answer accepts `CANNOTANSWER` alone, exactly so, and any other
    the answers without it (Choi et al. 2018, section 5.1; the released `scorer.py`).

    Args:
      targets: all answers of each question.
      predictions: as many.
      least_human_f1: how well people's answers agree in what is not left out.

    Returns:
      The three; without `f1` and `heq_q` where every question is left out.
    """
    rows = zip(*answers_and_texts("quac", targets, predictions), strict=True)
    model = np.zeros(len(targets))
    human = np.zeros(len(targets))
    for i, (answers, prediction) in enumerate(rows):
        spans = [answer for answer in answers if answer != CANNOT_ANSWER]
        if 2 * len(spans) <= len(answers):
            model[i], human[i] = prediction == CANNOT_ANSWER, 1.0
        else:
            model[i] = _others(spans, prediction)[1]
            human[i] = _agreement(spans)
    values = {"unfiltered_f1": 100 * float(model.mean())}
    agreed = human >= least_human_f1
    if agreed.any():
        values["f1"] = 100 * float(model[agreed].mean())
        values["heq_q"] = 100 * float((model >= human)[agreed].mean())
    return values


def _others(
    answers: Sequence[str], prediction: str, both_empty: float = 0.0
) -> npt.NDArray[np.float64]:
    """Exact match and F1, the mean over what is left where each answer is left out, `[2]`."""
    if len(answers) < 2:
        return best_scores([answers], [prediction], both_empty=both_empty)[0]
    rests = [[*answers[:i], *answers[i + 1 :]] for i in range(len(answers))]
    return best_scores(rests, [prediction] * len(rests), both_empty=both_empty).mean(axis=0)


def _agreement(answers: Sequence[str]) -> float:
    """The F1 of a person: of each answer the best over the others; 1 where there are none."""
    if len(answers) == 1:
        return 1.0
    words = [squad_words(answer) for answer in answers]
    best = [
        max(word_f1(other, one, 0.0) for j, other in enumerate(words) if j != i)
        for i, one in enumerate(words)
    ]
    return float(np.mean(best))
