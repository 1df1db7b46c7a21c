"""A run that is killed at any moment, and started again, is the run that was never killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from t5x_like import checkpoints
from tests.untimed import NO_TIMES, untimed

ROOT = Path(__file__).parents[2]
STEPS, VALIDATION_PERIOD, SAVE_PERIOD = 60, 10, 4

T5 = """
from __gin__ import dynamic_registration
from models import t5
from tasks import objectives
import tasks

MODEL = @t5.T5_1_1()
t5.T5_1_1:
  vocab_size = 384
  embed_dim = 16
  mlp_dim = 32
  num_heads = 2
  head_dim = 8
  num_encoder_layers = 1
  num_decoder_layers = 1
  dropout_rate = 0.1

TASK = @first/tasks.unsupervised()
first/tasks.unsupervised.objective = @objectives.SpanCorruption()
TASK_FEATURE_LENGTHS = {'inputs': 40, 'targets': 24}
"""

GPT2 = """
from __gin__ import dynamic_registration
from models import gpt
from tasks import objectives
import tasks

MODEL = @gpt.GPT2()
gpt.GPT2:
  vocab_size = 384
  embed_dim = 16
  num_heads = 2
  num_layers = 2
  max_length = 64
  dropout_rate = 0.1
TASK_FEATURE_LENGTHS = {'targets': 64}
"""

# Documents joined by EOS into one stream, cut into full rows.
DECODER = (
    GPT2
    + """
TASK = @first/tasks.unsupervised()
first/tasks.unsupervised.objective = @objectives.CausalLM()
"""
)

# Whole documents, several in a row; the rows that are still open are part of the data's state.
MIXTURE = (
    GPT2
    + """
TASK = @tasks.Mixture()
tasks.Mixture.name = 'both'
tasks.Mixture.tasks = (
    (@first/tasks.unsupervised(), 2.0),
    (@second/tasks.unsupervised(), 1.0),
)
tasks.unsupervised.objective = @objectives.CausalLM()
objectives.CausalLM.concatenate = False
"""
)

SOURCES = """
from __gin__ import dynamic_registration
from tasks import sources
import tasks

first/tasks.unsupervised:
  name = 'first'
  source = @first/sources.TextFiles()
second/tasks.unsupervised:
  name = 'second'
  source = @second/sources.TextFiles()
sources.TextFiles.separator = '\\n'
first/sources.TextFiles.files = {'train': 'FOLDER/first.txt', 'validation': 'FOLDER/held.txt'}
second/sources.TextFiles.files = {'train': 'FOLDER/second.txt', 'validation': 'FOLDER/held.txt'}
"""


def write_corpus(folder):
    """Lines of words of different lengths."""
    rng = np.random.default_rng(0)
    words = ["".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(60)]
    for name, count in {"first": 160, "second": 80, "held": 24}.items():
        lines = [" ".join(rng.choice(words, rng.integers(2, 9))) for _ in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (folder / "sources.gin").write_text(SOURCES.replace("FOLDER", str(folder)))


def arguments(folder, model_gin, run):
    """Of `t5x-like train`; each run has a MODEL_DIR and a CACHE_DIR of its own."""
    (folder / "model.gin").write_text(model_gin)
    return [
        "train",
        f"--gin_file={folder}/sources.gin",
        f"--gin_file={folder}/model.gin",
        "--gin_file=runs/pretrain.gin",
        f"--gin.MODEL_DIR={folder}/{run}",
        f"--gin.CACHE_DIR={folder}/{run}_cache",
        "--gin.BATCH_SIZE=8",
        f"--gin.TRAIN_STEPS={STEPS}",
        "--gin.WARMUP_STEPS=5",
        "--gin.train.train.log_period=1",
        "--gin.train.train.tensorboard=False",
        f"--gin.train.train.validation_period={VALIDATION_PERIOD}",
        "--gin.train.train.validation_batches=3",
        f"--gin.checkpoints.CheckpointPolicy.period={SAVE_PERIOD}",
    ]


def environment(folder):
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XDG_CACHE_HOME": str(folder / "compiled"),
    }


def train_in_one_go(folder, model_gin):
    """A run that nothing happens to; its MODEL_DIR."""
    done = subprocess.run(
        [sys.executable, "-m", "t5x_like", *arguments(folder, model_gin, "whole")],
        env=environment(folder), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(folder / "whole")


def train_through_kills(folder, model_gin, tasks, wanted, seed):
    """The same run killed at `wanted` moments: its MODEL_DIR, and the harness's summary."""
    plan = {
        "arguments": arguments(folder, model_gin, "killed"),
        "model_dir": str(folder / "killed"),
        "caches": [str(folder / "killed_cache" / task) for task in tasks],
        "steps": STEPS,
        "validation_period": VALIDATION_PERIOD,
        "wanted": wanted,
        "seed": seed,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.kill_harness", json.dumps(plan)],
        cwd=ROOT, env=environment(folder), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    return str(folder / "killed"), json.loads(done.stdout.splitlines()[-1])


def arrays(model_dir, item):
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(Path(model_dir, "checkpoints", str(STEPS), item))


def data_position(model_dir):
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return reader.restore(Path(model_dir, "checkpoints", str(STEPS), "data"))


def assert_the_same_run(killed, whole):
    """Bit for bit: every loss, the parameters, the optimizer's state, the place in the data."""
    steps = [record["step"] for record in untimed(whole) if record["split"] == "train"]
    assert steps == list(range(1, STEPS + 1))
    assert untimed(killed) == untimed(whole)
    assert checkpoints.checkpoint_steps(killed) == checkpoints.checkpoint_steps(whole)
    for item in ("params", "optimizer"):
        found, expected = arrays(killed, item), arrays(whole, item)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    assert data_position(killed) == data_position(whole)
    metadata = [checkpoints.load_metadata(model_dir) for model_dir in (killed, whole)]
    killed_metadata, whole_metadata = metadata
    assert killed_metadata | NO_TIMES == whole_metadata | NO_TIMES


# Of each phase at least, and in all.
TWENTY = {"start-up": 4, "step": 4, "save": 5, "validation": 3}, 20
FIVE = {"start-up": 1, "step": 1, "save": 1, "validation": 1}, 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_gin", "tasks", "cache_kills", "kills"),
    [
        # Ten minutes in all: a part of the mixture's stands for them in CI, all before a release.
        pytest.param(T5, ["first"], 2, TWENTY, id="span corruption", marks=pytest.mark.release),
        pytest.param(
            DECODER, ["first"], 1, TWENTY, id="decoder, concatenated and split",
            marks=pytest.mark.release,
        ),
        pytest.param(
            MIXTURE, ["first", "second"], 1, TWENTY, id="mixture of two, packed",
            marks=pytest.mark.release,
        ),
        pytest.param(MIXTURE, ["first", "second"], 1, FIVE, id="mixture of two, packed, five"),
    ],
)  # fmt: skip
def test_kills_change_nothing(tmp_path, tally, model_gin, tasks, cache_kills, kills):
    write_corpus(tmp_path)
    phases, count = kills
    wanted = {"cache": cache_kills, **phases}
    wanted["any"] = count - sum(wanted.values())
    whole = train_in_one_go(tmp_path, model_gin)
    killed, summary = train_through_kills(tmp_path, model_gin, tasks, wanted, seed=20)
    assert_the_same_run(killed, whole)
    assert summary["left_behind"] == []
    assert sum(summary["kills"].values()) >= count
    assert all(summary["kills"][phase] >= wanted[phase] for phase in wanted if phase != "any")
    tally("kills", times=sum(summary["kills"].values()))
