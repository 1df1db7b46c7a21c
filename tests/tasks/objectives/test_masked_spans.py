"""SpanBERT's spans: Joshi et al. 2020, section 3, and the released code."""

import numpy as np
import pytest

from tasks import objectives
from tasks.errors import TaskError
from tasks.objectives.masked_spans import span_lengths

CLS, SEP, MASK = 101, 102, 103
SPEC = {
    "vocab_size": 1000, "extra_ids": 0, "eos_id": SEP, "unk_id": 100, "cls_id": CLS, "sep_id": SEP,
    "mask_id": MASK, "continuation_ids": list(range(900, 1000)),
}  # fmt: skip


def bound(**settings):
    return objectives.MaskedSpans(**{"whole_words": False, **settings}).bind({"targets": SPEC})


def row_of(tokens):
    return np.array([CLS, *tokens, SEP], np.int32)


def test_lengths_are_geometric_cut_off_at_ten_and_scaled():
    """The mean is the paper's 3.8; what was cut off is spread over all, not put on the last."""
    p = span_lengths(0.2, 10)
    np.testing.assert_allclose(
        p,
        [.224058, .179246, .143397, .114718, .091774, .073419, .058735, .046988, .037591, .030073],
        atol=5e-7,
    )  # fmt: skip
    assert (p * np.arange(1, 11)).sum() == pytest.approx(3.7971, abs=5e-5)
    objective, rng = bound(), np.random.default_rng(0)
    drawn = np.array([objective.length(rng) for _ in range(10_000)])
    assert drawn.mean() == pytest.approx(3.7971, rel=0.02)
    np.testing.assert_allclose(np.bincount(drawn, minlength=11)[1:] / 10_000, p, atol=0.015)


def test_an_american_football_game():
    """Super Bowl 50 was [an American football game] to determine the champion.

    With [CLS] in front the span is at 5 to 8, between "was" at 4 and "to" at 9; football is its
    third token.
    """
    objective = bound(mask_share=1.0, random_share=0.0)
    row = row_of(range(201, 213))
    made = objective.hide(row, [(5, 8)], np.random.default_rng(0))
    assert made["inputs"].tolist() == [CLS, 201, 202, 203, 204, *[MASK] * 4, *range(209, 213), SEP]
    assert made["targets"].tolist() == row.tolist()
    hidden = [0] * 5 + [1] * 4 + [0] * 5
    assert made["loss_weights"].tolist() == hidden
    assert made["span_left"].tolist() == [4 * x for x in hidden]
    assert made["span_right"].tolist() == [9 * x for x in hidden]
    assert made["span_offset"][5:9].tolist() == [1, 2, 3, 4] and made["span_offset"].sum() == 10
    assert row[made["span_left"][7]] == 204 and row[made["span_right"][7]] == 209


def test_every_hidden_token_is_in_a_span_whose_boundaries_are_not_hidden():
    objective = bound()
    row = row_of(range(200, 326))
    for seed in range(300):
        made = objective({"targets": row[1:-1]}, np.random.default_rng(seed))
        hidden = made["loss_weights"] == 1
        assert hidden.sum() == 20  # 15% of 128, rounded up
        assert not hidden[0] and not hidden[-1]
        (places,) = np.nonzero(hidden)
        left, right, offset = (made[f"span_{x}"] for x in ("left", "right", "offset"))
        assert not hidden[left[places]].any() and not hidden[right[places]].any()
        np.testing.assert_array_equal(places - left[places], offset[places])
        assert (right[places] > places).all()
        for name in ("span_left", "span_right", "span_offset"):
            assert not made[name][~hidden].any()
        # What becomes of a span, becomes of all of it.
        for first in places[offset[places] == 1]:
            span = slice(first, right[first])
            shown, masked = made["inputs"][span], made["inputs"][span] == MASK
            assert masked.all() or (not masked.any())
            same = shown == row[span]
            assert masked.all() or same.all() or same.mean() < 0.7
        np.testing.assert_array_equal(made["inputs"][~hidden], row[~hidden])
        assert made["token_types"].tolist() == [0] * 128


def test_80_10_and_10_percent_of_the_spans_are_masks_random_and_as_they_were():
    objective, rng = bound(), np.random.default_rng(0)
    span = np.arange(500, 505, dtype=np.int32)
    shown = np.array([objective.mask.shown(span, rng) for _ in range(10_000)])
    masked = (shown == MASK).all(1)
    same = (shown == span).all(1)
    # Standard deviations are 0.004 and 0.003.
    assert masked.mean() == pytest.approx(0.8, abs=0.02)
    assert same.mean() == pytest.approx(0.1, abs=0.015)
    random = shown[~masked & ~same]
    assert random.min() < 20 and random.max() > 980
    assert (random[:, 0] != random[:, 1]).mean() > 0.99


def test_spans_are_of_whole_words_and_end_where_the_number_does():
    """Words of three pieces: of 20 hidden tokens six words are, and what is left is too little."""
    objective = bound(whole_words=True)
    words = [x for i in range(40) for x in (200 + i, 900 + i, 940 + i)]
    row = row_of(words)
    for seed in range(100):
        spans = objective.spans(row, np.random.default_rng(seed))
        assert sum(last - first + 1 for first, last in spans) == 18
        for first, last in spans:
            assert (first - 1) % 3 == 0 and last % 3 == 0
            assert last + 1 not in [other for other, _ in spans]


def test_no_span_reaches_into_the_next_text():
    objective = bound(rate=0.9)
    row = row_of([*range(200, 210), SEP, *range(300, 310)])
    spans = objective.spans(row, np.random.default_rng(0))
    assert spans == [(1, 10), (12, 21)]
    # A row with nothing to hide.
    assert objective.spans(row_of([]), np.random.default_rng(0)) == []


def test_each_token_is_hidden_as_often_as_any_other_but_near_the_end():
    """A span that begins near the row's end is shorter, and the first token only begins spans."""
    objective = bound()
    row, counts = row_of(range(200, 326)), np.zeros(128)
    for seed in range(3000):
        counts += objective({"targets": row[1:-1]}, np.random.default_rng(seed))["loss_weights"]
    middle = counts[20:-1] / 3000
    assert middle.mean() == pytest.approx(20 / 126, rel=0.05)
    assert middle.std() < 0.15 * middle.mean()


def test_the_same_state_of_the_generator_gives_the_same_row():
    objective = bound()
    example = {"targets": np.arange(200, 326, dtype=np.int32)}
    one, two = (objective(example, np.random.default_rng(5)) for _ in range(2))
    assert one.keys() == set(objective.writes) == set(objectives.MaskedSpans.writes)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
        assert one[name].dtype == np.int32 and one[name].shape == (128,)
    assert objective.chunk_length({"targets": 128}) == 126


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"success": 0.0}, r"MaskedSpans.success is 0.0"),
        ({"max_words": 0}, r"MaskedSpans.max_words is 0"),
        ({"max_ngram": 3}, "MaskedSpans has no max_ngram"),
        ({"hides_special": True, "whole_words": False}, "no hides_special"),
    ],
)
def test_settings_that_make_no_spans_are_refused(settings, said):
    with pytest.raises(TaskError, match=said):
        objectives.MaskedSpans(**settings)
