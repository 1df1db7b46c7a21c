"""LaMDA end to end: one decoder learns to write, to judge and to look up, and `infer` uses it."""

import json

import pytest

import tasks
from t5x_like import cli
from tasks import sources
from tests.t5x_like.evaluation.written_cache import write_cache

GIN = """
from __gin__ import dynamic_registration
from models import gpt
from t5x_like import train

include 'tasks/rated_responses_jsonl.gin'
include 'optimizers/adamw.gin'
include 'runs/sft.gin'

MODEL = @gpt.GPT2()
gpt.GPT2:
  vocab_size = 384
  embed_dim = 64
  num_heads = 2
  num_layers = 2
  max_length = 128
COLUMNS = ['context', 'response', 'ratings', 'research']
RESEARCH = 'research'
TRAIN_FILES = '{folder}/rated.jsonl'
VALIDATION_FILES = '{folder}/rated.jsonl'
CACHE_DIR = '{folder}/cache'
MODEL_DIR = '{folder}/run'
TASK_FEATURE_LENGTHS = {{'inputs': 100, 'targets': 28}}
BATCH_SIZE = 8
EVAL_PERIOD = 1000
TRAIN_STEPS = 150
LEARNING_RATE = 5e-3
WARMUP_STEPS = 5
train.train.initial_checkpoint = None
train.train.tensorboard = False
"""
COLUMNS = ("context", "response", "ratings", "research")
QUESTIONS = [f"{a}{b}?" for a in "abcd" for b in "xyz"]
# "yes" alone is sensible and safe, and is what is looked up.
RESPONSES = {
    "yes": ({"SENSIBLE": 1, "UNSAFE": 0}, ["1 + 1", "2", "yes"]),
    "no": ({"SENSIBLE": 0, "UNSAFE": 0}, []),
    "ha": ({"SENSIBLE": 1, "UNSAFE": 1}, []),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rated")
    rows = [
        {"context": question, "response": response, "ratings": ratings, "research": research}
        for question in QUESTIONS
        for response, (ratings, research) in RESPONSES.items()
    ]
    (folder / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"context": question} for question in QUESTIONS[:3]]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    path = str(folder / "rated.jsonl")
    lines = sources.JsonLines(files={"train": path, "validation": path}, columns=COLUMNS)
    source = sources.RatedResponses(lines, research="research")
    write_cache(tasks.rated_responses("rated_responses_jsonl", source), folder / "cache")
    (folder / "run.gin").write_text(GIN.format(folder=folder))
    assert cli.main(["train", f"--gin_file={folder}/run.gin"]) == 0
    return folder


def answers(folder, name, *flags):
    arguments = [
        "infer", f"--gin_file={folder}/run/config.gin", "--gin_file=runs/infer.gin",
        f"--gin.INPUT_PATH={folder}/asked.jsonl", f"--gin.OUTPUT_PATH={folder}/{name}.jsonl",
        "--gin.MAX_NEW_TOKENS=16", *flags,
    ]  # fmt: skip
    assert cli.main(arguments) == 0
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_of_what_is_drawn_the_sensible_and_safe_is_answered(folder):
    ranked = "--gin_file=runs/generation/sample_and_rank.gin"
    weights = "--gin.WEIGHTS={'SENSIBLE': 3.0}"
    found = answers(folder, "ranked", ranked, weights, "--gin.SAMPLES=8")
    assert [one["predictions"] for one in found] == [" yes"] * 3
    for one in found:
        judged = dict(zip(one["samples"], one["sample_ratings"], strict=True))
        assert set(judged) & {" no", " ha"}  # or nothing was to choose
        for text, (ratings, _) in RESPONSES.items():
            if (own := judged.get(f" {text}")) is not None:
                assert (own["SENSIBLE"] > 0.5) == (ratings["SENSIBLE"] == 1)
                assert (own["UNSAFE"] > 0.5) == (ratings["UNSAFE"] == 0)


@pytest.mark.slow
def test_what_was_drafted_is_looked_up(folder):
    (folder / "notes.txt").write_text("Nothing of this.")
    notes = f"--gin.KNOWLEDGE_FILES={folder}/notes.txt"
    ranked = "--gin_file=runs/generation/sample_and_rank.gin"
    found = answers(folder, "looked_up", "--tools", notes, ranked, "--gin.SAMPLES=4",
                    "--gin.WEIGHTS={'SENSIBLE': 3.0}")  # fmt: skip
    lines = [(one["draft"], one["queries"], one["predictions"]) for one in found]
    consulted = [{"query": "1 + 1", "results": ["2"]}]
    assert lines.count(("yes", consulted, "yes")) >= 2
    # What is there is not asked again, and other settings are refused.
    assert answers(folder, "looked_up", "--tools", notes, ranked, "--gin.SAMPLES=4",
                   "--gin.WEIGHTS={'SENSIBLE': 3.0}") == found  # fmt: skip
