"""Which task the examples of a batch are of."""

import itertools

import numpy as np
import pytest

from t5x_like import data
from t5x_like.data.interleaving import Interleaving, StreamMixing
from t5x_like.data.mixing import constant
from t5x_like.errors import UserError

LENGTHS = {"targets": 128}


def shares(names, rates, sizes, mixing, tokens=()):
    return mixing.weights(names, rates, sizes, lambda: tokens)


def test_rates_of_mixing():
    names, rates, sizes = ["a", "b"], [1.0, 3.0], [100, 10_000]
    assert shares(names, rates, sizes, data.GivenRates()) == [0.25, 0.75]
    # 1^(1/2) to 3^(1/2): 1 / (1 + 1.7320508) = .3660254.
    halved = shares(names, rates, sizes, data.GivenRates(temperature=2.0))
    assert halved == pytest.approx([0.3660254, 0.6339746])
    # min(100, 400) to min(10000, 400).
    capped = shares(names, rates, sizes, data.ExamplesProportional(maximum=400))
    assert capped == pytest.approx([0.2, 0.8])
    assert not data.ExamplesProportional(maximum=400).note(names, sizes)
    few = data.ExamplesProportional(maximum=100)
    assert shares(names, rates, sizes, few) == [0.5, 0.5]
    said = (
        "maximum is 100, and no task has fewer examples (the smallest 100): all are drawn equally"
    )
    assert said in few.note(names, sizes) and not few.note(names[:1], sizes[:1])
    # 300 in place of 100: 300 to min(10000, 400) is 3 to 4.
    replaced = data.ExamplesProportional(maximum=400, sizes={"a": 300})
    assert shares(names, rates, sizes, replaced) == pytest.approx([3 / 7, 4 / 7])
    with pytest.raises(UserError, match=r"sizes has 'c', which is none .*: a, b"):
        shares(names, rates, sizes, data.ExamplesProportional(sizes={"c": 1}))
    with pytest.raises(UserError, match="rate of 'a' is 0"):
        shares(names, [0, 1.0], sizes, data.GivenRates())


def test_shares_of_tokens_become_shares_of_examples_by_mean_lengths():
    # Half of the tokens each: examples of 5 and of 20 tokens come as 4 to 1.
    found = shares(["a", "b"], [1.0, 1.0], [9, 9], data.TokenShares(), [5.0, 20.0])
    assert found == pytest.approx([0.8, 0.2])
    # A quarter to three: 1 / 5 to 3 / 20 is 4 to 3.
    found = shares(["a", "b"], [1.0, 3.0], [9, 9], data.TokenShares(), [5.0, 20.0])
    assert found == pytest.approx([4 / 7, 3 / 7])
    # 100 to 400 examples, as many tokens: 100 / 5 to 400 / 20 is 1 to 1.
    proportional = data.TokenShares(data.ExamplesProportional())
    assert shares("ab", [1, 1], [100, 400], proportional, [5.0, 20.0]) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.25, 0.75], [0.001, 0.9, 0.099], [0.1] * 10])
def test_any_examples_in_a_row_have_their_shares(weights):
    order = Interleaving(weights)
    tasks = np.array([order.at(place)[0] for place in range(4000)])
    for task, weight in enumerate(weights):
        drawn = np.concatenate([[0], np.cumsum(tasks == task)])
        for length in (7, 100, 1234):
            windows = drawn[length:] - drawn[:-length]
            assert np.abs(windows - weight * length).max() < 4


def test_streams_read_every_example_of_every_task_once_between_them():
    mixing = StreamMixing(constant([0.25, 0.75]), streams=3)
    first, second = set(), set()
    for stream in range(3):
        places = [mixing.at(stream, ordinal) for ordinal in range(400)]
        assert places == [mixing.at(stream, ordinal) for ordinal in range(400)]
        for task, index in places:
            assert index % 3 == stream
            seen = (first, second)[task]
            assert index not in seen
            seen.add(index)
        # In order, with nothing left out.
        for task in range(2):
            mine = [index // 3 for member, index in places if member == task]
            assert mine == list(range(len(mine)))


def write_constant(kit, cache_dir, name, tokens, token):
    task = kit.task(name, ("targets",))
    ids = np.full(tokens - 1, token, np.int32)  # and EOS
    kit.write(task, cache_dir, [{"targets": ids}] * 50)
    return task


def drawn(kit, cache_dir, rates, *, examples=5000, streams=None, processes=1, **settings):
    """How many examples of 2 and of 40 tokens are in the first batches."""
    members = [
        (write_constant(kit, cache_dir, "short", 2, 7), rates[0]),
        (write_constant(kit, cache_dir, "long", 40, 8), rates[1]),
    ]
    config = data.DatasetConfig(
        task=kit.mixture("both", members),
        task_feature_lengths=LENGTHS,
        cache_dir=cache_dir,
        prefetch=0,
        virtual_streams=streams,
        **settings,
    )
    opened = [
        data.open_dataset(
            config, batch_format="causal_language_model", shard_index=i, shard_count=processes
        )
        for i in range(processes)
    ]
    short = long = 0
    for batches in itertools.cycle(opened):
        tokens = next(batches)["decoder_target_tokens"]
        short, long = short + (tokens == 7).sum(), long + (tokens == 8).sum() / 39
        if short + long >= examples and batches is opened[-1]:
            return short, long
    raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rates", "batch_size", "streams", "processes"),
    [
        ((1.0, 1.0), 5, None, 1),
        ((1.0, 3.0), 16, None, 1),
        ((1.0, 1.0), 128, None, 1),
        ((1.0, 3.0), 128, 4, 2),
        ((1.0, 1.0), 32, 1, 1),
    ],
)
def test_packed_examples_are_drawn_at_their_rates(
    kit, tmp_path, rates, batch_size, streams, processes
):
    short, long = drawn(
        kit, tmp_path, rates, batch_size=batch_size, streams=streams, processes=processes
    )
    assert short / (short + long) == pytest.approx(rates[0] / sum(rates), abs=0.02)


@pytest.mark.slow
def test_rates_can_count_tokens(kit, tmp_path):
    short, long = drawn(kit, tmp_path, (1.0, 3.0), batch_size=32, mixing=data.TokenShares())
    # 2 tokens against 40: a quarter of the tokens are the short task's.
    assert 2 * short / (2 * short + 40 * long) == pytest.approx(0.25, abs=0.02)


def test_one_batch_has_examples_of_all_tasks(kit, tmp_path):
    """Streams that all began with the same task would make batches of one task."""
    members = [
        (write_constant(kit, tmp_path, name, 120, token), 1.0)
        for name, token in (("a", 7), ("b", 8))
    ]
    config = data.DatasetConfig(
        kit.mixture("both", members), LENGTHS, tmp_path, batch_size=16, prefetch=0
    )
    batches = data.open_dataset(config, batch_format="causal_language_model")
    for _ in range(5):
        first = next(batches)["decoder_target_tokens"][:, 0]
        assert (first == 7).sum() == (first == 8).sum() == 8


def test_a_position_of_another_order_of_examples_is_refused_with_the_way_on(kit, tmp_path, pairs):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs)
    lengths = {"inputs": 32, "targets": 16}
    config = data.DatasetConfig(task, lengths, tmp_path, batch_size=8, prefetch=0)
    packed = data.open_dataset(config, batch_format="encoder_decoder")
    earlier = {**packed.get_state(), "data": "0" * 64}
    del earlier["order"]
    with pytest.raises(UserError, match=r"earlier version.*--allow_config_change"):
        packed.set_state(earlier)
