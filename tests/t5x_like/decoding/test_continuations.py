"""Continuations that share contexts, beside each alone in a row of its own."""

import numpy as np
import pytest

from t5x_like.decoding.continuations import score_continuations
from t5x_like.decoding.scoring import score
from t5x_like.errors import UserError
from tests.models.families import WRITERS, V, drawn, gpt2

# Three contexts, one of them with a single continuation; one empty.
CONTEXTS = [[5, 9, 4, 17, 8, 3, 11], [6, 2], []]
OPTIONS = [[[7], [12, 3, 19], [7, 40]], [[33, 34, 35, 36, 37]], [[2, 3], [50]]]
PAIRS = [(c, o) for c, options in zip(CONTEXTS, OPTIONS, strict=True) for o in options]


def alone(model, params, pairs, **arguments):
    contexts, options = zip(*pairs, strict=True)
    return score(model, params, inputs=contexts, targets=options, batch_size=6, **arguments)


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.tokens, other.tokens, atol=1e-5)
        assert one.total == pytest.approx(other.total, abs=3e-5)


# One of each kind; the others take seconds each to compile.
QUICK = ("gpt2", "t5_1_1", "lstm", "nnlm", "transformer_xl")


@pytest.mark.parametrize(
    "family",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in WRITERS],
)
def test_a_shared_context_changes_no_log_likelihood(family):
    model = WRITERS[family]()
    params = drawn(model)
    pairs = PAIRS
    if model.batch_format == "encoder_decoder":
        pairs = [(context or [4], option) for context, option in PAIRS]
    found = score_continuations(model, params, pairs, batch_size=4)
    assert_equal(found, alone(model, params, pairs))


@pytest.fixture(scope="module")
def gpt():
    model = gpt2()  # of 32 positions
    return model, drawn(model)


def test_a_context_read_in_both_directions_is_shared_too(gpt):
    found = score_continuations(*gpt, PAIRS, bidirectional=True)
    assert_equal(found, alone(*gpt, PAIRS, bidirectional_prompt=True))
    causal = score_continuations(*gpt, PAIRS)
    assert abs(found[0].total - causal[0].total) > 0.1


def test_rows_that_fill_the_model_stand_beside_short_ones(gpt):
    """A short row of the batch has fewer tokens than the padding would give it positions."""
    rng = np.random.default_rng(0)
    pairs = [
        (rng.integers(1, V, n).tolist(), rng.integers(1, V, m).tolist())
        for n, m in [(31, 1), (22, 10), (0, 32), (3, 2)]
    ]
    assert_equal(score_continuations(*gpt, pairs), alone(*gpt, pairs))


def test_a_context_without_room_loses_its_beginning(gpt):
    """As lm-evaluation-harness cuts: the last max_length + 1 tokens of context and option count."""
    model, params = gpt
    context, option = list(range(1, 41)), [44, 45, 46]
    (found,) = score_continuations(model, params, [(context, option)])
    whole = [0, *context, *option][-33:]
    (expected,) = alone(model, params, [(whole[:-3], option)], bos_id=None)
    assert_equal([found], [expected])
    with pytest.raises(UserError, match=r"a continuation has 33 tokens, .* max_length is 32"):
        score_continuations(model, params, [([1], list(range(1, 34)))])


def test_a_model_that_reads_one_token_at_a_time_is_asked_for_each(bigram):
    model, table = bigram(0, V)
    pairs = PAIRS[:4]
    found = score_continuations(model, table, pairs, batch_size=3)
    assert_equal(found, alone(model, table, pairs))


def test_what_cannot_be_scored_is_said_in_one_line(gpt):
    with pytest.raises(UserError, match="continuation 2 of 2 has no token"):
        score_continuations(*gpt, [([1], [2]), ([1], [])])
    with pytest.raises(UserError, match="an empty context needs a bos_id"):
        score_continuations(*gpt, [([], [2])], bos_id=None)


def test_a_token_that_is_never_written_first_leaves_the_next_likeliest(bigram):
    """`best` is the likeliest after 2, 3, and again after `next`, where it may be written."""
    model, table = bigram(0, 8)
    best, second = np.argsort(-table[2, 3])[:2].tolist()
    table[3, second, best] = 9.0
    contexts = [[2, 3], [2, 3], [2, 3], [2]]
    pairs = list(zip(contexts, [[best], [second, best], [second, second], [7]], strict=True))
    plain = score_continuations(model, table, pairs, bos_id=None)
    assert [one.greedy for one in plain[:3]] == [True, False, False]
    found = score_continuations(model, table, pairs, bos_id=None, never_first=[best])
    assert [one.greedy for one in found[:3]] == [False, True, False]
    assert [one.total for one in found] == [one.total for one in plain]
