"""ELMo from the command line: trained on a file of one's own, resumed, and asked for vectors."""

import json
import shutil

import numpy as np
import pytest

import tasks
from t5x_like import checkpoints, cli, load_run
from tasks import objectives, sources
from tasks.vocabularies import SpelledWordVocabulary
from tests.untimed import NO_TIMES

GIN = """
from __gin__ import dynamic_registration
import tasks
from tasks import sources

include 'tasks/unsupervised.gin'
include 'tasks/objectives/spelled_words.gin'
include 'tasks/vocabularies/spelled_words.gin'

MIXTURE_OR_TASK_NAME = 'spelled'
SOURCE = @sources.TextFiles()
sources.TextFiles.files = {files}
sources.TextFiles.separator = '\\n'
VOCABULARY_PATH = '{folder}/words.txt'
CACHE_DIR = '{folder}/cache'
"""


def sentences(count, seed=0):
    """A noun twice, so that either place tells the other, and a verb."""
    rng = np.random.default_rng(seed)
    nouns = [f"{first}{last}" for first in ("ba", "do", "ki", "lu") for last in ("n", "rt", "sk")]
    return [
        f"the {noun} {('sees', 'likes')[rng.integers(2)]} another {noun}"
        for noun in rng.choice(nouns, count)
    ]


@pytest.fixture(scope="module")
def flags(tmp_path_factory, write_cache):
    """Those of a task on a file of one's own."""
    folder = tmp_path_factory.mktemp("spelled")
    texts = {"train": sentences(2000), "validation": sentences(50, seed=1)}
    files = {split: f"{folder}/{split}.txt" for split in texts}
    for split, lines in texts.items():
        (folder / f"{split}.txt").write_text("\n".join(lines))
    (folder / "task.gin").write_text(GIN.format(files=files, folder=folder))
    task_gin = f"--gin_file={folder}/task.gin"
    words = ["--model_type=words", f"--out={folder}/words.txt", "--min_count=1"]
    assert cli.main(["vocab", task_gin, *words]) == 0
    task = tasks.unsupervised(
        "spelled",
        sources.TextFiles(files=files, separator="\n"),
        objective=objectives.SpelledWords(),
        vocabulary=SpelledWordVocabulary(f"{folder}/words.txt"),
    )
    write_cache(task, folder / "cache", texts)
    return [
        "--gin_file=models/elmo/tiny.gin",
        task_gin,
        "--gin_file=optimizers/adamw.gin",
        "--gin_file=runs/pretrain.gin",
        "--gin.TASK_FEATURE_LENGTHS={'targets': 24}",
        "--gin.BATCH_SIZE=8",
        "--gin.LEARNING_RATE=0.01",
        "--gin.WARMUP_STEPS=5",
        "--gin.train.train.tensorboard=False",
        "--gin.train.train.log_period=1",
    ]


@pytest.mark.slow
def test_it_learns_in_both_directions_resumes_and_embeds(flags, tmp_path):
    run = [*flags, "--gin.TRAIN_STEPS=40", "--gin.checkpoints.CheckpointPolicy.period=30",
           f"--gin.MODEL_DIR={tmp_path}"]  # fmt: skip

    def trained():
        assert cli.main(["train", *run]) == 0
        records = list(map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()))
        return records, checkpoints.load_metadata(str(tmp_path)) | NO_TIMES

    records, whole = trained()
    last = [record for record in records if record["split"] == "validation"][-1]
    for direction in ("forward", "backward"):
        # At best a noun by chance, a verb, and the noun again: (ln 12 + ln 2) / 6 words a
        # sentence; by the words' frequencies alone it would be 2.5.
        assert 0.5 < last[direction] < 1.8
    assert last["loss"] == pytest.approx(last["forward"] + last["backward"], rel=1e-5)
    shutil.rmtree(tmp_path / "checkpoints/40")
    assert trained()[1] == whole

    found = load_run(str(tmp_path))
    known, one, other, again = found.embed(["the ban", "the bans", "the bank", "the  ban"])
    assert known.shape == (128,)
    np.testing.assert_allclose(known, again, atol=1e-6)
    # Words that are not in the vocabulary have vectors of their own.
    for unknown in (known, other):
        assert np.abs(one - unknown).max() > 1e-3
    layers = found.predict(["the ban sees", "the"])["layers"]
    assert layers.shape[0] == 2 and layers.shape[2:] == (3, 128)


@pytest.mark.slow
def test_a_run_resumes_with_the_state_that_its_rows_had(flags, tmp_path):
    """The second half alone gives the losses, and every array, of the whole run."""
    run = [
        *flags,
        "--gin.elmo.ELMo.carries=True",
        "--gin.TRAIN_STEPS=18",
        "--gin.checkpoints.CheckpointPolicy.period=9",
        f"--gin.MODEL_DIR={tmp_path}",
    ]

    def trained():
        assert cli.main(["train", *run]) == 0
        lines = list(map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()))
        losses = {line["step"]: line["loss"] for line in lines if line["split"] == "train"}
        assert any(line["split"] == "validation" for line in lines)
        return losses, checkpoints.load_metadata(str(tmp_path)) | NO_TIMES

    whole, state = trained()
    assert "carry" in json.dumps(state)
    shutil.rmtree(tmp_path / "checkpoints/18")
    (tmp_path / "metrics.jsonl").unlink()
    again, same = trained()
    assert min(again) == 10
    assert again == {step: loss for step, loss in whole.items() if step > 9}
    assert same == state
    # A text at hand is whole, between both of its ends.
    assert load_run(str(tmp_path)).predict(["the ban"])["lengths"].tolist() == [4]


def test_documents_that_stay_whole_do_not_go_on(flags, tmp_path, capsys):
    run = ["--gin.TRAIN_STEPS=20", f"--gin.MODEL_DIR={tmp_path / 'run'}"]
    whole = ["--gin.elmo.ELMo.carries=True", "--gin.CONCATENATE=False"]
    assert cli.main(["train", *flags, *whole, *run]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "'contiguous_spelled_words' are the consecutive pieces of one text" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_vocabulary_that_does_not_spell_is_told_in_a_line(flags, tmp_path, capfd):
    plain = "--gin.VOCABULARY=@vocabularies.ByteVocabulary()"
    run = ["--gin.TRAIN_STEPS=20", f"--gin.MODEL_DIR={tmp_path / 'run'}"]
    assert cli.main(["train", *flags, plain, *run]) == 2
    # Of the process that was to build a cache.
    line = next(one for one in capfd.readouterr().err.splitlines() if "error:" in one)
    assert "SpelledWords reads words by their characters" in line
    assert "--gin_file=tasks/vocabularies/spelled_words.gin" in line
    assert not (tmp_path / "run").exists()


def test_a_decoder_of_words_refuses_its_batches_in_a_line(flags, tmp_path, capsys):
    run = ["--gin.TRAIN_STEPS=20", f"--gin.MODEL_DIR={tmp_path / 'run'}"]
    assert cli.main(["train", *flags, "--gin_file=models/lstm/tiny.gin", *run]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "'causal_language_model'" in line and "characters" in line


@pytest.mark.slow
def test_inspect_knows_its_size(capsys):
    assert cli.main(["inspect", "--gin_file=models/elmo/original.gin", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] - 513 * 793_728 == 93_600_864
