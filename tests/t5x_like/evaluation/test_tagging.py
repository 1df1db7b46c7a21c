"""Tags of words from training to what a person reads, and choices likewise."""

import json

import jax
import numpy as np
import pytest

import tasks
from models.bert import BERT
from models.heads import MultipleChoice, Tagging
from t5x_like import cli, load_run
from t5x_like.data import DatasetConfig, cache_task, formats, open_evaluation
from t5x_like.errors import UserError
from t5x_like.evaluation.prediction import TextReader
from t5x_like.evaluation.task import evaluate_params
from tasks import metrics, sources
from tests.t5x_like.evaluation.written_cache import write_cache

# "ax" begins a name, which "by" continues; "by" by itself is no name.
SENTENCES = [
    ("we ax by", "O B-x I-x"), ("by ax", "O B-x"), ("ax by we by", "B-x I-x O O"), ("we", "O"),
    ("we by", "O O"), ("ax ax", "B-x B-x"),
] * 6  # fmt: skip
GIN = """
from __gin__ import dynamic_registration
from models import bert
from t5x_like import train

include 'tasks/tagging_tsv.gin'
include 'optimizers/adamw.gin'
include 'runs/pretrain.gin'

MODEL = @bert.BERT()
bert.BERT:
  vocab_size = 384
  embed_dim = 32
  mlp_dim = 64
  num_heads = 2
  num_layers = 2
  max_length = 32
TRAIN_FILES = '{folder}/rows.tsv'
VALIDATION_FILES = '{folder}/rows.tsv'
CACHE_DIR = '{folder}/cache'
MODEL_DIR = '{folder}/run'
COLUMNS = ['words', 'tags']
ENTITIES = ['x']
TASK_FEATURE_LENGTHS = {{'inputs': 16}}
BATCH_SIZE = 12
TRAIN_STEPS = 60
LEARNING_RATE = 0.01
WARMUP_STEPS = 2
train.train.tensorboard = False
"""
SIZES = {"vocab_size": 384, "embed_dim": 16, "mlp_dim": 32, "num_heads": 2, "num_layers": 1}


def tagged(path, **options):
    columns = sources.TabSeparated(
        files={"train": str(path), "validation": str(path)}, columns=("words", "tags")
    )
    measured = [metrics.entity_f1, metrics.word_accuracy]
    labels = tasks.bio_labels(["x"])
    return tasks.tagged("tagging_tsv", columns, labels, metrics=measured, **options)


def written(folder, rows=SENTENCES):
    path = folder / "rows.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tags")
    write_cache(tagged(written(folder)), folder / "cache")
    (folder / "run.gin").write_text(GIN.format(folder=folder))
    assert cli.main(["train", f"--gin_file={folder}/run.gin"]) == 0
    return folder / "run"


@pytest.mark.slow
def test_it_learns_and_eval_measures_entities_and_words(run_dir, capsys):
    assert cli.main(["eval", f"--gin_file={run_dir}/config.gin", "--gin_file=runs/eval.gin"]) == 0
    assert "entity_f1 100.0000" in capsys.readouterr().err
    lines = (run_dir / "eval/tagging_tsv/validation/60.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert found[0]["inputs"] == ["we", "ax", "by"]
    assert found[0]["targets"] == found[0]["predictions"] == ["O", "B-x", "I-x"]
    assert len(found[0]["scores"]) == 3 and all(0.3 < score <= 1 for score in found[0]["scores"])
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["entity_precision"] == last["entity_recall"] == last["word_accuracy"] == 100
    assert last["tag_accuracy"] == 1 and last["batch_format"] == "token_classification"


@pytest.mark.slow
def test_infer_writes_a_tag_for_each_word_and_says_what_it_has_no_room_for(
    run_dir, tmp_path, capsys
):
    (tmp_path / "in.txt").write_text("by  ax by\n\nwe ax aaaaaaaaaa by\n")
    (tmp_path / "in.jsonl").write_text('{"id": 7, "words": ["by", "ax", "by"]}\n')
    flags = ["infer", f"--gin_file={run_dir}/config.gin", "--gin_file=runs/infer.gin"]
    for name in ("in.txt", "in.jsonl"):
        out = f"--gin.OUTPUT_PATH={tmp_path}/{name}.out"
        assert cli.main([*flags, f"--gin.INPUT_PATH={tmp_path}/{name}", out]) == 0
        # What is done is not done again.
        assert cli.main([*flags, f"--gin.INPUT_PATH={tmp_path}/{name}", out]) == 0
    first, empty, long = map(json.loads, (tmp_path / "in.txt.out").read_text().splitlines())
    assert first["words"] == ["by", "ax", "by"] and first["predictions"] == ["O", "B-x", "I-x"]
    assert empty["words"] == empty["predictions"] == empty["scores"] == []
    # 14 bytes between [CLS] and [SEP]: "we ax aaaaaaaa".
    assert long["predictions"][-1] is long["scores"][-1] is None and len(long["words"]) == 4
    assert "1 of 3 texts lose their end" in capsys.readouterr().err
    (third,) = map(json.loads, (tmp_path / "in.jsonl.out").read_text().splitlines())
    assert third["id"] == 7 and third["predictions"] == first["predictions"]


@pytest.mark.slow
def test_a_run_predicts_the_tag_of_each_word(run_dir):
    run = load_run(str(run_dir))
    found = run.predict(["ax by we by", ["by", "ax"]])
    assert found["tags"].tolist() == [["B-x", "I-x", "O", "O"], ["O", "B-x", "", ""]]
    assert found["probabilities"].shape == (2, 4, 3)
    assert found["probabilities"][1].sum(axis=-1).round(4).tolist() == [1, 1, 0, 0]
    assert found["lengths"].tolist() == [13, 7]  # in bytes, with [CLS] and [SEP]
    assert run.embed(["we ax"]).shape == (1, 32)


def test_a_batch_has_a_label_at_the_first_token_of_each_word(tmp_path):
    rows = [("ab c", "B-x O"), ("d efghi j", "O B-x I-x")]
    write_cache(tagged(written(tmp_path, rows)), tmp_path)
    task = tagged(tmp_path / "rows.tsv")
    dataset = DatasetConfig(task, {"inputs": 9}, tmp_path, "validation", batch_size=3)
    (each,) = open_evaluation(dataset, batch_format="token_classification")
    cls, sep, gap = 382, 381, 35
    a, b, c, d, e, f, g, h, i = (ord(letter) + 3 for letter in "abcdefghi")
    assert {name: x.tolist() for name, x in each.batch.items()} == {
        # The space before a word is the first of its bytes; the last word has no room.
        "encoder_input_tokens": [
            [cls, a, b, gap, c, sep, 0, 0, 0], [cls, d, gap, e, f, g, h, i, sep], [0] * 9,
        ],
        "encoder_token_types": [[0] * 9] * 3,
        "encoder_segment_ids": [[1] * 6 + [0] * 3, [1] * 9, [0] * 9],
        "word_labels": [[0, 1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0, 0], [0] * 9],
        "word_weights": [[0, 1, 0, 1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0, 0, 0, 0], [0] * 9],
    }  # fmt: skip


@pytest.mark.slow
def test_words_without_room_count_as_wrong_and_rows_without_tags_do_not_count(tmp_path):
    rows = [("ab cd ef", "O O O"), ("ab", "-"), ("ab ab ab", "O B-x O")]
    task = tagged(written(tmp_path, rows), unlabelled="-")
    write_cache(task, tmp_path)
    model = BERT(**SIZES, head=Tagging(("O", "B-x", "I-x")))
    params = model.init(jax.random.key(0))["params"]
    # Outside, wherever a word begins.
    params["output_head"]["output"]["bias"] = np.array([9.0, 0, 0], np.float32)
    dataset = DatasetConfig(task, {"inputs": 7}, tmp_path, "validation", batch_size=2)
    (result,) = evaluate_params(model, params, dataset)
    assert [one.predictions for one in result.predictions["prediction"]] == [
        ["O", "O", None], ["O"], ["O", "O", None],
    ]  # fmt: skip
    assert result.predictions["prediction"][1].targets is None
    # Three of six words are outside and have room; the model sees four of the six.
    assert result.values["word_accuracy"] == 50 and result.values["tag_accuracy"] == 0.75
    assert result.values["entity_f1"] == result.values["entity_precision"] == 0


# -- Choices ---------------------------------------------------------------------------------

QUESTIONS = [("two", "2", "3", "", "0"), ("x", "yes", "no", "maybe", "2"), ("u", "v", "w", "", "?")]


def choosing(folder, **options):
    path = folder / "rows.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in QUESTIONS))
    columns = sources.TabSeparated(
        files={"train": str(path), "validation": str(path)},
        columns=("text", "a", "b", "c", "label"),
    )
    options = {"metrics": [metrics.accuracy], "unlabelled": "?", **options}
    return tasks.multiple_choice("choices", columns, "{text}", ["a", "b", "c"], **options)


@pytest.fixture
def choices(tmp_path):
    task = choosing(tmp_path)
    write_cache(task, tmp_path)
    lengths = {"inputs": 9, "choices": 3}
    return DatasetConfig(task, lengths, tmp_path, "validation", batch_size=2)


def test_a_batch_has_a_row_for_each_choice(choices):
    first, second = open_evaluation(choices, batch_format="multiple_choice")
    cls, sep = 382, 381

    def row(text, choice):
        ids = [cls, *(ord(x) + 3 for x in text), sep, *(ord(x) + 3 for x in choice), sep]
        return ids + [0] * (9 - len(ids))

    assert first.batch["encoder_input_tokens"].tolist() == [
        [row("two", "2"), row("two", "3"), [0] * 9],
        [row("x", "yes"), row("x", "no"), row("x", "maybe")],
    ]
    assert first.batch["encoder_token_types"][1, 1].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert first.batch["encoder_segment_ids"].sum(axis=-1).tolist() == [[7, 7, 0], [7, 6, 9]]
    assert first.batch["label"].tolist() == [0, 2] and first.batch["label_weight"].sum() == 2
    assert second.batch["label_weight"].tolist() == [0, 0]
    empty = formats.example_batch("multiple_choice", {"inputs": 8, "choices": 4}, 2)
    assert empty["encoder_input_tokens"].shape == (2, 4, 8)


@pytest.fixture
def chooser():
    model = BERT(**SIZES, head=MultipleChoice())
    return model, model.init(jax.random.key(2))["params"]


@pytest.mark.slow
def test_choices_are_measured_and_those_that_are_not_there_have_no_probability(choices, chooser):
    model, params = chooser
    (result,) = evaluate_params(model, params, choices)
    assert [one.targets for one in result.predictions["prediction"]] == [0, 2, None]
    assert result.predictions["prediction"][1].inputs == "x\tyes\tno\tmaybe"
    assert all(one.predictions in (0, 1, 2) for one in result.predictions["prediction"])
    right = [one.predictions == one.targets for one in result.predictions["prediction"][:2]]
    assert result.values["accuracy"] == 50 * sum(right)
    assert result.values["label_accuracy"] == sum(right) / 2
    reader = TextReader.for_task(choices.task, model, choices.task_feature_lengths)
    texts = ["two\t2\t3", ("x", "yes", "no", "maybe")]
    found = reader.answers(model, params, texts)
    assert [len(one["probabilities"]) for one in found] == [2, 3]
    for one, expected in zip(found, result.predictions["prediction"], strict=False):
        assert one["predictions"] == expected.predictions
        assert one["scores"] == pytest.approx(expected.scores, abs=1e-5)
        assert sum(one["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert reader.excess("longer\tx\tlonger") == 6
    with pytest.raises(UserError, match="2 texts where the task reads a text and two or more"):
        reader.answers(model, params, ["two\t2"])


def test_more_choices_than_the_batch_has_room_for_are_refused(choices):
    from tasks.errors import TaskError

    lengths = {"inputs": 9, "choices": 2}
    dataset = DatasetConfig(choices.task, lengths, choices.cache_dir, "validation")
    with pytest.raises(TaskError, match=r"3 choices: TASK_FEATURE_LENGTHS\['choices'\] is 2"):
        list(open_evaluation(dataset, batch_format="multiple_choice"))


def test_rows_that_are_cut_are_counted(choices, capsys):
    from t5x_like.data import open_dataset

    lengths = {"inputs": 8, "choices": 3}
    dataset = DatasetConfig(choices.task, lengths, choices.cache_dir, batch_size=2, prefetch=0)
    open_dataset(dataset, batch_format="multiple_choice")
    said = "1 of 3 examples have inputs and choices of more than 5 tokens (at most 6): trimmed"
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_chooser_learns_which_letters_are_right(tmp_path, capsys):
    rows = [
        ("?", *((a, b) if right == "0" else (b, a)), c, right)
        for a in "abcd" for b in "efgh" for c in ("", "xyz") for right in "01"
    ]  # fmt: skip
    (tmp_path / "rows.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    flags = [
        "--gin_file=tasks/multiple_choice_tsv.gin", "--gin_file=optimizers/adamw.gin",
        "--gin_file=models/bert/tiny.gin", "--gin_file=runs/pretrain.gin",
        "--gin.COLUMNS=['text', 'a', 'b', 'c', 'label']", "--gin.CONTEXT={text}",
        "--gin.OPTIONS=['a', 'b', 'c']", "--gin.TASK_FEATURE_LENGTHS={'inputs': 8, 'choices': 3}",
        *(f"--gin.{name}_FILES={tmp_path}/rows.tsv" for name in ("TRAIN", "VALIDATION")),
        f"--gin.CACHE_DIR={tmp_path}/cache", f"--gin.MODEL_DIR={tmp_path}/run",
        *(f"--gin.bert.BERT.{name}" for name in ("embed_dim=32", "mlp_dim=64", "num_layers=1")),
        "--gin.TRAIN_STEPS=60", "--gin.BATCH_SIZE=16", "--gin.LEARNING_RATE=0.01",
    ]  # fmt: skip
    assert cli.main(["train", *flags]) == 0
    config = f"--gin_file={tmp_path}/run/config.gin"
    assert cli.main(["eval", config, "--gin_file=runs/eval.gin"]) == 0
    assert "accuracy 100.0000" in capsys.readouterr().err
    (tmp_path / "in.jsonl").write_text('{"text": "?", "a": "g", "b": "a", "c": ""}\n')
    out = [f"--gin.INPUT_PATH={tmp_path}/in.jsonl", f"--gin.OUTPUT_PATH={tmp_path}/out.jsonl"]
    assert cli.main(["infer", config, "--gin_file=runs/infer.gin", *out]) == 0
    answer = json.loads((tmp_path / "out.jsonl").read_text())
    assert answer["inputs"] == "?\tg\ta" and answer["predictions"] == 1
    assert len(answer["probabilities"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda folder: tagged(written(folder)), choosing])
def test_the_cache_command_writes_the_same(make, tmp_path):
    task = make(tmp_path)
    cache_task(task, tmp_path / "theirs", num_workers=1, num_shards=1, progress=False)
    write_cache(task, tmp_path / "own")
    words = "tags" in task.form.kept
    lengths = {"inputs": 9} if words else {"inputs": 9, "choices": 3}
    batches = [
        next(
            iter(
                open_evaluation(
                    DatasetConfig(task, lengths, tmp_path / root, "validation"),
                    batch_format="token_classification" if words else "multiple_choice",
                )
            )
        )
        for root in ("theirs", "own")
    ]
    for name, value in batches[0].batch.items():
        np.testing.assert_array_equal(value, batches[1].batch[name])
    name = "inputs_pretokenized" if words else "choices_pretokenized"
    assert list(batches[0].examples[0][name]) == list(batches[1].examples[0][name])
