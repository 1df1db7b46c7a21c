"""From conversations to a reward model and to a decoder that follows preferences."""

import json

import numpy as np
import pytest

import tasks
from models.gpt import GPT2
from t5x_like import cli, load_run
from t5x_like.errors import UserError
from tasks import metrics, sources
from tests.t5x_like.evaluation.written_cache import write_cache

GIN = """
from __gin__ import dynamic_registration
from models import gpt
from t5x_like import train

include 'tasks/{task}_jsonl.gin'
include 'optimizers/adamw.gin'
include 'runs/{run}.gin'

{model} = @gpt.GPT2()
gpt.GPT2:
  vocab_size = 384
  embed_dim = 32
  num_heads = 2
  num_layers = 1
  max_length = 64
TRAIN_FILES = '{folder}/{task}.jsonl'
VALIDATION_FILES = '{folder}/{task}.jsonl'
CACHE_DIR = '{folder}/cache'
MODEL_DIR = '{folder}/{run}'
TASK_FEATURE_LENGTHS = {lengths}
BATCH_SIZE = 8
EVAL_PERIOD = 100
TRAIN_STEPS = {steps}
LEARNING_RATE = {rate}
WARMUP_STEPS = 2
INITIAL_CHECKPOINT_PATH = '{folder}/sft'
train.train.tensorboard = False
"""
QUESTIONS = [f"{a}{b}?" for a in "abcd" for b in "xyz"]


def asked(question):
    return [{"role": "user", "content": question}]


def source(path, *columns):
    return sources.JsonLines(files={"train": path, "validation": path}, columns=columns)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Replies are "yes" or "no"; people prefer "yes"."""
    folder = tmp_path_factory.mktemp("preferences")
    rows = {
        "chat": [
            {"messages": [*asked(q), {"role": "assistant", "content": word}]}
            for q in QUESTIONS
            for word in ("yes", "no")
        ],
        "comparisons": [
            {"prompt": asked(q), "completions": ["no", "yes"], "ranks": [1, 0]} for q in QUESTIONS
        ],
    }
    for name, lines in rows.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    chat = tasks.conversations("chat_jsonl", source(str(folder / "chat.jsonl"), "messages"))
    columns = ("prompt", "completions", "ranks")
    compared = tasks.comparisons(
        "comparisons_jsonl",
        source(str(folder / "comparisons.jsonl"), *columns),
        metrics=[metrics.pairwise_accuracy],
    )
    for task in (chat, compared):
        write_cache(task, folder / "cache")
    return folder


def trained(folder, run, task, lengths, steps, rate, *flags, model="MODEL"):
    values = {"folder": folder, "run": run, "task": task, "lengths": lengths, "steps": steps}
    path = folder / f"{run}.gin"
    path.write_text(GIN.format(**values, rate=rate, model=model))
    assert cli.main(["train", f"--gin_file={path}", *flags]) == 0
    return folder / run


@pytest.fixture(scope="module")
def sft(folder):
    fresh = "--gin.train.train.initial_checkpoint=None"
    return trained(folder, "sft", "chat", {"targets": 48}, 60, 1e-2, fresh)


PAIRS = {"inputs": 40, "answers": 2}


@pytest.mark.slow
def test_replies_are_learned_and_written(sft):
    run = load_run(str(sft))
    assert run.generate(["\n\nHuman: ax?\n\nAssistant:"], temperature=0.0)[0] in (" yes", " no")


@pytest.fixture(scope="module")
def rewarded(folder, sft):
    return trained(folder, "reward", "comparisons", PAIRS, 30, 1e-2)


@pytest.mark.slow
def test_of_several_replies_the_best_is_taken(sft, rewarded):
    prompts = [f"\n\nHuman: {question}\n\nAssistant:" for question in QUESTIONS[:2]]
    run = load_run(str(sft))
    found = run.best_of(prompts, load_run(str(rewarded)), samples=8)
    assert found["text"].tolist() == [" yes"] * 2 and (found["reward"] > found["mean_reward"]).all()
    # A rule is a judge too.
    found = run.best_of(prompts, lambda _, texts: [text == " no" for text in texts], samples=8)
    assert found["text"].tolist() == [" no"] * 2 and found["reward"].tolist() == [1, 1]


@pytest.mark.slow
def test_rewards_are_learned_of_comparisons(rewarded, sft, capsys):
    run_dir = rewarded
    assert cli.main(["eval", f"--gin_file={run_dir}/config.gin", "--gin_file=runs/eval.gin"]) == 0
    assert "pairwise_accuracy 100.0000" in capsys.readouterr().err
    lines = (run_dir / "eval/comparisons_jsonl/validation/30.jsonl").read_text().splitlines()
    found = json.loads(lines[0])
    assert found["targets"] == [1, 0] and found["predictions"][0] < found["predictions"][1]
    run = load_run(str(run_dir))
    prompt = "\n\nHuman: ax?\n\nAssistant:"
    apart = run.reward([" yes", " no"], [prompt, prompt])
    assert apart.dtype == np.float32 and apart[0] > apart[1]
    np.testing.assert_allclose(run.reward([f"{prompt} yes", f"{prompt} no"]), apart, rtol=1e-5)
    with pytest.raises(UserError, match="2 texts and 1 prompts"):
        run.reward([" yes", " no"], [prompt])
    with pytest.raises(UserError, match="gives no rewards"):
        load_run(str(sft)).reward(["a"])


@pytest.mark.slow
def test_preferences_are_learned_without_a_reward_model(folder, sft):
    run_dir = trained(folder, "dpo", "comparisons", PAIRS, 20, 1e-3, model="POLICY")
    policy = GPT2(vocab_size=384, embed_dim=32, num_heads=2, num_layers=1, max_length=64)
    run = load_run(str(run_dir))
    prompt = b"\n\nHuman: ax?\n\nAssistant: "
    batch = {"decoder_input_tokens": np.array([[0, *(3 + byte for byte in prompt)]])}
    before = policy.logits(load_run(str(sft)).params, batch)[0, -1]
    after = policy.logits(run.params, batch)[0, -1]
    yes, no = ord("y") + 3, ord("n") + 3
    assert after[yes] - after[no] > before[yes] - before[no] + 1
