"""StructBERT's shuffled words and pairs of three kinds: Wang et al. 2020, section 2."""

import numpy as np
import pytest

from tasks import objectives
from tasks.errors import TaskError

CLS, SEP, MASK, STOP = 101, 102, 103, 104
MY, DOG, IS, HAIRY = range(110, 114)
SPEC = {
    "vocab_size": 1000, "extra_ids": 0, "eos_id": SEP, "unk_id": 100, "cls_id": CLS, "sep_id": SEP,
    "mask_id": MASK, "full_stop_ids": [STOP],
}  # fmt: skip


def bound(**settings):
    settings = {"short_probability": 0.0, **settings}
    return objectives.SentenceStructure(**settings).bind({"targets": SPEC})


class Order:
    """A generator of one order."""

    def __init__(self, *order):
        self.order = order

    def permutation(self, run):
        return run[[i - 1 for i in self.order]]


def test_my_hairy_dog_is():
    """The run (dog, is, hairy) in the order (3, 1, 2): what is restored is dog, is, hairy."""
    row = np.array([MY, DOG, IS, HAIRY], np.int32)
    made = {"inputs": row, "targets": row, "loss_weights": np.zeros(4, np.int32)}
    found = bound().mask.shuffle(made, [np.array([1, 2, 3])], Order(3, 1, 2))
    assert found["inputs"].tolist() == [MY, HAIRY, DOG, IS]
    assert found["targets"].tolist() == [MY, DOG, IS, HAIRY]
    assert found["loss_weights"].tolist() == [0, 1, 1, 1]


@pytest.mark.slow
def test_5_percent_of_the_tokens_stand_in_shuffled_runs_each_order_as_likely():
    shuffler, rng = bound().mask, np.random.default_rng(0)
    row = np.array([CLS, *range(200, 262), SEP, *range(300, 363), SEP], np.int32)
    shuffled, orders = 0, np.zeros(6)
    for _ in range(10_000):
        hidden = shuffler.mask(row, rng)["loss_weights"] == 1
        free = ~hidden & ~np.isin(row, [CLS, SEP])
        runs = shuffler.runs(free, rng)
        places = np.concatenate([*runs, np.zeros(0, int)])
        assert np.unique(places).size == places.size and free[places.astype(int)].all()
        for run in runs:
            assert (np.diff(run) == 1).all() and run.size == 3
        shuffled += places.size
    assert shuffled / (10_000 * row.size) == pytest.approx(0.05, rel=0.02)
    made = {"inputs": row, "targets": row, "loss_weights": np.zeros_like(row)}
    known = {order: i for i, order in enumerate(
        [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])}  # fmt: skip
    for _ in range(6000):
        found = shuffler.shuffle(made, [np.array([5, 6, 7])], rng)["inputs"][5:8] - row[5]
        orders[known[tuple(found.tolist())]] += 1
    # The right order too; the standard deviation is 29.
    assert np.abs(orders - 1000).max() < 4 * 29


def test_hidden_tokens_are_those_of_bert_and_shuffled_ones_count_beside_them():
    objective, rng = bound(), np.random.default_rng(0)
    row = np.array([CLS, *range(200, 326), SEP], np.int32)
    for _ in range(200):
        made = objective.mask(row, rng)
        counted = made["loss_weights"] == 1
        assert counted.sum() in (19 + 3 * 2, 19 + 3 * 3)
        np.testing.assert_array_equal(made["inputs"][~counted], row[~counted])
        assert sorted(made["targets"].tolist()) == sorted(row.tolist())


# -- Pairs -------------------------------------------------------------------------------------


def text(sentences, first=200):
    """Sentences of five tokens and a full stop, all tokens but the stops different."""
    tokens = [STOP] * (6 * sentences)
    for i in range(sentences):
        tokens[6 * i : 6 * i + 5] = range(first + 5 * i, first + 5 * i + 5)
    return np.array(tokens, np.int32)


@pytest.mark.slow
def test_a_third_each_follows_comes_before_or_is_of_another_place():
    objective, rng = bound(), np.random.default_rng(0)
    here, there = text(12), text(12, 600)
    whole = ",".join(map(str, here.tolist()))
    labels = []
    for i in range(10_000):
        first, second, label = objective.segments(
            {"targets": here, "other_targets": there}, 36, rng
        )
        labels.append(label)
        if i > 500:
            continue
        if label == 2:
            assert first[0] < 300 and second[0] >= 600
        else:
            together = [first, second] if label == 0 else [second, first]
            assert ",".join(map(str, np.concatenate(together).tolist())) in whole
    # The standard deviation is 0.005.
    np.testing.assert_allclose(np.bincount(labels) / 10_000, [1 / 3] * 3, atol=0.02)


def test_a_text_of_one_sentence_has_no_other_of_its_own():
    sentence = np.arange(200, 240, dtype=np.int32)
    for seed in range(20):
        made = bound()(
            {"targets": sentence, "other_targets": text(12, 600)}, np.random.default_rng(seed)
        )
        assert made["pair_label"] == 2


def test_the_row_is_two_segments_and_the_same_state_gives_the_same():
    objective = bound()
    example = {"targets": text(12), "other_targets": text(12, 600)}
    one, two = (objective(example, np.random.default_rng(5)) for _ in range(2))
    assert one.keys() == set(objective.writes)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
        assert one[name].dtype == np.int32
    row = one["targets"].tolist()
    middle = row.index(SEP)
    assert row[0] == CLS and row[-1] == SEP
    assert one["token_types"].tolist() == [0] * (middle + 1) + [1] * (len(row) - middle - 1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"swapped_share": 1.5}, "SentenceStructure.swapped_share is 1.5"),
        ({"shuffled_share": -0.1}, "SentenceStructure.shuffled_share is -0.1"),
        ({"shuffled_length": 1}, "SentenceStructure.shuffled_length is 1: 2 or more"),
    ],
)
def test_settings_out_of_range_are_named(settings, said):
    with pytest.raises(TaskError, match=said):
        objectives.SentenceStructure(**settings)
