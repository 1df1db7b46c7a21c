"""A head from training to what a person reads: measured, written as JSON lines, asked in Python."""

import json

import jax
import numpy as np
import pytest

import tasks
from models.bert import BERT
from models.heads import Classification, Regression
from t5x_like import cli, load_run
from t5x_like.cli import preflight
from t5x_like.data import DatasetConfig, cache_task, formats, open_evaluation
from t5x_like.errors import UserError
from t5x_like.evaluation.task import evaluate_params
from t5x_like.host import progress
from tasks import metrics, sources
from tests.t5x_like.evaluation.written_cache import write_cache

# The label is that of the second text.
SECOND = {"ee": "even", "oo": "odd"}
ROWS = [(a, b, label) for a in ("ab", "cd") for b, label in SECOND.items()] * 8
GIN = """
from __gin__ import dynamic_registration
from models import bert
from t5x_like import train

include 'tasks/classification_tsv.gin'
include 'optimizers/adamw.gin'
include 'runs/pretrain.gin'

MODEL = @bert.BERT()
bert.BERT:
  vocab_size = 384
  embed_dim = 16
  mlp_dim = 32
  num_heads = 2
  num_layers = 1
  max_length = 32
TRAIN_FILES = '{folder}/rows.tsv'
VALIDATION_FILES = '{folder}/rows.tsv'
CACHE_DIR = '{folder}/cache'
MODEL_DIR = '{folder}/run'
COLUMNS = ['first', 'second', 'label']
TEXTS = ['first', 'second']
LABELS = ['odd', 'even']
TASK_FEATURE_LENGTHS = {{'inputs': 12}}
BATCH_SIZE = 16
TRAIN_STEPS = 40
LEARNING_RATE = 0.03
WARMUP_STEPS = 2
train.train.tensorboard = False
"""


def task_of(path, **options):
    source = sources.TabSeparated(
        files={"train": str(path), "validation": str(path)}, columns=("first", "second", "label")
    )
    options = {"labels": ["odd", "even"], "metrics": [metrics.accuracy], **options}
    return tasks.labelled("classification_tsv", source, ["first", "second"], **options)


def write_rows(path, rows=ROWS):
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    write_cache(task_of(write_rows(folder / "rows.tsv")), folder / "cache")
    (folder / "run.gin").write_text(GIN.format(folder=folder))
    assert cli.main(["train", f"--gin_file={folder}/run.gin"]) == 0
    return folder / "run"


@pytest.mark.slow
def test_it_learns_and_eval_measures_the_labels(run_dir, capsys):
    config = f"--gin_file={run_dir}/config.gin"
    assert cli.main(["eval", config, "--gin_file=runs/eval.gin"]) == 0
    assert "accuracy 100.0000" in capsys.readouterr().err
    lines = (run_dir / "eval/classification_tsv/validation/40.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert len(found) == 32
    assert found[0]["inputs"] == "ab\tee"
    assert [one["targets"] for one in found] == [label for *_, label in ROWS]
    assert [one["predictions"] for one in found] == [label for *_, label in ROWS]
    assert all(0.5 < one["scores"] <= 1 for one in found)
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["accuracy"] == 100 and last["label_accuracy"] == 1
    assert last["batch_format"] == "sequence_classification" and last["rows"] == 32


def test_infer_writes_labels_of_lines_and_of_columns(run_dir, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("ab\tee\nab\too\n")
    (tmp_path / "in.jsonl").write_text('{"id": 7, "first": "ab", "second": "oo"}\n')
    flags = ["infer", f"--gin_file={run_dir}/config.gin", "--gin_file=runs/infer.gin"]
    for name in ("in.txt", "in.jsonl"):
        out = f"--gin.OUTPUT_PATH={tmp_path}/{name}.out"
        assert cli.main([*flags, f"--gin.INPUT_PATH={tmp_path}/{name}", out]) == 0
        # What is done is not done again.
        assert cli.main([*flags, f"--gin.INPUT_PATH={tmp_path}/{name}", out]) == 0
    first, second = map(json.loads, (tmp_path / "in.txt.out").read_text().splitlines())
    (third,) = map(json.loads, (tmp_path / "in.jsonl.out").read_text().splitlines())
    assert (first["inputs"], first["predictions"]) == ("ab\tee", "even")
    assert second["predictions"] == third["predictions"] == "odd"
    assert third["id"] == 7 and third["probabilities"] == pytest.approx(second["probabilities"])
    assert first["scores"] == max(first["probabilities"].values())
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    capsys.readouterr()
    (tmp_path / "bad.txt").write_text("ab\tee\nno tab\n")
    assert cli.main([*flags, f"--gin.INPUT_PATH={tmp_path}/bad.txt"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "bad.txt, line 2: found 1 text where the task reads a pair of texts, a tab" in line


@pytest.mark.slow
def test_a_run_predicts_and_embeds_texts(run_dir):
    run = load_run(str(run_dir))
    texts = [("ab", "ee"), "cd\toooo"]
    found = run.predict(texts)
    assert found["label"].tolist() == ["even", "odd"]
    assert found["lengths"].tolist() == [7, 9]  # with [CLS] and two [SEP]
    states = found["hidden_states"]
    np.testing.assert_allclose(run.embed(texts)[0], states[0, :7].mean(0), atol=1e-6)
    np.testing.assert_array_equal(run.embed(texts, "first"), states[:, 0])
    np.testing.assert_array_equal(run.embed(texts, "pooled"), found["pooled"])
    assert run.embed(texts).dtype == np.float32
    assert run.attention(texts)[1].encoder.shape[-1] == 9
    with pytest.raises(UserError, match="'mean', 'first' or 'pooled'"):
        run.embed(texts, "last")
    with pytest.raises(UserError, match="found 3 texts where the task reads a pair"):
        run.predict([("a", "b", "c")])
    with pytest.raises(UserError, match="no text was given"):
        run.predict([])
    with pytest.raises(UserError, match=r"texts\[1\] is nan where a text is needed"):
        run.predict([("a", "b"), np.nan])
    with pytest.raises(UserError, match=r"texts\[0\] has None where a text is needed"):
        run.embed([("a", None)])
    for ask in (run.generate, lambda texts: run.score(targets=texts)):
        with pytest.raises(UserError, match=r"BERT does not generate or score text.*predictions"):
            ask(["ab"])


@pytest.mark.slow
def test_fine_tuning_takes_all_but_the_head_of_another_run(run_dir, tmp_path):
    flags = [f"--gin_file={run_dir.parent}/run.gin", "--gin_file=runs/finetune_head.gin"]
    flags += [f"--gin.INITIAL_CHECKPOINT_PATH={run_dir}", f"--gin.MODEL_DIR={tmp_path}/tuned"]
    flags += ["--gin.TRAIN_STEPS=2", "--gin.LEARNING_RATE=1e-9"]
    assert cli.main(["train", *flags]) == 0
    before, after = load_run(str(run_dir)).params, load_run(f"{tmp_path}/tuned").params
    moved = {
        name: max(jax.tree.leaves(jax.tree.map(lambda a, b: abs(a - b).max(), *pair)))
        for name, pair in ((name, (before[name], after[name])) for name in before)
    }
    assert moved.pop("output_head") > 1e-2
    assert max(moved.values()) < 1e-6


def test_a_head_of_other_labels_is_refused_with_the_way_to_start_it_fresh(
    run_dir, tmp_path, capsys
):
    flags = [f"--gin_file={run_dir.parent}/run.gin", "--gin_file=runs/finetune.gin"]
    flags += [f"--gin.INITIAL_CHECKPOINT_PATH={run_dir}", f"--gin.MODEL_DIR={tmp_path}/tuned"]
    flags += ["--gin.heads.Classification.labels=['a', 'b', 'c']"]
    assert cli.main(["train", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'output_head/output/bias' is (2,) there and (3,) here" in line
    assert (
        "fresh with --gin.checkpoints.InitialCheckpoint.include=\"['^(?!(output_head)/)']\"" in line
    )


@pytest.mark.slow
def test_rows_without_a_label_are_predicted_and_not_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_FIRST_INTERVAL", 0.0)  # as of one that takes long
    rows = [("a", "b", "0.5"), ("a", "c", "9"), ("d", "b", "4"), ("d", "e", "2")]
    task = task_of(
        write_rows(tmp_path / "rows.tsv", rows), labels=None, unlabelled="9",
        metrics=[metrics.pearson_corrcoef, metrics.spearman_corrcoef],
    )  # fmt: skip
    write_cache(task, tmp_path)
    model = BERT(
        vocab_size=384, embed_dim=16, mlp_dim=32, num_heads=2, num_layers=1, head=Regression()
    )
    params = model.init(jax.random.key(0))["params"]
    dataset = DatasetConfig(task, {"inputs": 8}, tmp_path, "validation", batch_size=3)
    (result,) = evaluate_params(model, params, dataset)
    assert capsys.readouterr().err.count(f"{task.name} validation: 2 of 4 rows") == 2
    rows = result.predictions["prediction"]
    assert [one.targets for one in rows] == [0.5, None, 4.0, 2.0]
    found = [one.predictions for one in rows]
    known = [found[i] for i in (0, 2, 3)]
    expected = [0.5, 4.0, 2.0]
    assert result.values["loss"] == pytest.approx(
        np.mean(np.square(np.subtract(known, expected))), rel=1e-5
    )
    assert result.values["pearson_corrcoef"] == pytest.approx(
        100 * np.corrcoef(known, expected)[0, 1], abs=1e-3
    )
    assert rows[0].scores is None


def test_a_head_with_other_labels_than_the_task_is_refused_before_a_start(tmp_path):
    task = task_of(write_rows(tmp_path / "rows.tsv"))
    model = BERT(vocab_size=384, head=Classification(("even", "odd")))
    with pytest.raises(UserError, match="labels odd, even, but the model's head has even, odd"):
        preflight.check_labels(task, model)
    preflight.check_labels(task, model.clone(head=Classification(("odd", "even"))))
    with pytest.raises(UserError, match="have labels, but the model's head is for numbers"):
        preflight.check_labels(task, model.clone(head=Regression()))
    numbers = task_of(tmp_path / "rows.tsv", labels=None)
    with pytest.raises(UserError, match="have numbers, but the model's head is for labels"):
        preflight.check_labels(numbers, model)
    preflight.check_labels(numbers, model.clone(head=Regression()))


def test_a_batch_has_the_rows_with_their_types_and_labels(tmp_path):
    task = task_of(write_rows(tmp_path / "rows.tsv", [("a", "bc", "even"), ("d", "e", "odd")]))
    write_cache(task, tmp_path)
    dataset = DatasetConfig(task, {"inputs": 8}, tmp_path, "validation", batch_size=3)
    (each,) = open_evaluation(dataset, batch_format="sequence_classification")
    a, b, c, d, e = (ord(letter) + 3 for letter in "abcde")
    cls, sep = 382, 381
    assert {name: x.tolist() for name, x in each.batch.items()} == {
        "encoder_input_tokens": [
            [cls, a, sep, b, c, sep, 0, 0], [cls, d, sep, e, sep, 0, 0, 0], [0] * 8,
        ],
        "encoder_token_types": [[0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0], [0] * 8],
        "encoder_segment_ids": [[1] * 6 + [0] * 2, [1] * 5 + [0] * 3, [0] * 8],
        "label": [1, 0, 0],
        "label_weight": [1, 1, 0],
    }  # fmt: skip
    empty = formats.example_batch("sequence_regression", {"inputs": 8}, 2)
    assert empty["label"].dtype == np.float32 and empty["label_weight"].tolist() == [0, 0]


def test_texts_that_do_not_fit_a_row_are_counted(tmp_path, capsys):
    from t5x_like.data import open_dataset

    task = task_of(write_rows(tmp_path / "rows.tsv", [("abc", "de", "even"), ("a", "b", "odd")]))
    write_cache(task, tmp_path)
    dataset = DatasetConfig(task, {"inputs": 7}, tmp_path, batch_size=2, prefetch=0)
    open_dataset(dataset, batch_format="sequence_classification")
    assert (
        "1 of 2 examples have inputs and inputs_pair of more than 4 tokens (at most 5): trimmed"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_the_cache_command_writes_texts_and_labels(tmp_path):
    task = task_of(write_rows(tmp_path / "rows.tsv"))
    written, own = tmp_path / "written", tmp_path / "own"
    cache_task(task, written, num_workers=1, num_shards=1, progress=False)
    write_cache(task, own)
    batches = [
        next(
            iter(
                open_evaluation(
                    DatasetConfig(task, {"inputs": 8}, root, "validation"),
                    batch_format="sequence_classification",
                )
            )
        )
        for root in (written, own)
    ]
    for name, value in batches[0].batch.items():
        np.testing.assert_array_equal(value, batches[1].batch[name])
    assert batches[0].examples[0]["inputs_pair_pretokenized"] == b"ee"
