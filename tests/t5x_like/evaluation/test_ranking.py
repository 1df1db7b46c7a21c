"""Ranking of a cached task with options, with a real model."""

import dataclasses
import json
import math
import types

import numpy as np
import pytest

import tasks
from models.bert import BERT
from t5x_like.checkpoints import Checkpointer, CheckpointPolicy
from t5x_like.data import DatasetConfig, cache_task
from t5x_like.data.cache import layout
from t5x_like.data.cache.example_proto import encode_example
from t5x_like.data.cache.tfrecord import write_records
from t5x_like.data.records import open_records
from t5x_like.decoding.options import OptionScores, Question
from t5x_like.decoding.scoring import score
from t5x_like.errors import UserError
from t5x_like.evaluate import evaluate
from t5x_like.evaluation import Ranking, Shots
from t5x_like.evaluation.prompts.asked import Asked as AskedRows
from t5x_like.evaluation.ranking import accuracies
from t5x_like.evaluation.task import evaluate_params
from t5x_like.optimizers import adamw
from t5x_like.partitioning import Partitioner
from t5x_like.schedules import Constant
from t5x_like.training.metrics_log import read_records
from t5x_like.training.state import create_state
from tasks import forms, metrics, sources
from tests.models.families import drawn, gpt2
from tests.t5x_like.test_evaluate import Copying, Letters, cached

# Contexts, continuations, label; the last but one has no label, the last a blank to be filled.
ROWS = [
    (["abcd"], ["ef", "g", "hij"], 2),
    (["klm"], ["n", "o"], 0),
    (["pq"], ["rs", "t"], -1),
    (["uv", "uw"], ["xyz"], 1),
]


def written(directory, rows):
    """A cache of the rows, whose inputs and targets are not looked at."""
    task = dataclasses.replace(Copying("options"), metric_fns=())
    cached(task, directory, ["a"])
    folder = layout.cache_path(directory, task.cache_name)
    ids = np.array([3], np.int32)
    examples = [
        {
            "inputs": ids, "targets": ids, "label": np.array([label], np.int32),
            "contexts": [text.encode() for text in contexts],
            "continuations": [text.encode() for text in continuations],
        }
        for contexts, continuations, label in rows
    ]  # fmt: skip
    write_records(layout.shard_path(folder, "validation", 0, 1), map(encode_example, examples))
    kinds = {name: {"shape": [None], "dtype": "int32"} for name in ("inputs", "targets")}
    texts = {name: {"shape": [None], "dtype": "string"} for name in ("contexts", "continuations")}
    label = {"label": {"shape": [], "dtype": "int32"}}
    info = {"num_shards": 1, "features": kinds | texts | label, "seqio_version": "0.0.20"}
    layout.write_json(layout.info_path(folder, "validation"), info)
    layout.write_json(layout.stats_path(folder, "validation"), {"examples": len(examples)})
    return DatasetConfig(task, {"inputs": 8, "targets": 8}, str(directory), "validation", 4)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return written(tmp_path_factory.mktemp("cache"), ROWS)


@pytest.fixture(scope="module")
def gpt():
    model = gpt2(max_length=16)
    return model, drawn(model)


@pytest.mark.slow
def test_every_option_of_every_example_is_scored_and_written(gpt, dataset):
    (result,) = evaluate_params(*gpt, dataset, measurements=[Ranking(batch_size=4)])
    encode = Letters().encode
    expected = []
    for contexts, continuations, _ in ROWS:
        count = max(len(contexts), len(continuations))
        found = score(
            *gpt,
            inputs=[encode(text) for text in contexts] * (count // len(contexts)),
            targets=[encode(text) for text in continuations] * (count // len(continuations)),
        )
        expected.append([one.total for one in found])
    rows = result.predictions["ranking"]
    for row, sums in zip(rows, expected, strict=True):
        assert row.scores["sum"] == pytest.approx(sums, abs=1e-4)
        assert row.predictions == int(np.argmax(sums))
    assert [row.targets for row in rows] == [2, 0, None, 1]
    assert (rows[0].inputs, rows[0].options) == ("abcd", ["ef", "g", "hij"])
    assert (rows[3].inputs, rows[3].options) == (["uv", "uw"], ["xyz"])
    assert rows[0].tokens == [2, 1, 3]
    right = [int(np.argmax(sums)) == row[2] for row, sums in zip(ROWS, expected, strict=True)]
    assert result.values["ranking_accuracy"] == pytest.approx(100 * sum(right) / 3)
    assert (result.values["rows"], result.values["split_rows"]) == (4, 4)


def test_examples_before_a_question_are_read_with_it(gpt, tmp_path):
    """The third row has no label, so each of the first two is drawn for the other."""
    dataset = written(tmp_path, [(["ab"], ["c", "d"], 1), (["ef"], ["g", "h"], 0), ROWS[2]])
    form = forms.FewShot(separator="z", description="y", split="validation")
    dataset = dataclasses.replace(dataset, task=Asked("options", few_shot=form))
    shots = Ranking(shots=Shots(1))
    (result,) = evaluate_params(*gpt, dataset, measurements=[shots])
    rows = result.predictions["ranking"]
    assert [row.inputs for row in rows[:2]] == ["yzefgzab", "yzabdzef"]
    encode = Letters().encode
    expected = score(*gpt, inputs=[encode("yzefgzab")] * 2, targets=[encode("c"), encode("d")])
    assert rows[0].scores["sum"] == pytest.approx([one.total for one in expected], abs=1e-4)
    assert result.values["ranking_shots"] == 1
    told = "sum, 1 shot of 'validation' by seed 0, contexts read as text causally"
    assert result.settings["ranking"] == told


@dataclasses.dataclass
class Asked(Copying):
    """With a way in which examples stand before a question."""

    metric_fns: tuple = ()
    few_shot: forms.FewShot | None = None


def test_accuracies_are_by_every_normalization_with_a_standard_error():
    """Three of four right by the sum: 75 percent, and sqrt(0.75 * 0.25 / 3) = 25 percent."""
    short = OptionScores(*map(np.array, ([-4.0, -6.0], [2, 4], [8, 24], [8, 24])))
    values = accuracies([short] * 5, [0, 0, 1, 0, -1], "sum")
    assert values == {
        "accuracy": 75.0,
        "accuracy_standard_error": pytest.approx(100 * math.sqrt(0.75 * 0.25 / 3)),
        "accuracy_sum": 75.0,
        "accuracy_per_token": 25.0,
        "accuracy_per_character": 25.0,
        "accuracy_per_byte": 25.0,
    }
    assert accuracies([short], [-1], "sum") == {}


def test_what_the_likeliest_options_say_is_measured_by_the_task():
    """MultiRC's two questions, with answers right (1, 0, 1) and (1, 1), ranked (1, 0, 1), (1, 0).

    One of two questions is wholly right, and F1 is 6/7. The last row has no right option.
    """
    task = tasks.get_mixture_or_task("multirc_options")
    gold, ranked = [1, 0, 1, 1, 1, -1], [1, 0, 1, 1, 0, 0]
    rows = [
        {"question_number": np.array([number]), "answers_of_options": [b"no", b"yes"]}
        for number in (7, 7, 7, 9, 9, 11)
    ]
    one = np.ones(2, np.int64)
    found = [OptionScores(np.array([-2.0, -2.5 + best]), one, one, one) for best in ranked]
    values = Ranking()._by_metrics(task, rows, gold, found)
    assert values == {"ranking_f1a": pytest.approx(600 / 7), "ranking_em": 50.0}
    assert Ranking()._by_metrics(task, rows[-1:], [-1], found[-1:]) == {}


def test_metrics_that_do_not_take_what_options_say_are_told_before_any_is_scored(monkeypatch):
    task = dataclasses.replace(Copying("options"), metric_fns=(metrics.pearson_corrcoef,))
    row = {"label": np.array(1), "idx": 0, "answers_of_options": [b"no", b"yes"]}
    question = Question(["a"], ["b", "c"])
    asked = types.SimpleNamespace(rows=[row], numbers=[0], questions=[question])
    monkeypatch.setattr(AskedRows, "of", lambda *given: asked)
    subject = types.SimpleNamespace(dataset=types.SimpleNamespace(task=task))
    with pytest.raises(UserError, match=r"task 'options': metrics.pearson_corrcoef got the text"):
        Ranking().measure(subject)


@pytest.mark.slow
def test_a_run_is_ranked_beside_its_other_measurements(gpt, dataset, tmp_path, capfd):
    model, _ = gpt
    checkpointer = Checkpointer(str(tmp_path), CheckpointPolicy())
    checkpointer.save(create_state(model, adamw(Constant(1e-3)), Partitioner(), seed=1), 1, {}, {})
    checkpointer.close()
    rankings = [
        Ranking(),
        Ranking("unconditional", unconditional_context="q", name="against_q"),
    ]
    evaluate(
        model=model, model_dir=str(tmp_path), dataset=dataset, measurements=rankings,
        tensorboard=False, max_rows=2,
    )  # fmt: skip
    (record,) = read_records(str(tmp_path))
    assert record["ranking"] == "sum, 0 shots, contexts read as text causally"
    against = "unconditional after 'q', 0 shots, contexts read as text causally"
    assert record["against_q"] == against
    assert record["rows"] == 2 and "against_q_accuracy_unconditional" in record
    folder = tmp_path / "eval/options/validation"
    assert sorted(path.name for path in folder.iterdir()) == [
        "1.against_q.jsonl", "1.ranking.jsonl"
    ]  # fmt: skip
    lines = (folder / "1.against_q.jsonl").read_text().splitlines()
    assert set(json.loads(lines[0])["scores"]) == {
        "sum", "per_token", "per_character", "per_byte", "unconditional"
    }  # fmt: skip
    assert record["predictions"] == "1.ranking.jsonl, 1.against_q.jsonl"

    # Another number of examples takes nothing's place.
    asked = dataclasses.replace(dataset, task=Asked("options", few_shot=forms.FewShot()))
    of_one = Ranking(shots=Shots(1, split="validation", cut=True))
    capfd.readouterr()
    evaluate(
        model=model, model_dir=str(tmp_path), dataset=asked, measurements=[of_one],
        tensorboard=False, max_rows=3,
    )  # fmt: skip
    assert "replaced" not in capfd.readouterr().err
    assert {path.name: len(path.read_text().splitlines()) for path in folder.iterdir()} == {
        "1.against_q.jsonl": 2, "1.ranking.jsonl": 2, "1.1_shots.ranking.jsonl": 3
    }  # fmt: skip
    assert read_records(str(tmp_path))[-1]["predictions"] == "1.1_shots.ranking.jsonl"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((["a"], ["b", "c"], 2), "the label is 2, but there are 2 options"),
        ((["a"], ["b", " "], 0), "an option after 'a' has no text"),
        ((["a"], ["b", "c" * 17], 0), "a continuation has 17 tokens, but the model's max"),
    ],
)
@pytest.mark.parametrize("limit", [None, 2])
def test_examples_that_cannot_be_ranked_are_said_in_one_line(gpt, tmp_path, row, said, limit):
    """Of four rows a limit of two measures the second and the fourth, which is still the fourth."""
    dataset = written(tmp_path, [*[ROWS[1]] * 3, row])
    place = "^task 'options', row 4 of its 'validation' split: "
    for ranking in (Ranking(), Ranking("unconditional")):
        with pytest.raises(UserError, match=place + said):
            evaluate_params(*gpt, dataset, measurements=[ranking], max_rows=limit)


def test_contexts_that_lose_their_beginning_are_said(gpt, tmp_path, capsys):
    dataset = written(tmp_path, [(["a" * 20], ["b", "c"], 0)])
    evaluate_params(*gpt, dataset, measurements=[Ranking()])
    assert "options validation: 2 of 2 contexts lose their beginning" in capsys.readouterr().err


def test_what_cannot_rank_is_refused(dataset):
    with pytest.raises(UserError, match="normalization is 'mean': it must be one of sum"):
        Ranking("mean")
    with pytest.raises(UserError, match="contexts is 'prefix': give 'text' or 'inputs'"):
        Ranking(contexts="prefix")
    for name in ("", "a/b", "..", "two words"):
        with pytest.raises(UserError, match=f"a measurement has the name '{name}'"):
            evaluate_params(None, None, dataset, measurements=[Ranking(name=name)])
    with pytest.raises(UserError, match=r"shots.seed \(SHOTS_SEED\) is -1: give a whole number"):
        Ranking(shots=Shots(1, seed=-1))
    bert = BERT(vocab_size=64, embed_dim=8, mlp_dim=8, num_heads=2, num_layers=1)
    with pytest.raises(UserError, match="BERT does not generate or score text"):
        evaluate_params(bert, None, dataset, measurements=[Ranking()])


@pytest.mark.slow
def test_the_cache_command_keeps_options_and_counts_words(tmp_path):
    """Rows of JSON lines through TensorFlow: lists of other lengths, text that is not ASCII."""
    rows = [
        {"question": "hot?", "options": ["fire", "ice"], "label": 0},
        {"question": "cold?", "options": ["fire", "ice", "Zoë"], "label": 1},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = ("question", "options", "label")
    source = sources.JsonLines(files={"validation": str(path)}, columns=columns)
    task = tasks.text_to_text("options", source, forms.Options("Q: {question}\nA:"))
    cache_task(task, tmp_path, num_workers=1, num_shards=1, progress=False)
    records = open_records(
        DatasetConfig(task, {"inputs": 16, "targets": 8}, str(tmp_path), "validation"),
        ("contexts", "continuations", "label"),
    )
    found = {
        (bytes(row["contexts"][0]).decode(), len(row["continuations"]), int(row["label"]))
        for row in records
    }
    assert found == {("Q: hot?\nA:", 2, 0), ("Q: cold?\nA:", 3, 1)}

    path.write_text('{"text": "one  two\\nthree"}\n{"text": " four Zoë "}\n', encoding="utf-8")
    text = tasks.unsupervised("text", sources.JsonLines(files={"validation": str(path)}))
    cache_task(text, tmp_path, num_workers=1, num_shards=1, progress=False)
    folder = layout.cache_path(tmp_path, "text")
    stats = layout.read_json(layout.stats_path(folder, "validation"))
    assert (stats["targets_words"], stats["targets_bytes"]) == (5, 25)
