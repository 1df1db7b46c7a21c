"""An evaluation of some rows of a split: which ones, whatever the batch."""

import numpy as np
import pytest

from t5x_like import data
from t5x_like.data.cache import layout
from t5x_like.data.records import open_records
from t5x_like.errors import UserError

ENCODER_DECODER, CONTIGUOUS = "encoder_decoder", "contiguous_language_model"


def opened(task, cache_dir, limit, batch_format=ENCODER_DECODER, **settings):
    lengths = {name: 16 for name in task.features}
    config = data.DatasetConfig(task=task, task_feature_lengths=lengths, cache_dir=cache_dir)
    shards = {name: settings.pop(name) for name in ("shard_index", "shard_count") & settings.keys()}
    for name, value in settings.items():
        object.__setattr__(config, name, value)
    return data.open_evaluation(config, batch_format=batch_format, limit=limit, **shards)


def indices(split):
    return [index for batch in split for index in batch.indices]


@pytest.fixture
def task(kit, tmp_path, pairs):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs)  # 240
    return task


def test_rows_are_drawn_evenly_from_the_whole_split(task, tmp_path):
    split = opened(task, tmp_path, 6)
    assert [index // 40 for index in indices(split)] == [0, 1, 2, 3, 4, 5]
    assert (split.measured, split.num_examples) == (6, 240)


@pytest.mark.parametrize("period", [2, 3, 4, 8])
def test_of_examples_that_alternate_each_kind_has_its_share(task, tmp_path, period):
    """Middles of parts of two, four or eight examples would all be of one kind."""
    drawn = np.array(indices(opened(task, tmp_path, 120)) + indices(opened(task, tmp_path, 60)))
    shares = np.bincount(drawn % period, minlength=period) / drawn.size
    assert shares == pytest.approx(np.full(period, 1 / period), abs=0.1)


def test_rows_that_are_cut_of_a_text_are_at_equal_distances(kit, tmp_path, documents):
    task = kit.task("text", ("targets",), kit.causal())
    kit.write(task, tmp_path, documents)
    split = opened(task, tmp_path, 6, "causal_language_model")
    pieces = split.num_examples
    assert pieces > 6
    assert indices(split) == [(2 * i + 1) * pieces // 12 for i in range(6)]


def test_records_are_the_examples_that_rows_are_made_of(task, tmp_path):
    split = opened(task, tmp_path, 50)
    records = open_records(
        data.DatasetConfig(task, {name: 16 for name in task.features}, tmp_path, "train"),
        ["targets"], 50,
    )  # fmt: skip
    assert records.numbers == split.examples == indices(split)


def test_a_limit_beyond_the_split_is_the_whole_of_it(task, tmp_path):
    for limit in (None, 240, 1000):
        split = opened(task, tmp_path, limit)
        assert indices(split) == list(range(240))
        assert split.measured == 240


@pytest.mark.parametrize(("batch_size", "shards"), [(8, 1), (8, 2), (128, 4), (5, 1)])
def test_neither_batch_size_nor_processes_change_the_rows(task, tmp_path, batch_size, shards):
    parts = [
        opened(task, tmp_path, 100, batch_size=batch_size, shard_index=index, shard_count=shards)
        for index in range(shards)
    ]
    found = sorted(index for part in parts for index in indices(part))
    assert found == indices(opened(task, tmp_path, 100))
    assert {part.measured for part in parts} == {100}


@pytest.mark.parametrize("batch_size", [8, 32, 48])
def test_rows_that_continue_are_tracks_from_all_over_the_text(kit, tmp_path, documents, batch_size):
    task = kit.task("text", ("targets",), kit.causal())
    kit.write(task, tmp_path, documents)
    split = opened(task, tmp_path, 101, CONTIGUOUS, batch_size=batch_size)
    pieces = split.num_examples
    begins = [track * pieces // 32 for track in range(32)]
    # 101 rows are 32 tracks of three.
    assert sorted(indices(split)) == sorted(b + step for b in begins for step in range(3))
    assert split.measured == 96
    for batch in split:
        for row, index in enumerate(batch.indices):
            assert batch.batch["row_continues"][row] == (index not in begins)


def test_a_limit_in_batches_is_one_in_rows():
    assert data.limit_in_rows(None, 20) == 640
    assert data.limit_in_rows(100, 20) == 100
    assert data.limit_in_rows(None, None) is None
    for rows, batches in ((0, None), (None, -1), (2.5, None)):
        with pytest.raises(UserError, match="a whole number of 1 or more"):
            data.limit_in_rows(rows, batches)


def test_the_bytes_of_the_text_are_told_for_each_token(kit, tmp_path):
    task = kit.task("text", ("targets",), kit.causal())
    texts = [{"targets": np.arange(3, 3 + size, dtype=np.int32)} for size in (10, 20, 30)]
    folder = kit.write(task, tmp_path, texts, shards=1)
    assert opened(task, tmp_path, None, "causal_language_model").bytes_per_target is None
    stats = {"examples": 3, "targets_tokens": 60, "targets_bytes": 126, "targets_words": 21}
    layout.write_json(layout.stats_path(folder, "train"), stats)
    # 60 tokens and the ends of three documents.
    split = opened(task, tmp_path, 2, "causal_language_model")
    assert (split.bytes_per_target, split.words_per_target) == (126 / 63, 21 / 63)
