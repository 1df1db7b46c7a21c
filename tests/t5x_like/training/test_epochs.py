"""How many updates a number of epochs is."""

import numpy as np
import pytest

from t5x_like import cli, data
from t5x_like.errors import UserError
from t5x_like.training import metrics_log, plan
from tests.t5x_like.data.conftest import MiniMixture, MiniTask, write_cache


class Model:
    batch_format = "encoder_decoder"


def config(task, cache_dir, **settings):
    lengths = {"inputs": 32, "targets": 16}
    defaults = {"task_feature_lengths": lengths, "batch_size": 8, "prefetch": 0, "pack": False}
    return data.DatasetConfig(task=task, cache_dir=cache_dir, **{**defaults, **settings})


@pytest.fixture
def task(tmp_path):
    draw = np.random.default_rng(7)
    rows = [
        {name: draw.integers(3, 359, draw.integers(1, 12)).astype(np.int32)
         for name in ("inputs", "targets")}
        for _ in range(241)
    ]  # fmt: skip
    found = MiniTask("pairs")
    write_cache(found, tmp_path, rows)
    write_cache(MiniTask("few"), tmp_path, rows[:50])
    return found


@pytest.mark.parametrize(("wanted", "steps"), [(1, 31), (3, 91), (0.5, 16), (1 / 241, 1)])
def test_rows_by_number_are_counted(task, tmp_path, wanted, steps):
    """241 examples in batches of 8: the last of an epoch's is in the 31st, of three in the 91st."""
    assert plan.train_steps(Model(), config(task, tmp_path), wanted) == steps


def test_of_a_mixture_the_task_that_is_gone_through_least_counts(task, tmp_path):
    both = MiniMixture("both", [(task, 1.0), (MiniTask("few"), 1.0)])
    # Half of 8 a step: 241 / 4 steps for one epoch of the larger.
    assert plan.train_steps(Model(), config(both, tmp_path), 1) == 61


def test_batches_that_grow_are_added_up(task, tmp_path):
    schedule = data.BatchSchedule(((0, 4), (10, 8)))
    growing = config(task, tmp_path, batch_schedule=schedule)
    assert plan.train_steps(Model(), growing, 1) == 10 + 26  # 40 rows, and 201 by 8


def test_packed_rows_are_measured(task, tmp_path):
    packed = config(task, tmp_path, pack=True)
    steps = plan.train_steps(Model(), packed, 40)
    with data.open_dataset(packed, batch_format="encoder_decoder") as batches:
        for _ in range(steps):
            next(batches)
        assert batches.epochs(batches.get_state())["pairs"] == pytest.approx(40, rel=0.02)


def test_rates_that_change_are_refused(task, tmp_path):
    settings = config(task, tmp_path, mixing=data.MixtureSchedule(((0, None),)))
    with pytest.raises(UserError, match="TRAIN_EPOCHS does not go with"):
        plan.train_steps(Model(), settings, 1)


def test_what_is_no_number_of_epochs_is_refused(task, tmp_path):
    for wanted in (0, -1, float("inf"), "3"):
        with pytest.raises(UserError, match="TRAIN_EPOCHS is"):
            plan.train_steps(Model(), config(task, tmp_path), wanted)


@pytest.mark.slow
def test_a_run_of_two_epochs_from_gin(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(f"line {i} of a text" for i in range(200)))
    flags = [
        "--gin_file=models/gpt3/tiny.gin", "--gin_file=tasks/text_files.gin",
        "--gin_file=tasks/causal_lm.gin", "--gin_file=runs/pretrain.gin",
        "--gin_file=runs/epochs.gin", f"--gin.TRAIN_FILES={tmp_path}/text.txt",
        "--gin.SEPARATOR=\\n", f"--gin.MODEL_DIR={tmp_path}/run", f"--gin.CACHE_DIR={tmp_path}/c",
        "--gin.TASK_FEATURE_LENGTHS={'targets': 64}", "--gin.BATCH_SIZE=8", "--gin.TRAIN_EPOCHS=2",
        "--gin.WARMUP_STEPS=2", "--gin.train.train.tensorboard=False",
        "--gin.train.train.log_period=1",
    ]  # fmt: skip
    assert cli.main(["train", *flags]) == 0
    records = [r for r in metrics_log.read_records(str(tmp_path / "run")) if r["split"] == "train"]
    assert records[-2]["epochs"] < 2 <= records[-1]["epochs"]
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
