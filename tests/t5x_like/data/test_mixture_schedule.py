"""Rates of a mixture that change while a run trains."""

import json

import numpy as np
import pytest

from t5x_like import data
from t5x_like.data.interleaving import Epochs, StreamMixing, interleaved
from t5x_like.errors import UserError

LENGTHS = {"inputs": 32, "targets": 16}
NAMES = ("web", "books", "code")


def shares(schedule, names=NAMES, rates=(6, 3, 1)):
    return schedule.shares(names, rates, [100, 200, 300], lambda: [10.0, 20.0, 40.0])


def test_shares_change_at_a_batch():
    late = {"books": 3, "code": 1}
    found = shares(data.MixtureSchedule(((0, None), (9, late))))
    assert found.begins == (0, 9)
    assert found.weights == (pytest.approx((0.6, 0.3, 0.1)), (0, 0.75, 0.25))
    # Of the tokens: examples of 20 and of 40 tokens, 3 / 20 to 1 / 40 are 6 to 1.
    of_tokens = shares(data.MixtureSchedule(((0, None), (9, late)), rule=data.TokenShares()))
    assert of_tokens.weights[1] == pytest.approx((0, 6 / 7, 1 / 7))


def test_shares_move_on_a_straight_line():
    stages = ((0, {"web": 1}), (10, {"web": 1}), (14, {"books": 1}))
    found = shares(data.MixtureSchedule(stages, linear=True), NAMES[:2], (1, 1))
    # From 1 to 0 over four batches: the middle of each is 7/8, 5/8, 3/8, 1/8.
    assert found.begins == (*range(10), 10, 11, 12, 13, 14)
    assert [web for web, _ in found.weights] == [*[1] * 10, 0.875, 0.625, 0.375, 0.125, 0]
    long = shares(data.MixtureSchedule(((0, None), (64_000, {"web": 1})), linear=True))
    assert long.begins == tuple(range(0, 64_001, 1000))


def test_rows_have_the_shares_of_their_batch():
    schedule = data.MixtureSchedule(((0, None), (100, {"books": 3, "code": 1})), linear=True)
    # Batches of 8 and, from the 51st on, of 16 rows: 400 + 800 rows until the shares are last.
    batches = data.BatchSchedule(((0, 8), (50, 16)))
    order = interleaved(shares(schedule), batches)
    places = [order.at(row) for row in range(2000)]
    assert [order.at(row) for row in (1700, 3, 1100)] == [places[n] for n in (1700, 3, 1100)]
    for task in range(3):  # in order, with nothing left out or twice
        numbers = [nth for member, nth in places if member == task]
        assert numbers == list(range(len(numbers)))
    tasks = np.array([task for task, _ in places])
    # Until the middle of the line the mean of web's share is that of .6 and .3, and then .3 and 0.
    assert (tasks[:400] == 0).sum() == pytest.approx(400 * 0.45, abs=6)
    assert (tasks[400:1200] == 0).sum() == pytest.approx(800 * 0.15, abs=6)
    assert not (tasks[1200:] == 0).any()
    assert (tasks[1200:] == 1).sum() == pytest.approx(600, abs=2)


def test_many_short_stages_give_no_task_more():
    """Each stage has 1 or 2 rows, and rounding it by itself would give the first task most."""
    stages = [(batch, {"web": 1, "books": 9}) for batch in range(500)]
    order = interleaved(
        shares(data.MixtureSchedule(stages), NAMES[:2], (1, 1)), data.BatchSchedule(((0, 2),))
    )
    drawn = [order.at(row)[0] for row in range(1000)]
    assert drawn.count(0) == pytest.approx(100, abs=25)


def test_epochs_count_what_was_drawn_at_each_share():
    found = shares(data.MixtureSchedule(((0, {"web": 1}), (10, {"books": 1, "code": 1}))))
    epochs = Epochs(NAMES, (40, 100, 50), found, data.BatchSchedule(((0, 8),)))
    assert epochs({"step": 5}) == {"web": 1.0, "books": 0.0, "code": 0.0}
    # 80 rows of web, then 40 of books and 40 of code.
    assert epochs({"step": 20}) == {"web": 2.0, "books": 0.4, "code": 0.8}
    streams = {"0": {"next": 30, "changes": [20]}, "1": {"next": 10}}
    epochs = Epochs(NAMES, (40, 100, 50), found, data.BatchSchedule(((0, 8),)), streams=2)
    assert epochs({"streams": streams}) == {"web": 30 / 40, "books": 5 / 100, "code": 5 / 50}


def test_a_stream_changes_with_the_example_that_it_reads_next():
    mixing = StreamMixing(shares(data.MixtureSchedule(((0, {"web": 1}), (3, {"books": 1}),
                                                       (5, {"code": 1})))), 2)  # fmt: skip
    for batch, ordinal in enumerate((0, 4, 9, 11, 15, 15)):
        mixing.begin_batch(1, batch, ordinal)
    assert mixing.get_state(1, 9, 15) == {"changes": [11, 15]}
    assert [mixing.at(1, ordinal)[0] for ordinal in (0, 10, 11, 14, 15, 99)] == [0, 0, 1, 1, 2, 2]
    assert mixing.get_state(0, 0, 0) == {}


def opened(kit, tmp_path, pairs, index=0, count=1, **settings):
    tasks = [kit.task("web"), kit.task("books")]
    for number, task in enumerate(tasks):
        kit.write(task, tmp_path, [pair for pair in pairs if len(pair["inputs"]) % 2 == number])
    settings = {"batch_size": 8, "prefetch": 0, "mixing": CHANGING, **settings}
    config = data.DatasetConfig(
        kit.mixture("both", [(task, 1.0) for task in tasks]), LENGTHS, tmp_path, **settings
    )
    return data.open_dataset(
        config, batch_format="encoder_decoder", shard_index=index, shard_count=count
    )


CHANGING = data.MixtureSchedule(((0, {"web": 1}), (2, {"web": 1}), (6, {"books": 1})), linear=True)


@pytest.mark.parametrize("pack", [True, False])
def test_resuming_is_exact_on_any_number_of_processes(kit, tmp_path, pairs, pack):
    def of_books(batch):
        odd = (np.diff(np.flatnonzero(batch["encoder_input_tokens"][0] == 1), prepend=-1) - 1) % 2
        return odd.mean()

    whole = opened(kit, tmp_path, pairs, pack=pack)
    wanted = [next(whole) for _ in range(9)]
    assert of_books(wanted[0]) == 0
    assert of_books(wanted[-1]) == 1
    for restart_at in (1, 4, 8):
        two = [opened(kit, tmp_path, pairs, i, 2, pack=pack) for i in range(2)]
        for _ in range(restart_at):
            for each in two:
                next(each)
        state = data.merge_states([json.loads(json.dumps(each.get_state())) for each in two])
        alone = opened(kit, tmp_path, pairs, pack=pack)
        alone.set_state(state)
        for batch in wanted[restart_at:]:
            found = next(alone)
            assert all(np.array_equal(found[name], batch[name]) for name in batch)
    other = data.MixtureSchedule(((0, {"web": 1}), (6, {"books": 1})))
    with pytest.raises(UserError, match="belongs to other data"):
        opened(kit, tmp_path, pairs, pack=pack, mixing=other).set_state(state)


@pytest.mark.parametrize(
    "stages", [(), ((1, None),), ((0, None), (0, None)), ((0, {}),), ((0, None, 1),)]
)
def test_stages_are_checked(stages):
    with pytest.raises(UserError, match=r"data\.MixtureSchedule\.stages is .* ascending from"):
        data.MixtureSchedule(stages)


def test_names_are_checked():
    with pytest.raises(UserError, match=r"stages has 'bokks', .* tasks: web, books, code"):
        shares(data.MixtureSchedule(((0, None), (9, {"bokks": 1}))))
    with pytest.raises(UserError, match="never draws the task 'code'"):
        shares(data.MixtureSchedule(((0, {"web": 1}), (9, {"books": 1}))))
