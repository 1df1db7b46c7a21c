"""UniLM's rows of four kinds, and its pairs of texts (Dong et al. 2019, sections 2.3 and 2.4)."""

import collections

import numpy as np
import pytest

from tasks import objectives
from tasks.errors import TaskError

PAD, UNK, CLS, SEP, MASK, STOP = 0, 100, 101, 102, 103, 104
SPEC = {
    "vocab_size": 1000, "extra_ids": 0, "eos_id": SEP, "unk_id": UNK, "cls_id": CLS, "sep_id": SEP,
    "mask_id": MASK, "full_stop_ids": [STOP], "start_id": CLS,
}  # fmt: skip
SPECS = {"inputs": SPEC, "targets": SPEC}

# Sentences of 9 tokens and a full stop, of which each token says the place.
TEXT = np.array([STOP if i % 10 == 9 else 200 + i for i in range(400)], np.int32)
OTHER = np.where(TEXT == STOP, STOP, TEXT + 400).astype(np.int32)


def bound(**settings):
    return objectives.UnifiedLM(**settings).bind(SPECS)


def made(objective, seed, length=58):
    example = {"targets": TEXT[: 2 * length], "other_targets": OTHER[: 2 * length]}
    return objective(example, np.random.default_rng(seed))


@pytest.mark.slow
def test_kinds_are_drawn_two_to_two_to_one_to_one():
    """In both directions, as pairs, from the left, from the right."""
    objective = bound()
    rng = np.random.default_rng(0)
    example = {"targets": TEXT[:40], "other_targets": OTHER[:40]}
    counts = collections.Counter(int(objective(example, rng)["mask_kind"]) for _ in range(10_000))
    for kind, share in enumerate((1 / 3, 1 / 6, 1 / 6, 1 / 3)):
        assert counts[kind] / 10_000 == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("kind", range(4))
def test_the_rows_of_each_kind(kind):
    objective = bound(kind_weights=tuple(float(i == kind) for i in range(4)), short_probability=0.0)
    labels = set()
    for seed in range(30):
        row = made(objective, seed)
        targets, types = row["targets"], row["token_types"]
        assert row["mask_kind"] == kind and targets.size <= 58 + 3
        assert targets[0] == CLS and targets[-1] == SEP
        (ends,) = np.nonzero(targets == SEP)
        assert ends.size == (2 if kind in (0, 3) else 1)
        # The first segment's end is its own.
        assert (types == (np.arange(types.size) > ends[0])).all()
        assert row["prefix_length"] == (ends[0] + 1 if kind == 3 else 0)
        assert ("pair_label" in row) == (kind == 0)
        labels.add(int(row.get("pair_label", -1)))
        text = targets[(targets != SEP) & (targets != CLS) & (targets != STOP)]
        if kind:
            # What follows follows in the text too.
            assert (np.diff(text) > 0).all() and text.max() < 600
        assert targets.size > 40
    assert labels == ({0, 1} if kind == 0 else {-1})


def test_special_tokens_are_never_hidden_and_the_number_is_exact():
    objective = bound()
    for seed in range(40):
        row = made(objective, seed)
        hidden = row["targets"][row["loss_weights"] == 1]
        assert not np.isin(hidden, [CLS, SEP]).any()
        assert hidden.size == max(1, round(0.15 * row["targets"].size))


def test_runs_are_of_one_token_in_80_percent_and_of_two_and_three_in_the_rest():
    mask = bound().mask
    rng = np.random.default_rng(0)
    counts = collections.Counter(mask.run_length(9, rng) for _ in range(10_000))
    for length, share in ((1, 0.8), (2, 0.1), (3, 0.1)):
        assert counts[length] / 10_000 == pytest.approx(share, abs=0.02)
    assert {mask.run_length(1, rng) for _ in range(20)} == {1}


def test_the_same_seed_makes_the_same_row():
    objective = bound()
    one, again, other = made(objective, 5), made(objective, 5), made(objective, 6)
    assert one.keys() == again.keys()
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert not np.array_equal(one["inputs"], other["inputs"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind_weights": (0.5, 0.5)}, "UnifiedLM.kind_weights is .* four numbers"),
        ({"kind_weights": (1, -1, 1, 1)}, "none of them below 0"),
        ({"run_weights": (0.5, 0.5)}, r"UnifiedLM.run_weights is .* 3 numbers above 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, said):
    with pytest.raises(TaskError, match=said):
        objectives.UnifiedLM(**settings)


# -- Pairs -----------------------------------------------------------------------------------------


def pair(seed, length=None, **settings):
    objective = objectives.HiddenTargets(**settings).bind(SPECS)
    if length is not None:
        objective = objective.of_length({"inputs": 9, "targets": length})
    example = {"inputs": TEXT[:5], "targets": TEXT[20:29]}
    return objective(example, np.random.default_rng(seed))


def test_seven_of_ten_target_tokens_are_hidden_and_the_inputs_stay():
    found = pair(0, mask_share=1.0, random_share=0.0)
    assert found["inputs"].tolist() == TEXT[:5].tolist()
    assert found["targets"].tolist() == TEXT[20:29].tolist()
    assert found["hidden_targets"].size == found["loss_weights"].size == 10
    assert found["loss_weights"].sum() == 7 == (found["hidden_targets"] == MASK).sum()
    whole = [*TEXT[20:29], SEP]
    kept = found["loss_weights"] == 0
    assert found["hidden_targets"][kept].tolist() == np.array(whole)[kept].tolist()


def test_the_end_is_hidden_as_often_as_any_token():
    rates = np.mean([pair(seed)["loss_weights"] for seed in range(2000)], axis=0)
    np.testing.assert_allclose(rates, 0.7, atol=0.04)


def test_long_targets_lose_their_end_before_anything_is_drawn():
    found = pair(0, length=6)
    assert found["targets"].tolist() == TEXT[20:25].tolist()
    assert found["hidden_targets"].size == found["loss_weights"].size == 6
    assert found["loss_weights"].sum() == round(0.7 * 6)
