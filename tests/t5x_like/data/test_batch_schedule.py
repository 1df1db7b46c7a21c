"""Batches that grow: their sizes, and rows that neither repeat nor are lost at a change."""

import json

import numpy as np
import pytest

from t5x_like import data
from t5x_like.errors import UserError

LENGTHS = {"inputs": 32, "targets": 16}


def test_sizes_of_palm():
    """PaLM 540B: 512 until step 50k, 1024 until 115k, then 2048 (Chowdhery et al. 2022)."""
    palm = data.BatchSchedule(((0, 512), (50_000, 1024), (115_000, 2048)))
    assert [palm.rows(step) for step in (0, 49_999, 50_000, 115_000, 255_000)] == [
        512, 512, 1024, 2048, 2048
    ]  # fmt: skip
    assert palm.largest == 2048
    # 50,000 · 512 + 65,000 · 1,024 + 140,000 · 2,048 rows of 2,048 tokens: 780 billion.
    assert palm.rows_before(255_000) == 378_880_000
    assert palm.rows_before(255_000) * 2048 == pytest.approx(780e9, rel=0.006)
    assert palm.rows_before(50_001) == 50_000 * 512 + 1024
    assert palm.rows_before(0) == 0


def test_a_linear_ramp_gives_each_size_the_same_rows():
    """From 16 to 64 rows in steps of 16 over 480 rows: 10, 5 and 3 batches (160 / 48 = 3.3)."""
    ramp = data.linear_ramp(first=16, last=64, increment=16, rows=480)
    assert ramp.sizes == ((0, 16), (10, 32), (15, 48), (18, 64))


def config(task, cache_dir, **kwargs):
    schedule = data.BatchSchedule(((0, 4), (3, 8), (5, 16)))
    defaults = {"task_feature_lengths": LENGTHS, "batch_size": 16, "prefetch": 0}
    settings = {**defaults, "batch_schedule": schedule, **kwargs}
    return data.DatasetConfig(task=task, cache_dir=cache_dir, **settings)


def opened(settings, index=0, count=1):
    return data.open_dataset(
        settings, batch_format="encoder_decoder", shard_index=index, shard_count=count
    )


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_rows_go_on_where_the_smaller_batch_ended(kit, tmp_path, pairs):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs)
    growing = opened(config(task, tmp_path, pack=False))
    batches = [next(growing) for _ in range(7)]
    sizes = [len(batch["encoder_input_tokens"]) for batch in batches]
    assert sizes == [4, 4, 4, 8, 8, 16, 16]
    steady = opened(config(task, tmp_path, pack=False, batch_schedule=None, batch_size=4))
    rows = [next(steady) for _ in range(15)]
    for name in batches[0]:
        np.testing.assert_array_equal(
            np.concatenate([batch[name] for batch in batches]),
            np.concatenate([batch[name] for batch in rows]),
        )


@pytest.mark.parametrize("pack", [True, False])
def test_resuming_is_exact_on_any_number_of_processes(kit, tmp_path, pairs, pack):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs)
    settings = config(task, tmp_path, pack=pack)
    whole = opened(settings)
    wanted = [next(whole) for _ in range(8)]
    for restart_at in (2, 3, 6):
        two = [opened(settings, i, 2) for i in range(2)]
        for step in range(restart_at):
            parts = [next(each) for each in two]
            found = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
            assert same(found, wanted[step])
        state = data.merge_states([json.loads(json.dumps(each.get_state())) for each in two])
        alone = opened(settings)
        alone.set_state(state)
        assert all(same(next(alone), batch) for batch in wanted[restart_at:])


def test_a_state_of_another_schedule_is_refused(kit, tmp_path, pairs):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs)
    state = opened(config(task, tmp_path)).get_state()
    other = data.BatchSchedule(((0, 4), (2, 16)))
    with pytest.raises(UserError, match="belongs to other data"):
        opened(config(task, tmp_path, batch_schedule=other)).set_state(state)


@pytest.mark.parametrize(
    "sizes", [(), ((1, 4),), ((0, 4), (0, 8)), ((0, 0),), ((0, 4, 4),), ((0, 2.5),)]
)
def test_sizes_are_checked(sizes):
    with pytest.raises(UserError, match=r"data\.BatchSchedule\.sizes is"):
        data.BatchSchedule(sizes)


def test_settings_that_do_not_go_together_are_one_line(kit, tmp_path, pairs):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs)
    with pytest.raises(UserError, match=r"BATCH_SIZE is 8, but .* up to 16 rows: set it to 16"):
        opened(config(task, tmp_path, batch_size=8))
    with pytest.raises(UserError, match="batch_size 4 cannot be divided among 8 data shards"):
        opened(config(task, tmp_path), 0, 8)
    with pytest.raises(UserError, match="is for rows that stand alone"):
        opened(config(task, tmp_path, mixing=data.OneTaskBatches(), pack=False))
    with pytest.raises(UserError, match=r"data\.linear_ramp\(first=16, last=60"):
        data.linear_ramp(first=16, last=60, increment=16, rows=480)
