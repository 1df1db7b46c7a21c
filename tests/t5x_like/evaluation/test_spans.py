"""The rule by which a span is chosen, by hand, and beside `transformers`' own."""

import dataclasses

import numpy as np
import pytest

from t5x_like.evaluation.spans import Candidate, answer, candidates


@dataclasses.dataclass(frozen=True)
class Rules:
    """As `heads.Spans` has them, which the engine does not know."""

    null_threshold: float | None = None
    n_best: int = 20
    longest: int = 30


TEXT = "abc def"
# [CLS] question [SEP] a b c _ d e f [SEP], a token for each character.
BEGINS = np.array([-1, -1, -1, 0, 1, 2, 3, 4, 5, 6, -1])
ENDS = np.where(BEGINS < 0, -1, BEGINS + 1)
MAY = (BEGINS >= 0).astype(int)


def of(start, end, rules=Rules(), may=MAY, begins=BEGINS, ends=ENDS, text=TEXT):
    return candidates(np.array(start), np.array(end), begins, ends, may, text, rules)


def one_hot(**values):
    """Numbers that are 0 but at these characters of the text."""
    logits = np.zeros(11)
    for character, value in values.items():
        logits[3 + TEXT.index(character)] = value
    return logits


def test_the_best_span_has_the_largest_sum_and_ends_where_it_begins_or_later():
    found = of(one_hot(a=-20, b=3, f=2), one_hot(a=9, c=2))
    assert found[0] == Candidate(5.0, 1, 3)  # "bc"; "a" ends before b begins
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True) and len(found) == 20


def test_no_span_is_longer_than_it_may_be():
    assert of(one_hot(a=3), one_hot(f=3))[0] == Candidate(6.0, 0, 7)
    found = of(one_hot(a=3), one_hot(f=3), Rules(longest=6))
    assert max(one.score for one in found) == 3
    assert max(one.end - one.begin for one in found) == 6


def test_neither_question_nor_padding_nor_whitespace_ends_a_span():
    start, end = np.zeros(14), np.zeros(14)
    start[1] = end[2] = end[12] = start[6] = end[6] = 50.0  # the space is the text's fourth
    found = of(start, end, Rules(n_best=100))
    assert all(one.score == 0 for one in found)
    assert len(found) == 6 * 7 / 2  # six letters, from each to each
    assert all(TEXT[one.begin] != " " != TEXT[one.end - 1] for one in found)


def test_a_token_that_counts_in_another_row_begins_nothing():
    may = MAY.copy()
    may[4] = 0
    found = of(one_hot(b=9), one_hot(c=1), may=may)
    assert found[0].score == 1 and all(one.begin != 1 for one in found)


def test_pieces_with_the_space_before_them_give_words_without_it():
    begins, ends = np.array([-1, 0, 3]), np.array([-1, 3, 7])
    found = of([0, 0, 5.0], [0, 0, 5.0], may=np.array([0, 1, 1]), begins=begins, ends=ends)
    assert found[0] == Candidate(10.0, 4, 7)


def test_a_row_without_text_has_no_span():
    assert of(np.zeros(3), np.zeros(3), begins=np.full(3, -1), ends=np.full(3, -1)) == []


def test_the_null_rule_is_the_specifications():
    """Null 1, best span 5: the span at τ = 0, none at τ = 4.5, and none where both are equal."""
    found = [Candidate(5.0, 0, 3)]
    chosen = answer(TEXT, found, [1.0], Rules(0.0))
    assert (chosen.text, chosen.span, chosen.null_score_difference) == ("abc", (0, 3), -4.0)
    for threshold in (4.5, 4.0):
        none = answer(TEXT, found, [1.0], Rules(threshold))
        assert (none.text, none.span, none.best) == ("", None, "abc")
        assert none.null_score_difference == -4.0
    assert answer(TEXT, found, [1.0], Rules(3.9)).text == "abc"
    always = answer(TEXT, found, [99.0], Rules(None))
    assert (always.text, always.null_score_difference) == ("abc", None)


def test_rows_of_a_text_are_joined_by_the_best_span_and_the_least_null():
    found = [Candidate(2.0, 0, 3), Candidate(4.0, 4, 7), Candidate(2.5, 4, 7)]
    chosen = answer(TEXT, found, [3.0, 1.0, 2.0], Rules(0.0))
    assert (chosen.text, chosen.null_score_difference) == ("def", -3.0)
    assert [one["text"] for one in chosen.n_best] == ["def", "abc", ""]
    shares = np.exp([4.0, 2.0, 1.0])
    assert [one["score"] for one in chosen.n_best] == pytest.approx(shares / shares.sum())
    assert chosen.probability == chosen.n_best[0]["score"]
    assert chosen.n_best[0]["span"] == [4, 7] and chosen.n_best[2]["span"] is None
    assert answer(TEXT, found, [9.0], Rules(0.0)).probability == pytest.approx(
        np.exp(5) / (np.exp(5) + 1 + np.exp(-2)), rel=1e-3
    )


def test_a_null_score_of_zero_is_a_score():
    assert answer(TEXT, [Candidate(-2.0, 0, 3)], [0.0], Rules(0.0)).span is None


def test_so_many_spans_are_kept():
    found = [Candidate(float(i), i, 7) for i in range(7)]
    assert [one["span"] for one in answer(TEXT, found, [], Rules(n_best=2)).n_best] == [
        [6, 7], [5, 7],
    ]  # fmt: skip


def test_a_text_in_which_nothing_can_be_found_has_no_answer():
    for rules in (Rules(), Rules(0.0)):
        nothing = answer("", [], [1.0], rules)
        assert (nothing.text, nothing.span, nothing.null_score_difference) == ("", None, None)
    assert answer("", [], [1.0], Rules(0.0)).probability == 1


@pytest.mark.interop
def test_answers_are_those_of_transformers():
    """`select_starts_ends`, of a row with question, text and padding, at every length."""
    pipelines = pytest.importorskip("transformers.pipelines.document_question_answering")
    rng = np.random.default_rng(0)
    for _ in range(200):
        size, question, padding = rng.integers(1, 40), rng.integers(1, 9), rng.integers(0, 5)
        longest = int(rng.integers(1, 20))
        begins = np.concatenate([np.full(2 + question, -1), np.arange(size), [-1]])
        start, end = 3 * rng.standard_normal((2, begins.size + padding)).astype(np.float32)
        found = candidates(
            start, end, begins, np.where(begins < 0, -1, begins + 1), begins >= 0, "x" * size,
            Rules(longest=longest),
        )  # fmt: skip
        outside = np.ones(start.size, int)
        outside[2 + question : -1 - padding] = 0
        attention = (np.arange(start.size) < begins.size).astype(int)
        starts, ends, _, _ = pipelines.select_starts_ends(
            start[None], end[None], outside, attention, max_answer_len=longest
        )
        first = 2 + question
        assert (found[0].begin, found[0].end) == (starts[0] - first, ends[0] - first + 1)
