"""Words and n-grams, compared with sets of plain Python."""

import random
import re

import numpy as np
import pytest

from t5x_like.overlap import words
from t5x_like.overlap.index import Index, grams_of
from t5x_like.overlap.words import ngrams, words_of


def one_by_one(text):
    """Lower case without punctuation, parted by white space, in plain Python."""
    plain = re.sub(r"[!-/:-@\[-`{-~‘’“”—…«»]", "", text.lower())
    return plain.split()


def grams(text, n):
    found = one_by_one(text)
    return [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]


def test_case_punctuation_and_white_space_do_not_count():
    texts = ["The cat sat on a mat.", "the  CAT, sat\ton—“a” mat", "Ünïcode … ÉTÉ", "ünïcode été"]
    hashes, counts = words_of(texts)
    assert counts.tolist() == [6, 5, 2, 2]  # a dash between two words is no white space
    first, second, third, fourth = np.split(hashes, np.cumsum(counts)[:-1])
    assert first[:3].tolist() == second[:3].tolist()
    assert third.tolist() == fourth.tolist()
    assert len(set(hashes.tolist())) == 9  # the, cat, sat, on, a, mat, ona, ünïcode, été


def test_words_have_one_hash_each_wherever_they_stand():
    rng = random.Random(0)
    pool = ["".join(rng.choices("abcdeé😀漢", k=rng.randint(1, 9))) for _ in range(3000)]
    texts = [" ".join(rng.choices(pool, k=rng.randint(0, 300))) for _ in range(200)]
    hashes, counts = words_of(texts)
    every = [word for text in texts for word in text.split()]
    assert counts.tolist() == [len(text.split()) for text in texts]
    known = dict(zip(every, hashes.tolist(), strict=True))
    assert [known[word] for word in every] == hashes.tolist()
    assert len(set(known.values())) == len(known)


def test_long_texts_are_cut_between_words(monkeypatch):
    texts = ["one two three four five six", "", "seven\0eight", "nine" * 30]
    whole, counts = words_of(texts)
    monkeypatch.setattr(words, "_PIECE", 5)
    pieces, again = words_of(texts)
    assert counts.tolist() == again.tolist() == [6, 0, 2, 1]
    assert pieces.tolist() == whole.tolist()


def test_ngrams_are_equal_where_their_words_are():
    rng = random.Random(1)
    text = " ".join(rng.choices("abc", k=400))
    hashes, _ = words_of([text])
    for n, found in ngrams(hashes, {1, 3, 8}):
        expected = grams(text, n)
        known = dict(zip(expected, found.tolist(), strict=True))
        assert [known[gram] for gram in expected] == found.tolist()
        assert len(set(known.values())) == len(known)
    assert [n for n, _ in ngrams(hashes[:2], {1, 3})] == [1]


def test_documents_that_have_an_ngram_are_counted_once_each():
    """Against a search through sets of tuples of words."""
    rng = random.Random(2)
    pool = [f"w{i}" for i in range(12)]
    tests = [" ".join(rng.choices(pool, k=rng.randint(0, 12))) for _ in range(60)]
    documents = [" ".join(rng.choices(pool, k=rng.randint(0, 60))) for _ in range(80)]
    n = 4
    found = grams_of(*words_of(tests), n)
    index = Index.of([found])
    counts = np.bincount(index.documents(documents), minlength=len(index.hashes))
    searched = index.places(found.hashes)
    for number, test in enumerate(tests):
        size = min(n, len(test.split()))
        own = grams(test, size) if size else []
        expected = [sum(gram in grams(text, size) for text in documents) for gram in own]
        mine = slice(found.bounds[number], found.bounds[number + 1])
        assert counts[searched[mine]].tolist() == expected


def test_nothing_is_found_of_nothing():
    empty = grams_of(*words_of([]), 8)
    index = Index.of([empty])
    assert index.documents(["some text"]).tolist() == []
    assert Index.of([grams_of(*words_of(["a b"]), 2)]).documents([""]).tolist() == []
    assert empty.shares(np.zeros(0, bool)).tolist() == []


@pytest.mark.parametrize("text", ["...", " \n ", "\0"])
def test_a_text_without_words_has_none(text):
    assert words_of([text, "a"])[1].tolist() == [0, 1]
