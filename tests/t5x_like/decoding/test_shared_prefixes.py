"""Which beginnings of texts are read once, beside the best of all choices, and what comes of it."""

import itertools

import numpy as np
import pytest

from t5x_like.decoding.continuations import score_continuations
from t5x_like.decoding.shared_prefixes import shared_prefixes
from tests.models.families import V, drawn, gpt2
from tests.t5x_like.decoding.test_continuations import alone, assert_equal


def tokens_read(texts, shared, batch_size):
    """Each beginning once for every batch of texts that share it, and what is left of each."""
    beginnings = [tuple(text[:n]) for text, n in zip(texts, shared, strict=True)]
    once = sum(
        len(beginning) * -(-beginnings.count(beginning) // batch_size)
        for beginning in set(beginnings)
    )
    return once + sum(len(text) - n for text, n in zip(texts, shared, strict=True))


def test_four_options_share_their_question():
    question = [5, 6, 7]
    texts = [[*question, *option] for option in ([1], [2, 1], [3], [])]
    assert shared_prefixes(texts, [3] * 4, 8).tolist() == [3] * 4


def test_short_questions_with_one_answer_share_their_examples():
    """Of 6 + 2 tokens each: 6 + 4 are read in place of 16; with 6 more of their own, it is 18."""
    examples = [9] * 6
    texts = [[*examples, 1, 2], [*examples, 3, 4]]
    assert shared_prefixes(texts, [8, 8], 8).tolist() == [6, 6]
    # Two options each, read after the question: 2 x (8 + 2 x 1) against 6 + 4 x 3.
    texts = [[*examples, a, a, b] for a in (1, 2) for b in (3, 4)]
    assert shared_prefixes(texts, [8] * 4, 8).tolist() == [6] * 4
    texts = [[*[9] * 2, *[a] * 6, b] for a in (1, 2) for b in (3, 4)]
    assert shared_prefixes(texts, [8] * 4, 8).tolist() == [8] * 4


@pytest.mark.parametrize("seed", range(30))
def test_hardly_another_choice_reads_fewer_tokens(seed):
    rng = np.random.default_rng(seed)
    texts = [rng.integers(1, 3, rng.integers(1, 6)).tolist() for _ in range(5)]
    texts = [list(text) for text in {tuple(text) for text in texts}]
    most = [int(rng.integers(1, len(text) + 1)) for text in texts]
    batch_size = int(rng.integers(1, 4))
    found = shared_prefixes(texts, most, batch_size)
    assert all(1 <= n <= m for n, m in zip(found, most, strict=True))
    read = tokens_read(texts, found, batch_size)
    choices = itertools.product(*(range(1, m + 1) for m in most))
    best = min(tokens_read(texts, choice, batch_size) for choice in choices)
    # A branch that shares with its neighbours, and its own branches not, is not among the choices.
    assert read <= best + 1
    assert read <= sum(map(len, texts))


def test_what_contexts_share_changes_no_log_likelihood():
    """Examples that all questions have, and letters for answers: rows that differ in the last."""
    model = gpt2()
    params = drawn(model)
    rng = np.random.default_rng(0)
    examples = rng.integers(1, V, 14).tolist()
    pairs = [
        ([*examples, *rng.integers(1, V, n).tolist()], [answer])
        for n in (3, 5, 4)
        for answer in (7, 8, 9)
    ]
    pairs += [(examples, [5, 6, 7]), (examples[:9], [4, 4])]
    seen = []
    found = score_continuations(model, params, pairs, batch_size=4, progress=seen.append)
    assert_equal(found, alone(model, params, pairs))
    assert sum(seen) == len(pairs)
    likeliest = [one.greedy for one in found]
    assert not all(likeliest)
