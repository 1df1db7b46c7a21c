"""Evaluation from a real cache, with a real model and its checkpoints."""

import dataclasses
import functools
import json
import re
import types
from pathlib import Path

import numpy as np
import pytest

from models.t5 import T5_1_1
from t5x_like import evaluate as evaluation
from t5x_like.checkpoints import Checkpointer, CheckpointPolicy
from t5x_like.data import DatasetConfig, open_evaluation
from t5x_like.data.cache import layout
from t5x_like.data.cache.example_proto import encode_example
from t5x_like.data.cache.tfrecord import write_records
from t5x_like.data.examples import sample_of
from t5x_like.decoding import generate
from t5x_like.decoding.scoring import score
from t5x_like.errors import UserError
from t5x_like.evaluation import Finding, Generation, Loss
from t5x_like.evaluation.generation import TextPrediction, task_metrics
from t5x_like.evaluation.task import TaskResult, _of_whole_groups
from t5x_like.host import progress
from t5x_like.optimizers import adamw
from t5x_like.partitioning import Partitioner
from t5x_like.schedules import Constant
from t5x_like.training.metrics_log import read_records
from t5x_like.training.state import create_state
from tasks import metrics


class Letters:
    """a, b, c, … are 3, 4, 5, …"""

    vocab_size = 32
    extra_ids = 0
    eos_id = 1
    unk_id = 2

    def encode(self, text):
        return [ord(letter) - ord("a") + 3 for letter in text]

    def decode(self, ids):
        return "".join(chr(i + ord("a") - 3) if i >= 3 else "?" for i in ids)

    def spec(self):
        return {"kind": "letters", "vocab_size": 32, "extra_ids": 0, "eos_id": 1, "unk_id": 2}


@dataclasses.dataclass
class Feature:
    vocabulary: Letters = dataclasses.field(default_factory=Letters)
    add_eos: bool = True


def sequence_accuracy(targets, predictions):
    same = [target == found for target, found in zip(targets, predictions, strict=True)]
    return {"sequence_accuracy": 100 * np.mean(same), "count": len(same)}


@dataclasses.dataclass
class Copying:
    """Text to text; postprocessing says which of the two it was given."""

    name: str
    metric_fns: tuple = (sequence_accuracy,)
    source_is_local: bool = True
    output_features: dict = dataclasses.field(
        default_factory=lambda: {"inputs": Feature(), "targets": Feature()}
    )

    @property
    def tasks(self):
        return ((self, 1.0),)

    @property
    def example_features(self):
        return tuple(self.output_features)

    @property
    def cache_name(self):
        return self.name

    def objective(self, specs):
        return None

    def postprocess(self, text, example, is_target):
        assert example["idx"] >= 0
        return text[:1] if is_target else text.split("?")[0][:1]

    def fingerprint(self):
        return "0" * 64


@dataclasses.dataclass
class Mixed:
    name: str
    tasks: tuple


def cached(task, cache_dir, texts):
    """The task's validation split, as seqio lays it out."""
    folder = layout.cache_path(Path(cache_dir), task.cache_name)
    folder.mkdir(parents=True)
    write_split(task, cache_dir, "validation", texts)
    features = {
        name: {"dtype": "int32", "rank": 1, "add_eos": True, "vocabulary": Letters().spec()}
        for name in task.output_features
    }
    layout.write_json(
        layout.task_path(folder), {"features": features, "fingerprint": task.fingerprint()}
    )
    (folder / layout.COMPLETED).touch()
    return task


def write_split(task, cache_dir, split, texts):
    letters = Letters()
    folder = layout.cache_path(Path(cache_dir), task.cache_name)
    examples = [
        {
            "inputs": np.array(letters.encode(text), np.int32),
            "targets": np.array(letters.encode(text[::-1]), np.int32),
            "targets_pretokenized": text[::-1],
            "idx": np.array([i], np.int64),
        }
        for i, text in enumerate(texts)
    ]
    write_records(layout.shard_path(folder, split, 0, 1), map(encode_example, examples))
    kinds = {
        "inputs": {"shape": [None], "dtype": "int32"},
        "targets": {"shape": [None], "dtype": "int32"},
        "targets_pretokenized": {"shape": [], "dtype": "string"},
        "idx": {"shape": [1], "dtype": "int64"},
    }
    info = {"num_shards": 1, "features": kinds, "seqio_version": "0.0.20"}
    layout.write_json(layout.info_path(folder, split), info)
    layout.write_json(layout.stats_path(folder, split), {"examples": len(examples)})


TEXTS = ["abc", "dd", "efghij", "k", "lmno", "pq", "rstuvw"]  # seven: the last batch has fillers


@pytest.fixture(scope="module")
def model():
    return T5_1_1(
        vocab_size=32, embed_dim=16, mlp_dim=16, num_heads=2, head_dim=8,
        num_encoder_layers=1, num_decoder_layers=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(model, tmp_path_factory):
    """A MODEL_DIR with checkpoints of steps 3 and 5, of different parameters."""
    directory = tmp_path_factory.mktemp("run")
    optimizer = adamw(Constant(1e-3))
    checkpointer = Checkpointer(str(directory), CheckpointPolicy())
    for step in (3, 5):
        state = create_state(model, optimizer, Partitioner(), seed=step)
        checkpointer.save(state, step, {}, {"seed": step})
    checkpointer.close()
    return directory


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    cache_dir = tmp_path_factory.mktemp("cache")
    return DatasetConfig(
        task=cached(Copying("copying"), cache_dir, TEXTS),
        task_feature_lengths={"inputs": 8, "targets": 8},
        cache_dir=str(cache_dir),
        split="validation",
        batch_size=4,
    )


@functools.cache
def params_of(model, seed):
    return create_state(model, adamw(Constant(1e-3)), Partitioner(), seed=seed).params


def test_the_loss_counts_every_target_token_once(model, config):
    params = params_of(model, 3)
    (result,) = evaluation.evaluate_params(model, params, config, measurements=[Loss()])
    ids = [[*Letters().encode(text), 1] for text in TEXTS]
    targets = [[*Letters().encode(text[::-1]), 1] for text in TEXTS]
    scores = score(model, params, inputs=ids, targets=targets, batch_size=1)
    total = -sum(one.total for one in scores)
    weight = sum(map(len, targets))
    assert result.values["loss"] == pytest.approx(total / weight, abs=1e-4)
    assert result.predictions == {}


def test_a_long_evaluation_says_how_far_it_is_where_its_output_goes_to_a_file(
    model, config, capsys, monkeypatch
):
    monkeypatch.setattr(progress, "_FIRST_INTERVAL", 0.0)
    params = params_of(model, 3)
    evaluation.evaluate_params(model, params, config, measurements=[Loss()])
    # Two batches, of which the second is the end; the rows are split evenly among them.
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"copying validation: 3 of 7 rows, [\d.]+/s, \d+ s left", line)


@pytest.mark.slow
def test_predictions_are_those_of_each_example_and_are_written_in_order(model, run_dir, config):
    values = evaluation.evaluate(model=model, model_dir=str(run_dir), dataset=config)
    assert set(values) == {5}
    assert values[5]["copying"]["count"] == len(TEXTS)

    lines = (run_dir / "eval/copying/validation/5.jsonl").read_text().splitlines()
    written = [json.loads(line) for line in lines]
    assert [set(line) for line in written] == [
        {"inputs", "targets", "predictions", "scores"}
    ] * len(TEXTS)
    # The cache kept the targets' text; the inputs' is decoded from ids, their end included.
    assert [line["targets"] for line in written] == [text[::-1] for text in TEXTS]
    params = params_of(model, 5)
    for text, line in zip(TEXTS, written, strict=True):
        (alone,) = generate(
            model, params, [[*Letters().encode(text), 1]], max_new_tokens=8, batch_size=1
        )
        assert line["predictions"] == Letters().decode(alone.tokens)
        assert line["scores"] == pytest.approx(alone.score, abs=1e-3)


def test_metrics_compare_postprocessed_predictions_with_targets(model, config):
    examples = next(iter(open_evaluation(config, batch_format="encoder_decoder"))).examples
    predictions = [
        TextPrediction("", "cba", "c?", 0.0),  # first letters agree
        TextPrediction("", "dd", "xd", 0.0),
        TextPrediction("", "jihgfe", "jjj", 0.0),
        TextPrediction("", "k", "", 0.0),
    ]
    values = task_metrics(config.task, examples, predictions)
    assert values == {"sequence_accuracy": 50.0, "count": 4.0}


def test_values_are_appended_to_the_runs_metrics(model, run_dir, config, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": 9.0}\n')
    evaluation.evaluate(
        model=model, model_dir=str(run_dir), dataset=config, steps="all",
        output_dir=str(tmp_path), tensorboard=False, generate_predictions=False,
    )  # fmt: skip
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(r["step"], r["split"], r.get("task")) for r in records] == [
        (1, "train", None),
        (3, "validation", "copying"),
        (5, "validation", "copying"),
    ]
    assert records[1]["loss"] != records[2]["loss"]
    assert not (tmp_path / "eval").exists()


def test_a_second_evaluation_replaces_the_first_and_says_so(
    model, run_dir, config, tmp_path, capsys
):
    arguments = dict(
        model=model, model_dir=str(run_dir), dataset=config, output_dir=str(tmp_path),
        tensorboard=False, max_new_tokens=2,
    )  # fmt: skip
    evaluation.evaluate(**arguments, max_rows=3)
    evaluation.evaluate(**arguments, max_rows=3, steps=3)
    evaluation.evaluate(**arguments, max_rows=3, steps=3)
    assert "earlier" not in capsys.readouterr().err  # it is the same again
    evaluation.evaluate(**arguments, max_rows=2)
    *_, said = capsys.readouterr().err.splitlines()  # below the values
    assert said == (
        "step 5  copying validation  an earlier evaluation of this checkpoint was of 3 of 7 rows; "
        "this one, as asked for now, is of 2 of 7 rows: it counts from now on in "
        f"{tmp_path}/metrics.jsonl, and {tmp_path}/eval/copying/validation/5.jsonl has its "
        "predictions instead"
    )
    records = read_records(str(tmp_path))
    assert [(record["step"], record["rows"]) for record in records] == [(3, 3), (5, 2)]
    folder = tmp_path / "eval/copying/validation"
    assert len((folder / "5.jsonl").read_text().splitlines()) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["3.jsonl", "5.jsonl"]


def test_what_was_measured_before_is_told_without_predictions_too(
    model, run_dir, config, tmp_path, capsys
):
    arguments = dict(
        model=model, model_dir=str(run_dir), dataset=config, output_dir=str(tmp_path),
        tensorboard=False, measurements=[Loss()],
    )  # fmt: skip
    evaluation.evaluate(**arguments, max_rows=3)
    capsys.readouterr()
    evaluation.evaluate(**arguments)
    *_, values, said = capsys.readouterr().err.splitlines()
    assert values.startswith("step 5  copying validation  7 rows  cross_entropy ")
    assert said == (
        "step 5  copying validation  an earlier evaluation of this checkpoint was of 3 of 7 rows; "
        "this one, as asked for now, is of 7 rows: it counts from now on in "
        f"{tmp_path}/metrics.jsonl"
    )


def test_each_split_keeps_its_own_predictions(model, run_dir, config, tmp_path):
    write_split(config.task, config.cache_dir, "test", ["zy", "x"])
    for split in ("validation", "test"):
        evaluation.evaluate(
            model=model, model_dir=str(run_dir), output_dir=str(tmp_path), tensorboard=False,
            dataset=dataclasses.replace(config, split=split), max_new_tokens=2,
        )  # fmt: skip
    written = {
        path.parent.name: [json.loads(line)["targets"] for line in path.read_text().splitlines()]
        for path in (tmp_path / "eval").rglob("5.jsonl")
    }
    assert written == {"validation": [text[::-1] for text in TEXTS], "test": ["yz", "x"]}


def test_a_metric_of_the_task_takes_no_metric_of_the_models_place(model, config):
    def loss(targets, predictions):
        return {"loss": 25.0, "bleu": 50.0}

    (plain,) = evaluation.evaluate_params(model, params_of(model, 3), config, measurements=[Loss()])
    named = dataclasses.replace(config, task=dataclasses.replace(config.task, metric_fns=(loss,)))
    (result,) = evaluation.evaluate_params(model, params_of(model, 3), named)
    backwards = [Generation(), Loss()]
    (other,) = evaluation.evaluate_params(model, params_of(model, 3), named, measurements=backwards)
    for found in (result, other):
        assert found.values["loss"] == plain.values["loss"] != 25
        assert (found.values["task_loss"], found.values["bleu"]) == (25, 50)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_limit_is_of_the_same_rows_for_every_batch_size(model, config, batch_size):
    texts = [TEXTS[i] for i in sample_of(3, 7)]
    (result,) = evaluation.evaluate_params(
        model, params_of(model, 3), dataclasses.replace(config, batch_size=batch_size), max_rows=3
    )
    assert [one.targets for one in result.predictions["generation"]] == [
        text[::-1] for text in texts
    ]
    ids, targets = (
        [[*Letters().encode(t), 1] for t in order] for order in (texts, (t[::-1] for t in texts))
    )
    scores = score(model, params_of(model, 3), inputs=ids, targets=targets, batch_size=1)
    total, weight = -sum(one.total for one in scores), sum(map(len, targets))
    assert result.values["loss"] == pytest.approx(total / weight, abs=1e-4)
    assert (result.values["rows"], result.values["split_rows"]) == (3, 7)


def test_a_limit_in_batches_does_not_depend_on_their_size(model, config):
    (result,) = evaluation.evaluate_params(
        model, params_of(model, 3), config, max_batches=1, measurements=[Loss()]
    )
    assert result.values["rows"] == 7  # up to 32


def test_a_mixture_is_evaluated_task_by_task_with_the_mean(model, config):
    other = cached(Copying("others"), Path(config.cache_dir), ["zz", "yxw"])
    mixture = dataclasses.replace(config, task=Mixed("both", ((config.task, 1.0), (other, 3.0))))
    first, second, mean = evaluation.evaluate_params(model, params_of(model, 3), mixture)
    assert [first.task, second.task, mean.task] == ["copying", "others", "both"]
    assert (len(first.predictions["generation"]), len(second.predictions["generation"])) == (
        len(TEXTS),
        2,
    )
    assert mean.values["loss"] == pytest.approx((first.values["loss"] + second.values["loss"]) / 2)
    assert mean.values["rows"] == len(TEXTS) + 2


@pytest.mark.parametrize("steps", [4, [3, 4], "newest"])
def test_a_step_that_is_not_there_is_refused(model, run_dir, config, steps):
    with pytest.raises(UserError, match="step"):
        evaluation.evaluate(model=model, model_dir=str(run_dir), dataset=config, steps=steps)
    assert evaluation.chosen_steps(str(run_dir), "all") == [3, 5]


@dataclasses.dataclass(frozen=True)
class Lengths:
    """A user's own measurement, of the data alone."""

    name: str = "lengths"
    shots: int = 0
    counted: str = "letters"

    def measure(self, subject):
        if subject.dataset.task.name != "copying":
            return None
        lengths = [len(text) for text in TEXTS]
        values = {"longest": max(lengths), "rows": 7, "split_rows": 7}
        part = f"{self.shots}_shots" if self.shots else ""
        told = {self.name: self.counted}
        return Finding(values, [Length(n) for n in lengths], told, file_part=part)


@dataclasses.dataclass
class Length:
    letters: int


def test_after_other_numbers_of_examples_nothing_is_replaced_and_else_it_is_told(
    model, run_dir, config, tmp_path, capsys
):
    other = cached(Copying("further"), Path(config.cache_dir), ["zz", "yxw"])
    mixture = dataclasses.replace(config, task=Mixed("both", ((config.task, 1.0), (other, 3.0))))

    def evaluated(*measurements):
        evaluation.evaluate(
            model=model, model_dir=str(run_dir), dataset=mixture, output_dir=str(tmp_path),
            tensorboard=False, measurements=[Loss(), *measurements],
        )  # fmt: skip
        return [line for line in capsys.readouterr().err.splitlines() if "earlier" in line]

    for shots in (0, 1, 5, 1):
        assert evaluated(Lengths(shots=shots)) == []
    records = read_records(str(tmp_path))
    assert [(one["task"], one.get("asked_after")) for one in records] == [
        ("copying", None), ("both", None), ("copying", "5_shots"), ("both", "5_shots"),
        ("copying", "1_shots"), ("further", None), ("both", "1_shots"),
    ]  # fmt: skip
    folder = tmp_path / "eval/copying/validation"
    took = f"it counts from now on in {tmp_path}/metrics.jsonl"
    (said,) = evaluated(Lengths(shots=5, counted="bytes"))
    assert said.endswith(
        "was of 7 rows, lengths letters; this one, as asked for now, is of 7 rows, lengths bytes: "
        f"{took}, and {folder}/5.5_shots.lengths.jsonl has its predictions instead"
    )
    # Of another measurement alone, whose file takes no other's place, the record does all the same.
    (said,) = evaluated(Lengths("words"))
    assert said.endswith(
        "was of 7 rows, lengths letters; this one, as asked for now, is of 7 rows, words letters: "
        + took
    )
    # A file that an evaluation after other numbers of examples has too is told of.
    (said,) = evaluated(Lengths("words"), Lengths("more", shots=9))
    assert said.endswith(f"more letters: {folder}/5.words.jsonl has its predictions instead")


def test_each_measurement_has_its_values_its_file_and_its_settings(
    model, run_dir, config, tmp_path
):
    values = evaluation.evaluate(
        model=model, model_dir=str(run_dir), dataset=config, output_dir=str(tmp_path),
        tensorboard=False, measurements=[Generation(max_new_tokens=2), Lengths()],
    )  # fmt: skip
    assert values[5]["copying"].keys() == {
        "sequence_accuracy", "count", "longest", "rows", "split_rows"
    }  # fmt: skip
    folder = tmp_path / "eval/copying/validation"
    assert sorted(path.name for path in folder.iterdir()) == ["5.jsonl", "5.lengths.jsonl"]
    assert (folder / "5.lengths.jsonl").read_text().splitlines()[:2] == [
        '{"letters": 3}', '{"letters": 2}'
    ]  # fmt: skip
    (record,) = read_records(str(tmp_path))
    assert (record["decoding"], record["lengths"]) == ("Greedy(), max_new_tokens=2", "letters")


def test_measurements_that_would_share_a_file_or_find_nothing_are_refused(model, config):
    arguments = model, params_of(model, 3)
    with pytest.raises(UserError, match="measurements has 2 of the name 'loss'"):
        evaluation.evaluate_params(*arguments, config, measurements=[Loss(), Loss()])
    other = dataclasses.replace(config, task=dataclasses.replace(config.task, name="other"))
    with pytest.raises(UserError, match="nothing was measured of task 'other'"):
        evaluation.evaluate_params(*arguments, other, measurements=[Lengths()])


@pytest.mark.parametrize("rows", [40, 100])
def test_values_of_groups_are_left_out_where_rows_of_groups_are(rows, capsys):
    given = {"ranking_em": 25.0, "em": 30.0, "f1a": 60.0, "rows": rows, "split_rows": 100}
    parts = {"clean/em": 50.0, "clean/f1a": 61.0, "clean/rows": 10}
    task = types.SimpleNamespace(name="multirc", metric_fns=(metrics.multirc,))
    found = _of_whole_groups(task, TaskResult("multirc", given | parts)).values
    left = {name for name in given | parts if name not in found}
    assert left == ({"clean/em"} if rows == 100 else {"clean/em", "em", "ranking_em"})
    assert "clean/em left out" in capsys.readouterr().err
    plain = types.SimpleNamespace(name="multirc", metric_fns=(metrics.f1,))
    assert _of_whole_groups(plain, TaskResult("multirc", given)).values == given
