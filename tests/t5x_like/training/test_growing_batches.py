"""A run whose batches grow: its steps, its records, and that resuming it is exact."""

import jax
import numpy as np
import pytest

from t5x_like import cli, load_run
from tests.untimed import untimed


def train(folder, run, *flags):
    text = " ".join(f"word{i % 17} and {i}" for i in range(4000))
    (folder / "text.txt").write_text("\n".join(text[i : i + 90] for i in range(0, 36_000, 90)))
    return cli.main(
        [
            "train",
            "--gin_file=models/gpt3/tiny.gin",
            "--gin_file=tasks/text_files.gin",
            "--gin_file=tasks/causal_lm.gin",
            "--gin_file=runs/pretrain.gin",
            f"--gin.TRAIN_FILES={folder}/text.txt",
            "--gin.SEPARATOR=\\n",
            f"--gin.MODEL_DIR={folder}/{run}",
            f"--gin.CACHE_DIR={folder}/cache",
            "--gin.TASK_FEATURE_LENGTHS={'targets': 32}",
            "--gin.BATCH_SIZE=8",
            "--gin.BATCH_SCHEDULE=@data.BatchSchedule()",
            "--gin.data.BatchSchedule.sizes=((0, 2), (3, 8))",
            "--gin.WARMUP_STEPS=2",
            "--gin.train.train.log_period=1",
            "--gin.train.train.tensorboard=False",
            "--gin.checkpoints.CheckpointPolicy.period=4",
            *flags,
        ]
    )


@pytest.mark.slow
def test_a_run_resumes_within_a_ramp(tmp_path):
    assert train(tmp_path, "whole", "--gin.TRAIN_STEPS=6") == 0
    assert train(tmp_path, "halves", "--gin.TRAIN_STEPS=4") == 0
    assert train(tmp_path, "halves", "--gin.TRAIN_STEPS=6") == 0
    whole, halves = (
        [record for record in untimed(tmp_path / run) if record["split"] == "train"]
        for run in ("whole", "halves")
    )
    # Rows of 32 tokens: 2, 2, 2, 8, 8, 8.
    assert [record["tokens"] // 32 for record in whole] == [2, 4, 6, 14, 22, 30]
    assert halves == whole
    first, second = (load_run(str(tmp_path / run)).params for run in ("whole", "halves"))
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, other)
