"""`t5x-like align`: a run that is killed and resumed is the run that was not, and bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import tasks
from models import gpt
from models.heads import Reward
from t5x_like import checkpoints, cli, load_run, optimizers
from t5x_like.partitioning import Partitioner
from t5x_like.schedules import Constant
from t5x_like.training.metrics_log import read_records
from t5x_like.training.state import state_from_params
from tasks import forms
from tasks.sources import Brackets
from tests.untimed import untimed

ROOT = Path(__file__).parents[2]
GIN = """
from __gin__ import dynamic_registration
from models import gpt
from t5x_like import data
from tasks import sources

sources.Brackets.rows_in_all = 100
gpt.GPT2:
  embed_dim = 16
  num_heads = 2
  num_layers = 1
  max_length = 32
CACHE_DIR = '{cache}'
BATCH_SIZE = 16
"""
ALIGN = """
from __gin__ import dynamic_registration
from t5x_like import align
from t5x_like import alignment
from t5x_like import checkpoints
from t5x_like import data
from tasks.alignment import rewards

REWARD = @rewards.balanced_brackets
MAX_NEW_TOKENS = 6
TRAIN_STEPS = 6
LEARNING_RATE = 1e-3
WARMUP_STEPS = 1
SAMPLE_PERIOD = 3
KL = @alignment.AdaptiveKL()
alignment.PPO.minibatches = 2
align.align.tensorboard = False
align.align.pretraining = @pretraining/data.DatasetConfig()
pretraining/data.DatasetConfig.split = 'validation'
pretraining/data.DatasetConfig.batch_size = 4
pretraining/data.DatasetConfig.pack = False
checkpoints.CheckpointPolicy.period = 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_cache):
    """Where the cache of brackets and the runs' gin files are."""
    folder = tmp_path_factory.mktemp("align")
    source = Brackets(rows_in_all=100)
    form = forms.Template(inputs="{opened}", targets="{closed}")
    task = tasks.text_to_text("brackets", source, form)
    rows = {split: [form(row) for row in source.rows(split)] for split in source.splits}
    write_cache(task, folder / "cache", rows)
    (folder / "base.gin").write_text(GIN.format(cache=folder / "cache"))
    (folder / "align.gin").write_text(ALIGN)
    return folder


MODEL = ["--gin_file=models/gpt2/tiny.gin", "--gin_file=tasks/brackets.gin"]


@pytest.fixture(scope="module")
def flags(folder):
    """The command line of a run of six iterations, to which MODEL_DIR is added."""
    begun = f"--gin.INITIAL_CHECKPOINT_PATH={folder}/begun"
    files = ["runs/align.gin", folder / "base.gin", folder / "align.gin"]
    return ["align", *MODEL, *(f"--gin_file={file}" for file in files), begun]


@pytest.fixture(scope="module")
def begun(folder):
    """The run that policy and reference come from."""
    flags = ["train", *MODEL, "--gin_file=runs/pretrain.gin", f"--gin_file={folder}/base.gin"]
    assert cli.main([*flags, "--gin.TRAIN_STEPS=1", f"--gin.MODEL_DIR={folder}/begun"]) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("begun")
def test_a_run_that_was_killed_is_the_run_that_was_not(flags, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert cli.main([*flags, f"--gin.MODEL_DIR={whole}"]) == 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    run = subprocess.Popen(
        [sys.executable, "-m", "t5x_like", *flags, f"--gin.MODEL_DIR={killed}"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while run.poll() is None and not checkpoints.checkpoint_steps(str(killed)):
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert checkpoints.checkpoint_steps(str(killed))[-1] < 6
    assert cli.main([*flags, f"--gin.MODEL_DIR={killed}"]) == 0
    first, second = untimed(whole), untimed(killed)
    assert [record["step"] for record in first] == list(range(1, 7))
    assert first == second
    assert {"reward", "kl", "entropy", "clip_fraction", "pretraining_loss"} <= first[0].keys()
    assert_parts_take_no_longer_than_the_step(whole)
    # What divergence costs has changed from step to step, and was saved.
    assert len({record["kl_coefficient"] for record in first}) == 6
    samples = [(path / "samples" / "6.jsonl").read_text() for path in (whole, killed)]
    assert samples[0] == samples[1]
    assert json.loads(samples[0].splitlines()[0]).keys() == {"step", "prompt", "answer", "reward"}
    one, other = load_run(str(whole)), load_run(str(killed))
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    assert len(one.generate(["(("], temperature=0.0)) == 1  # the policy's class reads the run


def assert_parts_take_no_longer_than_the_step(model_dir):
    """Whether a checkpoint follows or not; the first is compiled, and has no rates."""
    first, *others = read_records(str(model_dir))
    assert not {"step_seconds", "mfu", "update_tokens_per_second"} & first.keys()
    for record in others:
        tokens = record["answer_length"] * 16
        parts = [tokens / record[f"{name}_tokens_per_second"] for name in ("rollout", "update")]
        assert record["step_seconds"] >= 0.99 * sum(parts)


REWARD_GIN = """
from __gin__ import dynamic_registration
from models import gpt
from models import heads

MODEL = @gpt.GPT2()
gpt.GPT2:
  vocab_size = 384
  embed_dim = 16
  num_heads = 2
  num_layers = 1
  max_length = 32
  head = @heads.Reward()
"""
ONE_ITERATION = """
from __gin__ import dynamic_registration
from t5x_like import align
from t5x_like import alignment

MAX_NEW_TOKENS = 6
BATCH_SIZE = 16
TRAIN_STEPS = 1
SAMPLE_PERIOD = 1
ALGORITHM = @alignment.Reinforce()
align.align.tensorboard = False
"""


@pytest.mark.slow
@pytest.mark.usefixtures("begun")
def test_a_reward_model_gives_each_answer_its_reward(folder, tmp_path):
    model = gpt.GPT2(
        vocab_size=384, embed_dim=16, num_heads=2, num_layers=1, max_length=32, head=Reward()
    )
    params = jax.tree.map(lambda x: 5 * x, model.init(jax.random.key(3))["params"])
    state = state_from_params(params, model, optimizers.adamw(Constant(0.1)), Partitioner())
    checkpointer = checkpoints.Checkpointer(str(tmp_path / "reward"))
    checkpointer.save(state, 1, {}, {"seed": 0})
    checkpointer.close()
    (tmp_path / "reward" / "config.gin").write_text(REWARD_GIN)
    (tmp_path / "one.gin").write_text(ONE_ITERATION)
    files = [folder / "base.gin", "runs/align_reward_model.gin", tmp_path / "one.gin"]
    flags = ["align", *MODEL, *(f"--gin_file={file}" for file in files)]
    flags += [f"--gin.REWARD_MODEL={tmp_path}/reward", f"--gin.MODEL_DIR={tmp_path}/run"]
    assert cli.main([*flags, f"--gin.INITIAL_CHECKPOINT_PATH={folder}/begun"]) == 0
    lines = (tmp_path / "run" / "samples" / "1.jsonl").read_text().splitlines()
    rewards = [json.loads(line)["reward"] for line in lines]
    assert len(set(rewards)) > 8  # each answer's own
    (record,) = untimed(tmp_path / "run")
    np.testing.assert_allclose(record["reward"], np.mean(rewards), rtol=1e-5)


OTHER_VOCABULARY = """
import tasks
from tasks import forms
from tasks import sources
from tasks import vocabularies

TASK = @tasks.prompts()
tasks.prompts.name = 'others'
tasks.prompts.form = @forms.Prompt()
forms.Prompt.column = 'opened'
tasks.prompts.source = @sources.Brackets()
tasks.prompts.vocabulary = @vocabularies.ByteVocabulary()
vocabularies.ByteVocabulary.extra_ids = 7
"""


def test_a_reward_model_of_another_vocabulary_is_refused(folder, tmp_path, capsys):
    (tmp_path / "reward").mkdir()
    (tmp_path / "reward" / "config.gin").write_text(REWARD_GIN + OTHER_VOCABULARY)
    (tmp_path / "one.gin").write_text(ONE_ITERATION)
    files = [folder / "base.gin", "runs/align_reward_model.gin", tmp_path / "one.gin"]
    flags = ["align", *MODEL, *(f"--gin_file={file}" for file in files)]
    flags += [f"--gin.REWARD_MODEL={tmp_path}/reward", f"--gin.MODEL_DIR={tmp_path}/run"]
    assert cli.main([*flags, f"--gin.INITIAL_CHECKPOINT_PATH={folder}/begun"]) == 2
    said = capsys.readouterr().err
    assert "REWARD_MODEL was trained with another vocabulary than that of task 'brackets'" in said
    assert "extra_ids 125, not 7" in said


def test_a_model_that_does_not_learn_from_rewards_is_refused(flags, tmp_path, capsys):
    wrong = "align.align.model = @gpt.GPT2()\nalign.align.frozen = {}\n"
    kept = tmp_path / "wrong.gin"
    kept.write_text(f"from __gin__ import dynamic_registration\n{_IMPORTS}{wrong}")
    assert cli.main([*flags, f"--gin_file={kept}", f"--gin.MODEL_DIR={tmp_path}/run"]) == 2
    assert "a GPT2, which does not learn from rewards" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("REWARD=None", "needs one source of rewards: a function (REWARD) or a reward model"),
        ("MAX_NEW_TOKENS=40", "make rows of 47 tokens, but the model's max_length is 32"),
        ("alignment.PPO.minibatches=3", "BATCH_SIZE 16 is not divided by 3 minibatches"),
        ("align.align.model=@gpt.GPT2()", "but the loss of GPT2 reads those of no other"),
        ("align.align.frozen={}", "but the loss of ActorCritic reads those of ['reference']"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(flags, tmp_path, capsys, flag, said):
    name, _, value = flag.partition("=")
    kept = tmp_path / "wrong.gin"
    kept.write_text(f"from __gin__ import dynamic_registration\n{_IMPORTS}{name} = {value}\n")
    assert cli.main([*flags, f"--gin_file={kept}", f"--gin.MODEL_DIR={tmp_path}/run"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert said in line
    assert not (tmp_path / "run").exists()


_IMPORTS = "from models import gpt\nfrom t5x_like import align\nfrom t5x_like import alignment\n"
