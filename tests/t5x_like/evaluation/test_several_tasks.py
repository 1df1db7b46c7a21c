"""Several tasks of a user's own TSV files, learned together: from gin to labels of each."""

import json
import shutil

import numpy as np
import pytest

from t5x_like import cli, load_run
from t5x_like.errors import UserError

GIN = """
from __gin__ import dynamic_registration

import tasks
from models import heads
from models import mt_dnn
from t5x_like import data
from t5x_like import train
from tasks import metrics
from tasks import sources
from tasks import vocabularies

include 'optimizers/adamw.gin'
include 'runs/pretrain.gin'

MODEL = @mt_dnn.MTDNN()
mt_dnn.MTDNN:
  vocab_size = 384
  embed_dim = 32
  mlp_dim = 64
  num_heads = 2
  num_layers = 1
  max_length = 16
  heads = {{
      'mood': @heads.Classification(),
      'same': @heads.PairClassification(),
      'likeness': @heads.Regression(),
      'answers': @heads.Ranking(),
  }}
  tasks = {{'same_pairs': 'same'}}
heads.Classification.labels = ['bad', 'good']
heads.PairClassification.labels = ['no', 'yes']
heads.PairClassification.steps = 2

MIXTURE_OR_TASK_NAME = 'several'
TASK = @tasks.Mixture()
tasks.Mixture.name = 'several'
tasks.Mixture.tasks = [
    (@mood/tasks.labelled(), 1.0),
    (@same/tasks.labelled(), 1.0),
    (@likeness/tasks.labelled(), 1.0),
    (@answers/tasks.ranked(), 1.0),
]
data.DatasetConfig.mixing = @data.OneTaskBatches()
tasks.labelled.vocabulary = @vocabularies.ByteVocabulary()

mood/tasks.labelled:
  name = 'mood'
  source = @mood/sources.TabSeparated()
  texts = ['text']
  labels = ['0', '1']
  label_names = ['bad', 'good']
  metrics = [@metrics.accuracy]
mood/sources.TabSeparated:
  files = {{'train': '{folder}/mood.tsv', 'validation': '{folder}/mood.tsv'}}
  columns = ['text', 'label']

same/tasks.labelled:
  name = 'same_pairs'
  source = @same/sources.TabSeparated()
  texts = ['first', 'second']
  labels = ['no', 'yes']
  metrics = [@metrics.accuracy]
same/sources.TabSeparated:
  files = {{'train': '{folder}/same.tsv', 'validation': '{folder}/same.tsv'}}
  columns = ['first', 'second', 'label']

likeness/tasks.labelled:
  name = 'likeness'
  source = @likeness/sources.TabSeparated()
  texts = ['first', 'second']
  metrics = [@metrics.pearson_corrcoef]
likeness/sources.TabSeparated:
  files = {{'train': '{folder}/likeness.tsv', 'validation': '{folder}/likeness.tsv'}}
  columns = ['first', 'second', 'label']

answers/tasks.ranked:
  name = 'answers'
  source = @sources.Candidates()
  metrics = [@metrics.accuracy]
sources.Candidates.source = @answers/sources.TabSeparated()
answers/sources.TabSeparated:
  files = {{'train': '{folder}/answers.tsv', 'validation': '{folder}/answers.tsv'}}
  columns = ['question', 'sentence', 'label']

CACHE_DIR = '{folder}/cache'
MODEL_DIR = '{folder}/run'
TASK_FEATURE_LENGTHS = {{'inputs': 12}}
BATCH_SIZE = 16
TRAIN_STEPS = 120
LEARNING_RATE = 0.01
WARMUP_STEPS = 2
train.train.tensorboard = False
train.train.log_period = 1
"""

# What is to be learned of each is the last letter.
ROWS = {
    "mood": [f"{a}{b}{'xy'[i]}\t{i}" for a in "abc" for b in "ab" for i in (0, 1)] * 4,
    "same": [f"{a}\t{b}{'xy'[i]}\t{('no', 'yes')[i]}" for a in "abc" for b in "ab" for i in (0, 1)]
    * 4,
    "likeness": [f"{a}\t{b}\t{4.5 if b == 'y' else 0.5}" for a in "abc" for b in "xy"] * 4,
    "answers": [f"q{a}{b}\t{'xy'[i]}\t{i}" for a in "abcdef" for b in "ab" for i in (0, 1)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    for name, rows in ROWS.items():
        (folder / f"{name}.tsv").write_text("".join(f"{row}\n" for row in rows))
    (folder / "run.gin").write_text(GIN.format(folder=folder))
    gin = f"--gin_file={folder}/run.gin"
    assert cli.main(["cache", gin, "--num_shards=1", "--num_workers=1"]) == 0
    assert cli.main(["train", gin]) == 0
    return folder


def records(folder, name="run"):
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_each_task_is_learned_in_batches_of_its_own_and_measured(folder):
    steps = [one for one in records(folder) if one["split"] == "train"]
    heads = {"mood", "same", "likeness", "answers"}
    assert len(steps) == 120
    assert all(len(heads & one.keys()) == 1 for one in steps)
    # 48, 48, 24 and 12 rows make 3, 3, 2 and 1 batches of 16: 120 steps are 13 epochs and a third.
    counts = {name: sum(name in one for one in steps) for name in heads}
    assert 39 <= counts["mood"] <= 42 and 13 <= counts["answers"] <= 14
    flags = [f"--gin_file={folder}/run/config.gin", "--gin_file=runs/eval.gin"]
    assert cli.main(["eval", *flags]) == 0
    found = {one["task"]: one for one in records(folder) if "task" in one}
    assert found.keys() == {"mood", "same_pairs", "likeness", "answers", "several"}
    for task in ("mood", "same_pairs", "answers"):
        assert found[task]["accuracy"] > 90
    assert found["likeness"]["pearson_corrcoef"] > 90
    lines = (folder / "run/eval/answers/validation/120.jsonl").read_text().splitlines()
    assert len(lines) == 12 and json.loads(lines[0])["inputs"].count("\t") == 2


@pytest.mark.slow
def test_each_task_can_be_asked(folder, tmp_path, capsys):
    run = load_run(f"{folder}/run")
    assert run.predict(["aax", "abay"], task="mood")["label"].tolist() == ["bad", "good"]
    pairs = [("a", "bx"), ("a", "by")]
    assert run.predict(pairs, task="same_pairs")["label"].tolist() == ["no", "yes"]
    scores = run.predict([("a", "x"), ("a", "y")], task="likeness")["score"]
    np.testing.assert_allclose(scores, (0.5, 4.5), atol=1)
    assert run.embed(["aax"], task="mood").shape == (1, 32)
    with pytest.raises(UserError, match="a head for each of mood, same_pairs, likeness, answers"):
        run.predict(["aax"])
    with pytest.raises(UserError, match="task is 'moods': the run learns mood, same_pairs"):
        run.predict(["aax"], task="moods")
    (tmp_path / "in.txt").write_text("aax\naay\n")
    flags = ["infer", f"--gin_file={folder}/run/config.gin", "--gin_file=runs/infer.gin"]
    flags += [f"--gin.INPUT_PATH={tmp_path}/in.txt", f"--gin.OUTPUT_PATH={tmp_path}/out.jsonl"]
    assert cli.main([*flags, "--gin.TASK=@mood/tasks.labelled()"]) == 0
    lines = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert [line["predictions"] for line in lines] == ["bad", "good"]
    capsys.readouterr()
    assert cli.main(flags) == 2
    assert "choose one of them, with MIXTURE_OR_TASK_NAME" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_goes_on_with_the_batches_that_it_would_have_had(folder):
    flags = ["train", f"--gin_file={folder}/run.gin", f"--gin.MODEL_DIR={folder}/again"]
    flags += ["--gin.TRAIN_STEPS=30", "--gin.checkpoints.CheckpointPolicy.period=15"]

    def losses():
        assert cli.main(flags) == 0
        found = [one for one in records(folder, "again") if one["split"] == "train"]
        return {one["step"]: one["loss"] for one in found}

    whole = losses()
    shutil.rmtree(folder / "again/checkpoints/30")
    (folder / "again/metrics.jsonl").unlink()
    again = losses()
    assert min(again) == 16 and again == {step: x for step, x in whole.items() if step > 15}


@pytest.mark.slow
def test_a_task_without_a_head_is_refused_before_a_start(folder, capsys):
    flags = ["train", f"--gin_file={folder}/run.gin", f"--gin.MODEL_DIR={folder}/other"]
    capsys.readouterr()
    assert cli.main([*flags, "--gin.mt_dnn.MTDNN.tasks={}"]) == 2
    assert "no head for the task 'same_pairs'" in capsys.readouterr().err
    assert cli.main([*flags, "--gin.mt_dnn.MTDNN.tasks={'same_pairs': 'likeness'}"]) == 2
    assert "'same_pairs' have labels, but the model's head is for numbers" in (
        capsys.readouterr().err
    )
    assert not (folder / "other").exists()
