"""Permutation language modelling: ranks, spans, rows of two segments, and the masks they make."""

import re

import numpy as np
import pytest

from tasks.errors import TaskError
from tasks.objectives import PermutationLM
from tasks.objectives.permutation_lm import ranks

CLS, SEP = 382, 381
SPECS = {"targets": {"vocab_size": 384, "extra_ids": 125, "eos_id": 1}}


def bound(length=512, **settings):
    return PermutationLM(**settings).bind(SPECS).of_length({"targets": length})


def seen(keys, own):
    """Which keys the query stream and the content stream see, rows of 0 and 1."""
    query = keys[None, :] < own[:, None]
    content = query | np.eye(len(keys), dtype=bool)
    return [["".join(str(int(x)) for x in row) for row in mask] for mask in (query, content)]


# -- Ranks -----------------------------------------------------------------------------------------


def test_the_released_codes_example_of_ranks_and_masks():
    """Six places, the third and fifth predicted, the last like [SEP]; 1 is what is forbidden."""
    order = np.array([3, 0, 5, 1, 4, 2])
    predicted = np.isin(np.arange(6), (2, 4))
    special = np.arange(6) == 5
    keys, own = ranks(order, predicted, special)
    assert keys.tolist() == [-1, -1, 5, -1, 4, 2]
    assert own.tolist() == [0, 0, 5, 0, 4, 3]
    flipped = str.maketrans("01", "10")
    query, content = ([row.translate(flipped) for row in rows] for rows in seen(keys, own))
    assert query == ["001011", "001011", "001000", "001011", "001010", "001010"]
    assert content == ["001011", "001011", "000000", "001011", "001000", "001010"]


@pytest.mark.parametrize(
    ("order", "content", "query"),
    [
        ("3241", "1111 0110 0010 0111", "0111 0010 0000 0110"),
        ("1423", "1000 1101 1111 1001", "0000 1001 1101 1000"),
        ("2431", "1111 0100 0111 0101", "0111 0000 0101 0100"),
        ("4312", "1011 1111 0011 0001", "0011 1011 0001 0000"),
    ],
)
def test_the_papers_orders_of_four_tokens(order, content, query):
    """Figure 1 of Yang et al. 2019, in which all four are predicted."""
    places = np.array([order.index(str(i)) for i in range(1, 5)])
    keys, own = ranks(places, np.ones(4, bool), np.zeros(4, bool))
    assert seen(keys, own) == [query.split(), content.split()]


def test_new_york_is_a_city():
    """Section 2.6: in the order is, a, city, New, York only the second prediction sees New."""
    places = np.array([3, 4, 0, 1, 2])
    predicted = np.array([1, 1, 0, 0, 0], bool)
    query, _ = seen(*ranks(places, predicted, np.zeros(5, bool)))
    assert query[:2] == ["00111", "10111"]


# -- Rows ------------------------------------------------------------------------------------------


def text(size, first=100):
    return np.arange(size, dtype=np.int32) % 200 + first


def rows_of(objective, count, size=509, seed=0):
    example = {"targets": text(size), "other_targets": text(size, 20)}
    return [objective(example, np.random.default_rng((seed, i))) for i in range(count)]


def test_a_row_is_two_segments_and_the_end():
    row = rows_of(bound(random_share=0.0), 1)[0]
    tokens, types = row["targets"], row["token_types"]
    assert tokens.size == 512
    assert tokens[-1] == CLS and tokens[-2] == SEP and (tokens == SEP).sum() == 2
    middle = int(np.argmax(tokens == SEP))
    # The first half of the row, which memory keeps, is of the first segment.
    assert middle >= 256
    assert types.tolist() == [0] * (middle + 1) + [1] * (510 - middle) + [2]
    np.testing.assert_array_equal(np.delete(tokens, [middle, 510, 511]), text(509))
    assert row["perm_key_rank"].dtype == row["perm_own_rank"].dtype == np.int32


def test_half_of_the_second_segments_are_of_another_place():
    rows = rows_of(bound(), 400)
    found = [bool((row["targets"][row["token_types"] == 1] < 100).any()) for row in rows]
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_85_of_512_tokens_are_predicted_and_never_a_special_one():
    rows = rows_of(bound(), 100)
    counts = [row["loss_weights"].sum() for row in rows]
    # Of the 85 that are chosen, a few may fall on [SEP] and [CLS].
    assert max(counts) == 85 and np.mean(counts) > 84
    for row in rows:
        assert not np.isin(row["targets"][row["loss_weights"] == 1], (CLS, SEP)).any()


def test_each_half_has_an_order_of_its_own_and_the_first_does_not_see_the_second():
    row = rows_of(bound(), 1)[0]
    keys, own = row["perm_key_rank"], row["perm_own_rank"]
    sees = keys[None, :] < own[:, None]
    assert not sees[:256, 256:].any()
    assert sees[256:, :256].all()
    for half in (slice(0, 256), slice(256, None)):
        predicted = row["loss_weights"][half] == 1
        special = np.isin(row["targets"][half], (CLS, SEP))
        inside = sees[half, half]
        others = ~predicted & ~special
        # Nothing that is predicted is seen by what is not, and all see the rest.
        assert inside[:, others].all()
        assert not inside[np.ix_(others, predicted)].any()
        assert not inside[predicted, predicted].any()
        assert np.diag(inside)[special].all()
        # An order: of two that are predicted one sees the other.
        both = inside[np.ix_(predicted, predicted)]
        assert (both ^ both.T)[~np.eye(len(both), dtype=bool)].all()


def test_spans_are_as_long_as_the_released_codes():
    """1 to 5 with probabilities proportional to 1/k: 2.1898 in the mean, .438 for one token."""
    objective = bound(two_segments=False)
    rng = np.random.default_rng(1)
    lengths = []
    for _ in range(100):
        chosen = objective._spans(4096, 500, rng)
        edges = np.diff(np.concatenate([[0], chosen, [0]]).astype(int))
        lengths += (np.nonzero(edges == -1)[0] - np.nonzero(edges == 1)[0]).tolist()
    # Neighbouring spans look like one: a few are longer than five.
    lengths = np.array([n for n in lengths if n <= 5])
    assert lengths.mean() == pytest.approx(2.1898, rel=0.05)
    assert np.mean(lengths == 1) == pytest.approx(0.438, abs=0.02)


def test_rows_that_go_on_are_plain_text():
    objective = bound(64, two_segments=False)
    assert not objective.draws_other and objective.chunk_length({"targets": 64}) == 64
    row = objective({"targets": text(64)}, np.random.default_rng(0))
    np.testing.assert_array_equal(row["targets"], text(64))
    assert not row["token_types"].any() and row["loss_weights"].sum() == 10


def test_the_same_draw_gives_the_same_and_another_one_another():
    one, same, other = (rows_of(bound(), 1, seed=seed)[0] for seed in (3, 3, 4))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["perm_key_rank"], other["perm_key_rank"])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_short_pieces_make_rows(size):
    row = bound(size + 3)(
        {"targets": text(size), "other_targets": text(size)}, np.random.default_rng(0)
    )
    assert row["targets"].size == size + 3
    assert len({x.size for x in row.values()}) == 1


def test_mistakes_are_told_in_one_line():
    for settings, said in (
        ({"share_of": 1}, "share_of is 1"),
        ({"max_span": 0}, "max_span is 0"),
        ({"random_share": 1.5}, "random_share is 1.5"),
    ):
        with pytest.raises(TaskError, match=re.escape(said)):
            PermutationLM(**settings)
    with pytest.raises(TaskError, match="before and after segments"):
        PermutationLM().bind({"targets": {"vocab_size": 9, "extra_ids": 0, "eos_id": 1}})
    with pytest.raises(TaskError, match=r"TASK_FEATURE_LENGTHS\['targets'\] is 4"):
        bound(4).chunk_length({"targets": 4})
