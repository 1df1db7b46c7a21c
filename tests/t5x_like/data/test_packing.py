import numpy as np
import pytest

from t5x_like import data
from t5x_like.data.rows.packing import FirstFit


def test_an_example_goes_into_the_first_row_with_room():
    # Rows of 10. 6 opens a row, 7 opens another, 4 fills the first, 3 the second.
    packer = FirstFit([10], open_rows=4)
    assert packer.add([6], "a") is None
    assert packer.add([7], "b") is None
    assert packer.add([4], "c") == ["a", "c"]
    assert packer.add([3], "d") == ["b", "d"]


def test_every_feature_needs_room():
    packer = FirstFit([10, 4], open_rows=4)
    packer.add([2, 3], "a")
    packer.add([2, 2], "b")  # 5 tokens of the second feature do not fit 4
    assert packer.rows == [["a"], ["b"]]


def test_the_fullest_row_is_closed_when_no_more_may_be_open():
    packer = FirstFit([10], open_rows=2)
    packer.add([6], "a")
    packer.add([8], "b")
    assert packer.add([9], "c") == ["b"]
    assert packer.rows == [["a"], ["c"]]


def test_a_row_that_one_example_fills_is_closed_at_once():
    packer = FirstFit([10], open_rows=2)
    packer.add([6], "a")
    assert packer.add([10], "b") == ["b"]
    assert packer.rows == [["a"]]


def test_nothing_is_lost_and_no_row_overflows():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 60, (2000, 2))
    packer = FirstFit([128, 100], open_rows=8)
    closed = [r for i in range(2000) if (r := packer.add(sizes[i].tolist(), i))]
    rows = closed + packer.rows
    assert sorted(i for row in rows for i in row) == list(range(2000))
    assert all((sizes[row].sum(0) <= [128, 100]).all() for row in rows)


def test_it_wastes_less_than_packing_one_row_at_a_time():
    rng = np.random.default_rng(0)
    sizes = np.minimum(rng.geometric(1 / 90, 20_000), 512)

    def share(open_rows):
        packer = FirstFit([512], open_rows)
        rows = [r for i in range(sizes.size) if (r := packer.add([int(sizes[i])], i))]
        return sum(int(sizes[row].sum()) for row in rows) / (512 * len(rows))

    assert share(16) > 0.97 > share(1) + 0.03


def test_a_restored_packer_goes_on_as_the_first():
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 70, 500).tolist()
    first = FirstFit([128], 6)
    for i in range(250):
        first.add([sizes[i]], i)
    second = FirstFit([128], 6)
    second.restore(
        [[([sizes[i]], i) for i in row] for row in first.rows], first.opened, first.closed
    )
    assert packed(first, sizes, range(250, 500)) == packed(second, sizes, range(250, 500))


def packed(packer, sizes, items):
    """The rows that are closed."""
    closed = []
    for i in items:
        while (row := packer.overdue()) is not None:
            closed.append(row)
        if (row := packer.add([sizes[i]], i)) is not None:
            closed.append(row)
    return closed


def test_no_example_waits_for_more_than_four_turns():
    # Rows of 24. Nothing fits beside the first example of 12 but what comes at the end.
    packer = FirstFit([24], open_rows=2)
    sizes = [12] + [13] * 30
    closed = packed(packer, sizes, range(len(sizes)))
    # 13s open the second row, close the one before, and so on: 4 * 2 rows later the first is due.
    assert closed.index([0]) == 8


@pytest.mark.slow
def test_of_a_small_corpus_every_example_is_seen_in_every_epoch(kit, tmp_path):
    """As Multi30k at 24 and 17 tokens, of which 11 of 1,014 were never seen in 30 epochs."""
    rng = np.random.default_rng(3)
    sizes = np.clip(rng.normal((14, 12), (4, 3), (1014, 2)), 3, (23, 16)).astype(int)
    examples = [
        {
            "inputs": np.full(a, 9, np.int32),
            "targets": np.append(np.full(b - 1, 9, np.int32), 300 + i),
        }
        for i, (a, b) in enumerate(sizes)
    ]
    task = kit.task("pairs")
    kit.write(task, tmp_path, examples)
    lengths = {"inputs": 24, "targets": 17}
    config = data.DatasetConfig(task, lengths, tmp_path, batch_size=64, prefetch=0)
    batches = data.open_dataset(config, batch_format="encoder_decoder")
    seen = np.zeros(1014, int)
    while seen.sum() < 8 * 1014:
        targets = next(batches)["decoder_target_tokens"]
        seen += np.bincount(targets[targets >= 300] - 300, minlength=1014)
    assert seen.min() >= 5
    assert seen.max() <= 11
