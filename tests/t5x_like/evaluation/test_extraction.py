"""Answers in texts from training to what a person reads: measured, written, asked in Python."""

import json

import jax
import numpy as np
import pytest

import tasks
from models.bert import BERT
from models.heads import Spans
from t5x_like import cli, load_run
from t5x_like.cli import preflight
from t5x_like.data import DatasetConfig, cache_task, open_dataset, open_evaluation
from t5x_like.data.cache import layout
from t5x_like.data.cache.example_proto import encode_example
from t5x_like.data.cache.tfrecord import write_records
from t5x_like.data.examples import sample_of
from t5x_like.data.records import open_records
from t5x_like.errors import UserError
from t5x_like.evaluation import Extraction, Loss, Overlap
from t5x_like.evaluation.clean_parts import example_text
from t5x_like.evaluation.task import evaluate_params
from t5x_like.host import progress
from tasks import forms, metrics, objectives, sources
from tests.t5x_like.evaluation.test_clean_parts import flagged

LENGTHS = {"inputs": 16}
WINDOWS = objectives.SpanWindows(stride=4, question_length=2)


def texts(count=24):
    """Small letters with a capital among them, or none: the capital is the answer."""
    rng = np.random.default_rng(0)
    for i in range(count):
        letters = rng.choice(list("abcdefgh"), size=int(rng.integers(3, 26)))
        answers = []
        if i % 4:
            place = int(rng.integers(letters.size))
            letters[place] = rng.choice(list("XYZ"))
            answers = [{"text": str(letters[place]), "answer_start": place}]
        yield {"id": f"q{i}", "question": "ü?", "context": "".join(letters), "answers": answers}


ROWS = list(texts())
GIN = """
from __gin__ import dynamic_registration
from models import bert
from t5x_like import train
from tasks import objectives

include 'tasks/spans_jsonl.gin'
include 'tasks/spans_unanswerable.gin'
include 'optimizers/adamw.gin'
include 'runs/pretrain.gin'

MODEL = @bert.BERT()
bert.BERT:
  vocab_size = 384
  embed_dim = 16
  mlp_dim = 32
  num_heads = 2
  num_layers = 1
  max_length = 16
TRAIN_FILES = '{folder}/rows.jsonl'
VALIDATION_FILES = '{folder}/rows.jsonl'
CACHE_DIR = '{folder}/cache'
MODEL_DIR = '{folder}/run'
COLUMNS = ['id', 'question', 'context', 'answers']
ID = 'id'
TASK_FEATURE_LENGTHS = {{'inputs': 16}}
DOC_STRIDE = 4
objectives.SpanWindows.question_length = 2
BATCH_SIZE = 32
TRAIN_STEPS = 40
LEARNING_RATE = 0.03
WARMUP_STEPS = 2
train.train.tensorboard = False
"""


def task_of(path, **options):
    source = sources.JsonLines(
        files={"train": str(path), "validation": str(path)},
        columns=("id", "question", "context", "answers"),
    )
    form = forms.Spans(id="id", unanswerable=True, **options)
    measured = [metrics.squad2, metrics.squad2_best_threshold]
    return tasks.spans("spans_jsonl", source, form, WINDOWS, metrics=measured)


def write_cache(task, cache_dir):
    """What `t5x-like cache` makes, without TensorFlow."""
    folder = layout.cache_path(cache_dir, task.cache_name)
    folder.mkdir(parents=True)
    vocabulary = task.output_features["inputs"].vocabulary
    numbers = ("inputs", "inputs_pair", "inputs_pair_begins", "inputs_pair_ends",
               "answer_begins", "answer_ends")  # fmt: skip
    for split in task.splits:
        records = []
        for example in task.examples(split):
            ids, offsets = vocabulary.encode_with_offsets(example["inputs_pair"])
            begins, ends = np.array(offsets).reshape(-1, 2).T
            values = {
                "inputs": vocabulary.encode(example["inputs"]),
                "inputs_pair": ids,
                "inputs_pair_begins": begins,
                "inputs_pair_ends": ends,
                "answer_begins": example["answer_begins"],
                "answer_ends": example["answer_ends"],
            }
            text = {f"{n}_pretokenized": example[n] for n in ("inputs", "inputs_pair")}
            made = {name: np.array(values[name], np.int32) for name in numbers} | text
            made |= {"answers": [a.encode() for a in example["answers"]], "id": example["id"]}
            records.append(encode_example(made))
        write_records(layout.shard_path(folder, split, 0, 1), records)
        features = {name: {"shape": [None], "dtype": "int32"} for name in numbers}
        features |= {n: {"shape": [], "dtype": "string"} for n in (*text, "id")}
        features["answers"] = {"shape": [None], "dtype": "string"}
        layout.write_json(layout.info_path(folder, split), {"num_shards": 1, "features": features})
        layout.write_json(layout.stats_path(folder, split), {"examples": len(records)})
    feature = {"dtype": "int32", "rank": 1, "add_eos": False, "vocabulary": vocabulary.spec()}
    description = {"features": {"inputs": feature}, "fingerprint": task.fingerprint()}
    layout.write_json(layout.task_path(folder), description)
    (folder / layout.COMPLETED).touch()


def write_rows(path, rows=None):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or ROWS))
    return path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spans")
    write_cache(task_of(write_rows(folder / "rows.jsonl")), folder / "cache")
    (folder / "run.gin").write_text(GIN.format(folder=folder))
    assert cli.main(["train", f"--gin_file={folder}/run.gin"]) == 0
    return folder / "run"


@pytest.mark.slow
def test_it_learns_and_eval_measures_the_answers_of_all_rows_of_a_text(run_dir, capsys):
    config = f"--gin_file={run_dir}/config.gin"
    assert cli.main(["eval", config, "--gin_file=runs/eval.gin"]) == 0
    assert "em 100.0000" in capsys.readouterr().err
    lines = (run_dir / "eval/spans_jsonl/validation/40.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["id"] for one in found] == [row["id"] for row in ROWS]
    for one, row in zip(found, ROWS, strict=True):
        (answer,) = row["answers"] or [None]
        assert one["inputs"] == f"{row['question']}\t{row['context']}"
        assert one["targets"] == [a["text"] for a in row["answers"]]
        assert one["predictions"] == (answer["text"] if answer else "")
        begin = answer and answer["answer_start"]
        assert one["span"] == (answer and [begin, begin + 1])
        assert 0 < one["scores"] <= 1
        assert (one["null_score_difference"] < 0) == bool(answer)
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["em_has_answer"] == last["em_no_answer"] == last["best_em"] == 100
    assert last["span_accuracy"] == 1 and last["batch_format"] == "span_extraction"
    assert last["rows"] > len(ROWS)  # windows


@pytest.mark.slow
def test_infer_writes_spans_of_lines_and_of_columns(run_dir, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("ü?\tabXcd\nü?\tabcd\n")
    context = "é\tab\n" * 6 + "Y" + "cd" * 4
    row = {"n": 7, "question": "ü?", "context": context}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    flags = ["infer", f"--gin_file={run_dir}/config.gin", "--gin_file=runs/infer.gin"]
    for name in ("in.txt", "in.jsonl"):
        out = f"--gin.OUTPUT_PATH={tmp_path}/{name}.out"
        assert cli.main([*flags, f"--gin.INPUT_PATH={tmp_path}/{name}", out]) == 0
        # What is done is not done again.
        assert cli.main([*flags, f"--gin.INPUT_PATH={tmp_path}/{name}", out]) == 0
    first, second = map(json.loads, (tmp_path / "in.txt.out").read_text().splitlines())
    (third,) = map(json.loads, (tmp_path / "in.jsonl.out").read_text().splitlines())
    assert (first["predictions"], first["span"]) == ("X", [2, 3])
    assert (second["predictions"], second["span"]) == ("", None)
    assert third["n"] == 7 and context[slice(*third["span"])] == third["predictions"] == "Y"
    assert (
        third["scores"]
        == third["n_best"][0]["score"]
        == max(one["score"] for one in third["n_best"])
    )
    assert "null_threshold 0.0" in first["decoding"]
    capsys.readouterr()
    # Answers of another rule are not continued.
    other = [*flags, "--gin.NULL_THRESHOLD=2.5", f"--gin.INPUT_PATH={tmp_path}/in.txt"]
    assert cli.main([*other, f"--gin.OUTPUT_PATH={tmp_path}/in.txt.out"]) == 2
    assert "null_threshold 2.5" in capsys.readouterr().err
    (tmp_path / "bad.txt").write_text("no tab\n")
    assert cli.main([*flags, f"--gin.INPUT_PATH={tmp_path}/bad.txt"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "bad.txt, line 1: found 1 text where the task reads a question and a text" in line


@pytest.mark.slow
def test_a_run_answers_in_python(run_dir):
    run = load_run(str(run_dir))
    long = "abcdefgh" * 5 + "Z" + "abcdefgh" * 3
    found = run.predict([("ü?", "abXcd"), "ü?\tabcd", ("ü?", long)])
    assert found["answer"].tolist() == ["X", "", "Z"]
    assert found["span"].tolist() == [[2, 3], [-1, -1], [40, 41]]
    assert found["span"].dtype == np.int32 and found["probability"].dtype == np.float32
    assert (found["null_score_difference"] < 0).tolist() == [True, False, True]
    with pytest.raises(UserError, match="found 3 texts where the task reads a question"):
        run.predict([("a", "b", "c")])


@pytest.mark.slow
def test_a_high_threshold_gives_no_answer_and_leaves_the_best_one_said(run_dir, capsys):
    config = f"--gin_file={run_dir}/config.gin"
    flags = ["eval", config, "--gin_file=runs/eval.gin", "--gin.NULL_THRESHOLD=1e6"]
    assert cli.main([*flags, f"--gin.EVAL_OUTPUT_DIR={run_dir.parent}/other"]) == 0
    last = json.loads((run_dir.parent / "other/metrics.jsonl").read_text().splitlines()[-1])
    assert last["em_has_answer"] == 0 and last["em_no_answer"] == 100
    assert last["best_em"] == 100 and abs(last["best_em_null_threshold"]) < 100


@pytest.mark.slow
def test_a_limit_takes_whole_questions(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_FIRST_INTERVAL", 0.0)  # as of one that takes long
    task = task_of(write_rows(tmp_path / "rows.jsonl"))
    write_cache(task, tmp_path)
    dataset = DatasetConfig(task, LENGTHS, tmp_path, "validation", batch_size=5)
    split = open_evaluation(dataset, batch_format="span_extraction", limit=6)
    indices = [index for each in split for index in each.indices]
    whole = open_evaluation(dataset, batch_format="span_extraction")
    numbers = [whole.example_of(index) for index in range(whole.num_examples)]
    # One of each sixth of 24, with all of their rows.
    drawn = sample_of(6, 24)
    assert indices == [i for i, number in enumerate(numbers) if number in drawn]
    assert split.measured == len(indices) < whole.measured == whole.num_examples
    shards = [
        open_evaluation(dataset, batch_format="span_extraction", limit=6, shard_index=i,
                        shard_count=5)
        for i in range(5)
    ]  # fmt: skip
    assert sorted(i for shard in shards for each in shard for i in each.indices) == indices
    model = BERT(vocab_size=384, embed_dim=8, mlp_dim=8, num_heads=1, num_layers=1,
                 max_length=16, head=Spans(0.0))  # fmt: skip
    params = model.init(jax.random.key(0))["params"]
    (result,) = evaluate_params(model, params, dataset, max_rows=6)
    said = f"{task.name} validation: {len(indices) // len(split)} of {len(indices)} rows"
    assert capsys.readouterr().err.count(said) == 2  # of the loss, and of the answers
    rows = result.predictions["extraction"]
    assert [one.id for one in rows] == [f"q{number}" for number in drawn]
    assert result.values["rows"] == len(indices)

    records = open_records(dataset, ())
    texts = [example_text(record, task.output_features) for record in records]
    flagged(tmp_path, task.name, texts, [texts[drawn[1]]])
    overlap = Overlap(str(tmp_path))
    (parts,) = evaluate_params(
        model, params, dataset, measurements=[Extraction(), Loss()], max_rows=6, overlap=overlap
    )
    assert (parts.values["clean/rows"], parts.values["dirty/rows"]) == (5, 1)
    assert parts.values["dirty/f1"] == metrics.squad([rows[1].targets], [rows[1].predictions])["f1"]
    assert {"clean/f1", "clean/loss", "dirty/loss"} < parts.values.keys()


def test_a_batch_has_rows_of_windows_and_the_places_of_answers(tmp_path):
    rows = [
        {"id": "a", "question": "x", "context": "abcdefghijklX",
         "answers": [{"text": "X", "answer_start": 12}]},
        {"id": "b", "question": "xyz", "context": "é", "answers": []},
    ]  # fmt: skip
    task = task_of(write_rows(tmp_path / "rows.jsonl", rows))
    write_cache(task, tmp_path)
    dataset = DatasetConfig(task, LENGTHS, tmp_path, "validation", batch_size=4)
    (each,) = open_evaluation(dataset, batch_format="span_extraction")
    cls, sep = 382, 381

    def ids(text):
        return [byte + 3 for byte in text.encode()]

    # 12 of the 16 tokens are the text's beside one of the question.
    expected = [
        [cls, *ids("x"), sep, *ids("abcdefghijkl"), sep],
        [cls, *ids("x"), sep, *ids("efghijklX"), sep],
        [cls, *ids("xy"), sep, *ids("é"), sep],
        [],
    ]
    tokens = each.batch["encoder_input_tokens"]
    assert tokens.tolist() == [row + [0] * (16 - len(row)) for row in expected]
    assert each.batch["span_start"].tolist() == each.batch["span_end"].tolist() == [0, 11, 0, 0]
    assert each.batch["span_weight"].tolist() == [1, 1, 1, 0]
    assert each.batch["encoder_token_types"].sum(axis=1).tolist() == [13, 10, 3, 0]
    assert each.examples[2]["char_begins"].tolist() == [-1] * 4 + [0, 0, -1]
    assert {x.dtype for x in each.batch.values()} == {np.dtype(np.int32)}


def test_a_question_that_is_too_long_is_counted(tmp_path, capsys):
    rows = [{**ROWS[0], "question": "abc"}, ROWS[1], ROWS[2] | {"question": "a"}]
    task = task_of(write_rows(tmp_path / "rows.jsonl", rows))
    write_cache(task, tmp_path)
    dataset = DatasetConfig(task, LENGTHS, tmp_path, batch_size=2, prefetch=0)
    open_dataset(dataset, batch_format="span_extraction")
    # "ü?" has three bytes.
    assert (
        "2 of 3 examples have inputs of more than 2 tokens (at most 3)" in capsys.readouterr().err
    )


def test_training_sees_every_row_of_an_epoch_once(tmp_path):
    task = task_of(write_rows(tmp_path / "rows.jsonl", ROWS[:6]))
    write_cache(task, tmp_path)
    dataset = DatasetConfig(task, LENGTHS, tmp_path, batch_size=1, prefetch=0)
    whole = open_evaluation(dataset, batch_format="span_extraction")
    expected = sorted(each.batch["encoder_input_tokens"].tobytes() for each in whole)
    batches = open_dataset(dataset, batch_format="span_extraction")
    seen = [next(batches)["encoder_input_tokens"].tobytes() for _ in range(len(expected))]
    assert sorted(seen) == expected != seen


def test_a_head_that_always_answers_is_refused_where_there_may_be_no_answer(tmp_path):
    task = task_of(write_rows(tmp_path / "rows.jsonl"))
    model = BERT(vocab_size=384, head=Spans())
    with pytest.raises(UserError, match="questions without an answer, but the model's head always"):
        preflight.check_answers(task, model)
    preflight.check_answers(task, model.clone(head=Spans(0.0)))


@pytest.mark.slow
def test_the_cache_command_writes_places_of_tokens_and_of_answers(tmp_path):
    task = task_of(write_rows(tmp_path / "rows.jsonl", [*ROWS[:3], ROWS[0] | {"context": "é ü"}]))
    written, own = tmp_path / "written", tmp_path / "own"
    cache_task(task, written, num_workers=1, num_shards=1, progress=False)
    write_cache(task, own)
    both = [
        list(
            open_evaluation(
                DatasetConfig(task, LENGTHS, root, "validation"), batch_format="span_extraction"
            )
        )
        for root in (written, own)
    ]
    for first, second in zip(*both, strict=True):
        for name, value in first.batch.items():
            np.testing.assert_array_equal(value, second.batch[name])
        for a, b in zip(first.examples, second.examples, strict=True):
            assert a["id"] == b["id"] and list(a["answers"]) == list(b["answers"])
            np.testing.assert_array_equal(a["char_begins"], b["char_begins"])
