"""SQuAD's measures by hand, 2.0's as `evaluate-v2.0.py` defines them."""

import math

import numpy as np
import pytest

from tasks import metrics


def test_squad_takes_the_best_answer_without_articles_and_punctuation():
    values = metrics.squad(
        [["The Eiffel Tower!", "Paris"], ["ten tall men"]], ["eiffel tower", "men"]
    )
    # The first is exact. The second shares one word of one (precision 1) and of three
    # (recall 1/3): F1 is 2 x (1/3) / (4/3) = 1/2.
    assert values == {"em": 50, "f1": pytest.approx(75)}


def test_a_question_without_an_answer_is_answered_by_nothing_alone():
    targets = [["the Lions", "Lions"], ["Rome"], [], []]
    predictions = ["A lion", "in Rome", "", "Rome"]
    # "lion" is no word of "lions"; "in rome" has rome: 2 · .5 · 1 / 1.5.
    assert metrics.squad2(targets, predictions) == pytest.approx(
        {
            "em": 25,
            "f1": 100 * (0 + 2 / 3 + 1 + 0) / 4,
            "em_has_answer": 0,
            "f1_has_answer": 100 / 3,
            "em_no_answer": 50,
            "f1_no_answer": 50,
        }
    )


def test_an_answer_that_is_left_out_is_wrong_and_a_kind_without_questions_not_there():
    found = metrics.squad2([["Lions"], ["Rome"]], ["", "rome!"])
    assert found == {"em": 50, "f1": 50, "em_has_answer": 50, "f1_has_answer": 50}


def test_answers_without_words_are_none():
    """The script leaves out answers that its normalization empties."""
    assert metrics.squad2([["the", "."]], [""])["em_no_answer"] == 100


def test_squad_1_1_gives_two_texts_without_words_no_f1_as_its_script():
    assert metrics.squad([["the"]], ["a"]) == {"em": 100, "f1": 0}


def best(targets, spans, differences):
    aux = {"spans": spans, "null_score_differences": differences}
    return metrics.squad2_best_threshold(targets, ["?"] * len(spans), aux)


def test_the_best_threshold_by_hand():
    """Differences -3 (right), -1 (no answer), 2 (right): none 1 of 3, one 2, two 1, three 2."""
    found = best([["x"], [], ["y"]], ["x", "z", "y"], [-3.0, -1.0, 2.0])
    assert found["best_em"] == found["best_f1"] == pytest.approx(200 / 3)
    # Between -3 and -1: a span is given where it is better than none by more than 2.
    assert found["best_em_null_threshold"] == 2.0


def test_at_the_best_threshold_the_rule_gives_what_is_said():
    rng = np.random.default_rng(0)
    for _ in range(20):
        count = int(rng.integers(1, 12))
        targets = [["x y"] if rng.random() < 0.6 else [] for _ in range(count)]
        spans = [str(rng.choice(["x y", "x", "z"])) for _ in range(count)]
        differences = rng.integers(-3, 4, count).astype(float)  # many are equal
        found = best(targets, spans, differences)

        def at(threshold, targets=targets, spans=spans, differences=differences):
            answered = [
                s if -d > threshold else "" for s, d in zip(spans, differences, strict=True)
            ]
            return metrics.squad2(targets, answered)

        for name in ("em", "f1"):
            own = at(found[f"best_{name}_null_threshold"])[name]
            assert own == pytest.approx(found[f"best_{name}"])
            others = [at(threshold)[name] for threshold in np.arange(-4, 5, 0.5)]
            assert own == pytest.approx(max(others))


def test_a_text_without_a_span_is_never_answered():
    found = best([[]], [""], [np.inf])
    assert found["best_em"] == 100 and np.isfinite(found["best_em_null_threshold"])


def test_scores_that_are_no_numbers_have_no_best_threshold():
    aux_values = {"spans": ["a", "b"], "null_score_differences": [math.nan, 0.5]}
    found = metrics.squad2_best_threshold([["x"], ["b"]], ["", "b"], aux_values)
    assert len(found) == 4 and all(map(math.isnan, found.values()))
