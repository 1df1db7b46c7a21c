"""How often each task of a mixture has been gone through."""

import numpy as np
import pytest

from t5x_like import data
from t5x_like.data.interleaving import Epochs
from t5x_like.data.mixing import constant

LENGTHS = {"inputs": 32, "targets": 16}


def opened(task, tmp_path, index=0, count=1, **settings):
    config = data.DatasetConfig(
        task=task, cache_dir=tmp_path, task_feature_lengths=LENGTHS,
        **{"batch_size": 8, "prefetch": 0, **settings},
    )  # fmt: skip
    return data.open_dataset(
        config, batch_format="encoder_decoder", shard_index=index, shard_count=count
    )


def test_gpt3s_epochs():
    """Brown et al. 2020, table 2.2: shares of 300 billion tokens, and tokens of each corpus."""
    corpora = {"cc": (410e9, 0.60, 0.44), "books1": (12e9, 0.08, 2.0), "wiki": (3e9, 0.03, 3.0)}
    sizes, shares, epochs = zip(*corpora.values(), strict=True)
    found = Epochs(
        tuple(corpora), sizes, constant(shares), data.BatchSchedule(((0, 300_000_000_000),))
    )
    assert found({"step": 1}) == pytest.approx(dict(zip(corpora, epochs, strict=True)), abs=0.005)


def test_epochs_are_counted_from_the_position(kit, tmp_path, pairs):
    one, two = kit.task("one"), kit.task("two")
    kit.write(one, tmp_path, pairs)
    kit.write(two, tmp_path, pairs[:30])
    both = kit.mixture("both", [(one, 3.0), (two, 1.0)])
    with opened(both, tmp_path, pack=False) as batches:
        assert batches.epochs(batches.get_state()) == {"one": 0.0, "two": 0.0}
        for _ in range(15):
            next(batches)
        # 120 rows, of which 90 are of the 240 examples of one, and 30 of the 30 of two.
        assert batches.epochs(batches.get_state()) == {"one": 0.375, "two": 1.0}


def test_packed_rows_count_the_examples_that_were_read(kit, tmp_path, pairs):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs)
    whole = opened(task, tmp_path)
    halves = [opened(task, tmp_path, i, 2) for i in range(2)]
    for batches in (whole, *halves):
        for _ in range(20):
            next(batches)
    (epochs,) = whole.epochs(whole.get_state()).values()
    read = sum(stream["next"] for stream in whole.get_state()["streams"].values())
    assert epochs == read / 240 > 1
    of_halves = [each.epochs(each.get_state())["pairs"] for each in halves]
    assert np.mean(of_halves) == pytest.approx(epochs)
    assert of_halves == pytest.approx([epochs] * 2, rel=0.1)  # each stands for all


def test_an_epoch_of_batches_of_one_task_has_all_batches_of_all(kit, tmp_path, pairs):
    one, two = kit.task("one"), kit.task("two")
    kit.write(one, tmp_path, pairs)
    kit.write(two, tmp_path, pairs[:30])
    both = kit.mixture("both", [(one, 1.0), (two, 1.0)])
    with opened(both, tmp_path, pack=False, mixing=data.OneTaskBatches()) as batches:
        for _ in range(17):  # of 30 + 4
            next(batches)
        assert batches.epochs(batches.get_state()) == {"one": 0.5, "two": 0.5}
