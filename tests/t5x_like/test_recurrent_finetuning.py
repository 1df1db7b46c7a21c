"""ULMFiT's stages and GPT-1's head by their gin files: they train, and resume where stopped."""

import itertools
import json
import shutil

import numpy as np
import pytest

from t5x_like import checkpoints, cli, load_run
from tests.untimed import NO_TIMES

GOOD, BAD = ("fine", "warm", "witty"), ("dull", "flat", "cold")
SUBJECTS = ("the plot", "the cast", "the film", "the music")


def rows():
    """Opinions with their labels."""
    adjectives = itertools.chain(((word, 1) for word in GOOD), ((word, 0) for word in BAD))
    pairs = itertools.product(SUBJECTS, adjectives)
    return [(f"{subject} is {word}", label) for subject, (word, label) in pairs]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(f"{sentence}." for sentence, _ in rows() * 8))
    lines = [f"{sentence}\t{label}\n" for sentence, label in rows()]
    (tmp_path / "rows.tsv").write_text("".join(lines * 8))
    return tmp_path


def flags_of(folder):
    """Of the task of text, of that of labels, and of every run."""
    files = [f"--gin.{split}_FILES={folder}/{{}}" for split in ("TRAIN", "VALIDATION")]
    text = [
        "--gin_file=tasks/text_files.gin", "--gin_file=tasks/causal_lm.gin",
        files[0].format("text.txt"), "--gin.SEPARATOR=\n", "--gin.HELD_OUT=0.2",
        "--gin.TASK_FEATURE_LENGTHS={'targets': 64}",
    ]  # fmt: skip
    labels = [
        "--gin_file=tasks/classification_tsv.gin", *(flag.format("rows.tsv") for flag in files),
        "--gin.COLUMNS=['sentence', 'label']", "--gin.TEXTS=['sentence']",
        "--gin.LABELS=['0', '1']", "--gin.TASK_FEATURE_LENGTHS={'inputs': 32}",
    ]  # fmt: skip
    every = [
        f"--gin.CACHE_DIR={folder}/cache", "--gin.BATCH_SIZE=16",
        "--gin.train.train.tensorboard=False", "--gin.train.train.log_period=2",
    ]  # fmt: skip
    for flags in (text, labels):  # in this process: workers would each import TensorFlow
        task = [flag for flag in flags if "FEATURE_LENGTHS" not in flag]
        assert cli.main(["cache", *task, every[0], "--num_shards=1", "--num_workers=1"]) == 0
    return text, labels, every


def trained(run, steps, *flags):
    """Trains, stops after half of the steps and resumes; the records of all."""
    command = ["train", *flags, f"--gin.TRAIN_STEPS={steps}", f"--gin.MODEL_DIR={run}"]
    command += [f"--gin.checkpoints.CheckpointPolicy.period={steps // 2}"]
    assert cli.main(command) == 0
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    whole = checkpoints.load_metadata(str(run)) | NO_TIMES
    shutil.rmtree(run / f"checkpoints/{steps}")
    assert cli.main(command) == 0
    assert checkpoints.load_metadata(str(run)) | NO_TIMES == whole
    return [record for record in records if record["split"] == "train"]


@pytest.mark.slow
def test_ulmfits_three_stages_train_and_resume(folder):
    text, labels, every = flags_of(folder)
    model = ["--gin_file=models/lstm/tiny.gin", "--gin.DROPOUT_RATE=0.1", *every]
    stages = [
        ("pretrain", text, 8, []),
        ("language_model", text, 8, []),
        ("classifier", labels, 24, ["--gin.STEPS_PER_LAYER=4"]),
    ]
    losses, before = {}, []
    for name, task, steps, own in stages:
        stage = [f"--gin_file=runs/ulmfit/{name}.gin", *own, *before]
        records = trained(folder / name, steps, *model, *task, *stage)
        losses[name] = [record["loss"] for record in records]
        before = [f"--gin.INITIAL_CHECKPOINT_PATH={folder}/{name}"]
    assert losses["pretrain"][-1] < losses["pretrain"][0]
    # The second continues the first. In the third the table of words is unfrozen last, after half
    # of the steps.
    assert max(losses["language_model"]) < losses["pretrain"][0]
    last = load_run(str(folder / "classifier"))
    tuned, half = load_run(str(folder / "language_model")), load_run(str(folder / "classifier"), 12)
    words, at_half, at_last = (
        np.asarray(run.params["token_embedder"]["embedding"]) for run in (tuned, half, last)
    )
    np.testing.assert_array_equal(at_half, words)
    assert not np.array_equal(at_last, words)
    assert last.predict(["the plot is dull"])["label"][0] in "01"


@pytest.mark.slow
def test_a_decoder_with_gpt1s_head_trains_and_resumes(folder):
    text, labels, every = flags_of(folder)
    model = ["--gin_file=models/gpt1/tiny.gin", *every, "--gin_file=optimizers/gpt1_finetune.gin"]
    model += ["--gin.LEARNING_RATE=0.001"]
    trained(folder / "lm", 8, *model, *text, "--gin_file=runs/pretrain.gin")
    found = trained(
        folder / "head", 24, *model, *labels, "--gin_file=runs/finetune_decoder.gin",
        f"--gin.INITIAL_CHECKPOINT_PATH={folder}/lm",
    )  # fmt: skip
    # Half of the loss of the same rows' tokens is in it.
    last = found[-1]
    expected = last["head_loss"] + 0.5 * last["language_model_loss"]
    assert last["loss"] == pytest.approx(expected, rel=1e-5)
    assert last["loss"] < found[0]["loss"]
