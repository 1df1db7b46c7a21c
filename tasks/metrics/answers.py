"""Exact match and F1 of the words of answers, after the normalization of each benchmark.

| | in lower case, without `a`, `an`, `the` | punctuation | |
|---|---|---|---|
| SQuAD, CoQA, QuAC | yes | deleted | |
| TriviaQA | yes | becomes spaces; so do `‘`, `’`, `´` | |
| Natural Questions, WebQuestions | yes | deleted | letters and accents apart (NFD) |
| DROP | yes | deleted, but of numbers | a hyphen parts words; numbers by value |
"""

import collections
import re
import string
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tasks.metrics.arguments import Several, answers_and_texts

Words = Callable[[str], list[str]]
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_DELETED = dict.fromkeys(map(ord, string.punctuation))
_SPACED = dict.fromkeys(map(ord, string.punctuation + "‘’´"), " ")


def squad_words(text: str) -> list[str]:
    """The words of an answer as SQuAD's script compares them (Rajpurkar et al. 2016)."""
    return without_articles(text.lower().translate(_DELETED)).split()


def trivia_qa(targets: Sequence[Several], predictions: Sequence[str]) -> dict[str, float]:
    """TriviaQA's exact match `em` and token `f1`, each the best over an answer's aliases.

    Punctuation becomes spaces, where SQuAD deletes it: `U.S.` is two words (Joshi et al. 2017; the
    released `triviaqa_evaluation.py`).
    """

    def words(text: str) -> list[str]:
        return without_articles(text.lower().translate(_SPACED)).split()

    return em_and_f1("trivia_qa", targets, predictions, words)


def natural_questions(targets: Sequence[Several], predictions: Sequence[str]) -> dict[str, float]:
    """Exact match `em` and token `f1` of questions without a text, the best over the answers.

    As Lee et al. 2019 (`orqa/utils/eval_utils.py`) compare answers of Natural Questions and of
    WebQuestions: SQuAD's way, but a letter with an accent is the same in one character or in two.
    """

    def words(text: str) -> list[str]:
        return squad_words(unicodedata.normalize("NFD", text))

    return em_and_f1("natural_questions", targets, predictions, words)


def without_articles(text: str) -> str:
    """A text in lower case with a space in place of each article."""
    return _ARTICLES.sub(" ", text)


def without_punctuation(text: str) -> str:
    """A text without ASCII's punctuation."""
    return text.translate(_DELETED)


def em_and_f1(
    metric: str, targets: Sequence[Several], predictions: Sequence[str], words: Words
) -> dict[str, float]:
    """Means of the two scores of `best_scores`, in percent, for the metric of this name."""
    exact, overlap = best_scores(*answers_and_texts(metric, targets, predictions), words).T
    return {"em": 100 * float(exact.mean()), "f1": 100 * float(overlap.mean())}


def best_scores(
    targets: Sequence[Sequence[str]],
    predictions: Sequence[str],
    words: Words = squad_words,
    both_empty: float = 0.0,
) -> npt.NDArray[np.float64]:
    """Exact match and F1 of each prediction, the best over the accepted answers, `[n, 2]`.

    Args:
      targets: accepted answers.
      predictions: as many.
      words: of a text, what is compared.
      both_empty: the F1 of two texts without words: 0 in SQuAD 1.1's script, 1 in 2.0's and CoQA's.
    """
    scores = np.zeros((len(predictions), 2))
    for i, (answers, prediction) in enumerate(zip(targets, predictions, strict=True)):
        guess = words(prediction)
        accepted = [words(answer) for answer in answers]
        scores[i, 0] = max((guess == answer for answer in accepted), default=False)
        scores[i, 1] = max((word_f1(answer, guess, both_empty) for answer in accepted), default=0.0)
    return scores


def word_f1(answer: Sequence[str], guess: Sequence[str], both_empty: float) -> float:
    """F1 of the words of two texts, each counted as often as it occurs."""
    shared = sum((collections.Counter(answer) & collections.Counter(guess)).values())
    if not shared:
        return both_empty if list(answer) == list(guess) else 0.0
    precision, recall = shared / len(guess), shared / len(answer)
    return 2 * precision * recall / (precision + recall)
