"""Pairs of words, counted by hand, and against counting one by one in fractions."""

import collections
import dataclasses
import os
from fractions import Fraction

import numpy as np
import pytest

from t5x_like.data import cooccurrence
from t5x_like.data.cooccurrence import Cells, PairCounts, count_pairs, pair_counts
from t5x_like.errors import UserError

EOS, UNK, A, B, C = 1, 2, 3, 4, 5


@dataclasses.dataclass(frozen=True)
class Counting:
    window: int = 2
    weighting: str = "harmonic"
    symmetric: bool = True
    vocab_size: int = 6
    eos_id: int = EOS
    no_words: tuple = (0, EOS, UNK)


class Stream:
    """Documents in memory."""

    def __init__(self, *documents):
        self._ids = np.array([i for document in documents for i in (*document, EOS)], np.int32)
        self.reads = 0

    def __len__(self):
        return self._ids.size

    def read(self, start, stop):
        self.reads += 1
        return self._ids[start:stop]


def cells(stream, counting):
    found = count_pairs(stream, counting).matrix().tocoo()
    return {(int(i), int(j)): x for i, j, x in zip(found.row, found.col, found.data, strict=True)}


def test_a_b_c_b():
    # The second b is at distance 3 from a; each b is met by the other at distance 2.
    found = cells(Stream([A, B, C, B]), Counting())
    assert found == {
        (A, B): 1, (B, A): 1, (A, C): 0.5, (C, A): 0.5, (B, C): 2, (C, B): 2, (B, B): 1,
    }  # fmt: skip


def test_words_before_alone_a_ramp_and_no_weights():
    stream = Stream([A, B, C])
    assert cells(stream, Counting(symmetric=False)) == {(B, A): 1, (C, B): 1, (C, A): 0.5}
    ramp = Counting(window=4, weighting="ramp", symmetric=False)
    assert cells(stream, ramp) == {(B, A): 4, (C, B): 4, (C, A): 3}
    assert cells(stream, Counting(weighting="flat", symmetric=False))[C, A] == 1


def test_no_window_passes_the_end_of_a_document_and_what_is_no_word_is_not_counted():
    assert cells(Stream([A], [B], [A, UNK, B, 0, UNK, C]), Counting(window=1)) == {
        (A, B): 1, (B, A): 1, (B, C): 1, (C, B): 1,
    }  # fmt: skip


def test_the_counts_are_those_of_gloves_own_program():
    """Printed by `cooccur -window-size 3` of the released code, for two lines of text.

    "the cat" is its "cat the": of so small a text it counts the very first pair twice.
    """
    words = ["the", "cat", "sat", "on", "mat", "ran", "to"]
    lines = "the cat sat on the mat", "a cat ran to the cat"  # "a" is not in the vocabulary
    ids = [[3 + words.index(w) if w in words else UNK for w in line.split()] for line in lines]
    found = cells(Stream(*ids), Counting(window=3, vocab_size=10))
    printed = {
        "cat on": 0.5, "cat ran": 1.333333, "cat sat": 1, "cat to": 1, "on mat": 0.5, "ran to": 1,
        "sat mat": 0.333333, "sat on": 1, "the cat": 2.666667, "the mat": 1, "the on": 1.333333,
        "the ran": 0.5, "the sat": 1, "the to": 1,
    }  # fmt: skip
    pairs = [[3 + words.index(w) for w in pair.split()] for pair in printed]
    np.testing.assert_allclose([found[i, j] for i, j in pairs], list(printed.values()), atol=1e-6)
    np.testing.assert_allclose([found[j, i] for i, j in pairs], list(printed.values()), atol=1e-6)
    assert len(found) == 2 * len(printed)


def reference(ids, counting):
    """As GloVe's `cooccur.c` walks: each word meets those before it, the nearest first."""
    found = collections.defaultdict(Fraction)
    before = []
    for i in ids.tolist():
        if i == EOS:
            before = []
        elif i not in counting.no_words:
            for distance, other in enumerate(before[::-1][: counting.window], 1):
                found[i, other] += Fraction(1, distance)
                if counting.symmetric:
                    found[other, i] += Fraction(1, distance)
            before.append(i)
    return found


@pytest.mark.parametrize("at_once", [7, 10**6])
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_count_is_exact_wherever_the_text_is_divided(monkeypatch, at_once, symmetric):
    monkeypatch.setattr(cooccurrence, "_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    counting = Counting(window=10, symmetric=symmetric, vocab_size=12)
    stream = Stream(*[rng.integers(2, 12, rng.integers(1, 40)).tolist() for _ in range(20)])
    found, expected = cells(stream, counting), reference(stream._ids, counting)
    assert found == {pair: float(count) for pair, count in expected.items()}


def test_a_split_is_counted_once(tmp_path):
    stats, completed = tmp_path / "stats.train.json", tmp_path / "COMPLETED"
    stats.write_text("{}")
    completed.write_text("")
    stream = Stream([A, B, C, B])
    first = pair_counts(tmp_path, "train", stream, Counting())
    assert stream.reads == 1
    os.utime(completed, (0, 0))  # as every start does
    again = pair_counts(tmp_path, "train", stream, Counting())
    assert stream.reads == 1
    assert (first.matrix() != again.matrix()).nnz == 0
    pair_counts(tmp_path, "train", stream, Counting(window=1))
    assert stream.reads == 2
    # Another cache in its place is counted anew.
    stats.write_text('{"examples": 1}')
    pair_counts(tmp_path, "train", stream, Counting())
    assert stream.reads == 3


def test_text_without_pairs_is_told_in_a_line(tmp_path):
    (tmp_path / "stats.train.json").write_text("{}")
    with pytest.raises(UserError, match="no two words of split 'train'"):
        pair_counts(tmp_path, "train", Stream([A], [B]), Counting())


def test_examples_are_all_pairs_once_in_an_order_of_the_seed():
    counts = PairCounts(np.arange(7) * 10 + 3, np.arange(1, 8), 2, 10)
    plain, drawn, again = (Cells(counts, 3, seed) for seed in (None, 1, 1))
    assert [plain[i]["targets"].tolist() for i in range(3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert plain[0]["contexts"].tolist() == [3, 3, 3]
    assert plain[0]["cooccurrences"].tolist() == [0.5, 1.0, 1.5]
    assert plain[0]["cooccurrences"].dtype == np.float32
    order = np.concatenate([drawn[i]["targets"] for i in range(3)]).tolist()
    assert sorted(order) == list(range(7)) and order != list(range(7))
    # The next epoch has the same examples.
    assert drawn[3]["targets"].tolist() == again[0]["targets"].tolist() == order[:3]
