"""Texts in which words gave way to others (Jiao et al. 2020, algorithm 1)."""

import numpy as np
import pytest

from t5x_like.corpora.word_replacement import WordReplacement
from t5x_like.errors import UserError

OTHERS = {"a": ["the", "one"], "good": ["fine", "nice", "bad"], "film": ["movie"]}


def candidates(words):
    return [OTHERS.get(word, []) for word in words]


def drawn(text, seed=0, **settings):
    return WordReplacement(candidates, **settings)([text], np.random.default_rng(seed))


def test_words_with_candidates_give_way_and_others_stay():
    found = drawn("a good  film , truly", threshold=1.0, samples=200)
    assert found[0] == ("a good  film , truly",)
    expected = {(f"{a} {good} movie , truly",) for a in OTHERS["a"] for good in OTHERS["good"]}
    assert set(found[1:]) == expected and len(found) == 7


def test_nothing_is_drawn_twice_nor_what_differs_in_spaces_alone():
    assert drawn("a  good film", threshold=0.0) == [("a  good film",)]
    assert drawn("nothing here", threshold=1.0) == [("nothing here",)]
    found = drawn("a good film", threshold=0.4, samples=1000)
    # Each word stays or gives way: 3 * 4 * 2 texts, one of which is the text itself.
    assert len(set(found)) == len(found) == 24


def test_a_word_gives_way_as_often_as_the_threshold_says_and_to_each_candidate_alike():
    replaced = WordReplacement(lambda words: [[str(i) for i in range(1000)]] * len(words), 0.4, 1)
    rng = np.random.default_rng(1)
    words = [w for _ in range(100) for w in replaced(["w " * 50], rng)[1][0].split()]
    gave_way = [int(word) for word in words if word != "w"]
    # Of 5,000 draws, within four standard deviations.
    assert abs(len(gave_way) / 5000 - 0.4) < 4 * (0.24 / 5000) ** 0.5
    assert abs(np.mean(gave_way) - 499.5) < 4 * 288.7 / len(gave_way) ** 0.5


def test_the_same_seed_draws_the_same_and_a_pair_is_drawn_together():
    replaced = WordReplacement(candidates, threshold=0.5, samples=5)
    pair = ["a film", "good film"]
    first, again = (replaced(pair, np.random.default_rng(3)) for _ in range(2))
    assert first == again and first[0] == tuple(pair) and len(first[1]) == 2
    assert first != replaced(pair, np.random.default_rng(4))


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"threshold is 1.5: a probability"):
        WordReplacement(candidates, threshold=1.5)
    with pytest.raises(UserError, match=r"samples is 0: 1 or more"):
        WordReplacement(candidates, samples=0)
