"""DROP: answers that are numbers, dates, or one or several spans."""

from collections.abc import Sequence

import numpy as np

from tasks.metrics.answers import without_articles, without_punctuation
from tasks.metrics.arguments import Several, check_lengths, is_list, texts


def drop(
    targets: Sequence[str | Sequence[Several]], predictions: Sequence[Several]
) -> dict[str, float]:
    """DROP's exact match `em` and numeracy-focused `f1`, each the best over the accepted answers.

    Spans are paired one to one, as is best, and the F1 of their sets of words is averaged over the
    spans of whichever has more; a pair whose accepted span has numbers counts 0 unless they share
    one. The F1 of a question is rounded to two decimals (Dua et al. 2019, section 5; the released
    `drop_eval.py`).

    Args:
      targets: accepted answers of each question, each a text, or several where it has several
        spans; a text is the only one. An answer whose first span is empty does not count.
      predictions: as many, each a text or several.
    """
    check_lengths(targets, predictions)
    scores = np.zeros((len(predictions), 2))
    for i, (answers, prediction) in enumerate(zip(targets, predictions, strict=True)):
        guess = texts("drop", prediction)
        several = [texts("drop", one) for one in (answers if is_list(answers) else [answers])]
        accepted = [spans for spans in several if spans and spans[0].strip()]
        found = [(_equal(one, guess), _overlap(one, guess)) for one in accepted]
        if found:
            scores[i] = np.max(found, axis=0)
    exact, overlap = scores.mean(axis=0)
    return {"em": 100 * float(exact), "f1": 100 * float(overlap)}


def _equal(accepted: Sequence[str], guess: Sequence[str]) -> bool:
    same = {tuple(_words(span)) for span in accepted} == {tuple(_words(span)) for span in guess}
    return same and len(accepted) == len(guess)


def _overlap(accepted: Sequence[str], guess: Sequence[str]) -> float:
    from scipy.optimize import linear_sum_assignment

    bags, guesses = ([set(_words(span)) for span in spans] for spans in (accepted, guess))
    scores = np.array([[_bag_f1(bag, other) for other in guesses] for bag in bags])
    scores = scores.reshape(len(bags), len(guesses))
    pairs = linear_sum_assignment(scores, maximize=True)
    return round(float(scores[pairs].sum() / max(len(bags), len(guesses))), 2)


def _bag_f1(bag: set[str], guess: set[str]) -> float:
    """F1 of two sets of words; 0 where the accepted one has numbers, and none of them is shared."""
    numbers = {word for word in bag if _is_number(word)}
    if numbers and not numbers & guess:
        return 0.0
    shared = len(bag & guess)
    precision = shared / len(guess) if guess else 1.0
    recall = shared / len(bag) if bag else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _words(text: str) -> list[str]:
    """What is compared of a span: words in lower case, and numbers by their value."""
    words: list[str] = []
    for word in text.lower().replace("-", " ").split(" "):
        if not _is_number(word):
            word = without_punctuation(word)
        if _is_number(word):
            word = str(float(word))
        words += without_articles(word).split()
    return words


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
