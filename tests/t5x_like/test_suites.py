"""Suites of tasks, measured of a tiny model; and the packaged ones, read without a model."""

import dataclasses
import functools
import json
from pathlib import Path

import pytest

import tasks
from t5x_like import cli, config, suites
from t5x_like.checkpoints import Checkpointer, CheckpointPolicy
from t5x_like.decoding import BeamSearch
from t5x_like.errors import UserError
from t5x_like.evaluation import Ranking, Shots
from t5x_like.optimizers import adamw
from t5x_like.partitioning import Partitioner
from t5x_like.schedules import Constant
from t5x_like.suites import Row, Suite, measuring
from t5x_like.suites.tables import read_results, table
from t5x_like.training.state import create_state
from tasks import forms, metrics, postprocessors, sources
from tests.models.families import gpt2
from tests.t5x_like.evaluation.test_ranking import ROWS, written

PACKAGED = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "gin_configs/suites").glob("*.gin")
    if path.stem != "defaults"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run without training, and the cache of one task with options."""
    directory = tmp_path_factory.mktemp("run")
    model = gpt2(max_length=16)
    checkpointer = Checkpointer(str(directory), CheckpointPolicy())
    checkpointer.save(create_state(model, adamw(Constant(1e-3)), Partitioner(), seed=1), 1, {}, {})
    checkpointer.close()
    dataset = written(tmp_path_factory.mktemp("cache"), ROWS)
    return model, str(directory), dataset


def evaluated(run, out, rows, **changed):
    model, directory, dataset = run

    def find(name):
        if name == "options":
            return dataset.task
        return dataclasses.replace(dataset.task, name=name, source_is_local=False)

    suite = Suite("one", rows, [Ranking(batch_size=4)])
    return suites.evaluate_suite(
        suite=suite, find_task=find, model=model, model_dir=directory, cache_dir=dataset.cache_dir,
        output_dir=str(out), **changed,
    )  # fmt: skip


SUM = {"task": "options", "value": "ranking_accuracy_sum", "published": {"A 7B": 60.5, "B": 81.0}}
BYTES = {"task": "options", "value": "ranking_accuracy_per_byte", "published": {"B": 50.0}}
ELSEWHERE = {"task": "elsewhere", "value": "ranking_accuracy", "published": {"A 7B": 1.0}}


@pytest.mark.slow
def test_a_suite_measures_what_is_there_and_says_what_is_not(run, tmp_path, capsys, monkeypatch):
    (found,) = evaluated(run, tmp_path, [SUM, ELSEWHERE, BYTES]).values()
    assert [row["value"] for row in found["rows"]] == [SUM["value"], BYTES["value"]]
    ((asked, why),) = found["missing"].items()
    assert asked == "elsewhere 0 validation ranking_accuracy"
    assert why.startswith(f"there is no cache of 'elsewhere' at {run[2].cache_dir}/elsewhere")
    first = found["rows"][0]
    assert first["measured"] == first["values"]["ranking_accuracy_sum"]
    assert first["settings"]["ranking"] == "sum, 0 shots, contexts read as text causally"
    assert (first["rows"], first["split_rows"]) == (4, 4)
    assert json.loads((tmp_path / "eval/suites/one/1.json").read_text()) == found
    # One file of predictions for each row that is measured in another way.
    folder = tmp_path / "eval/suites/one/1"
    assert [path.name for path in folder.iterdir()] == ["options.0.validation.ranking.jsonl"]
    said = capsys.readouterr().err
    assert "elsewhere, 0 shots, validation: not measured: there is no cache" in said

    # The same again: nothing is measured a second time, whatever the published numbers are.
    def measured_again(*_, **__):
        raise AssertionError

    monkeypatch.setattr(measuring, "evaluate_params", measured_again)
    renewed = {**SUM, "published": {"C": 2.0}}
    (again,) = evaluated(run, tmp_path, [renewed, ELSEWHERE, BYTES]).values()
    assert [row["published"] for row in again["rows"]] == [{"C": 2.0}, {"B": 50.0}]
    assert [row["measured"] for row in again["rows"]] == [row["measured"] for row in found["rows"]]
    with pytest.raises(AssertionError):
        evaluated(run, tmp_path, [SUM], max_rows=2)  # of other rows

    # What was measured in another way does not stand for what cannot be.
    def refused(*_, **__):
        raise UserError("no tokens")

    monkeypatch.setattr(measuring, "evaluate_params", refused)
    changed = [SUM, {**BYTES, "longest": 9}]
    (kept,) = evaluated(run, tmp_path, changed).values()
    assert [row["value"] for row in kept["rows"]] == [SUM["value"]]
    assert kept["missing"] == {"options 0 validation ranking_accuracy_per_byte": "no tokens"}


def test_rows_that_differ_in_their_value_alone_are_measured_once(run, tmp_path, monkeypatch):
    """MMLU over questions and over subjects, SQuAD's F1 and exact match, LAMBADA's two."""
    measure, seen = measuring.evaluate_params, []

    def counted(*args, measurements, **kwargs):
        seen.append(measurements[0].normalization)
        return measure(*args, measurements=measurements, **kwargs)

    monkeypatch.setattr(measuring, "evaluate_params", counted)
    rows = [SUM, {**SUM, "value": "ranking_accuracy", "published": {}}, BYTES]
    (found,) = evaluated(run, tmp_path, rows).values()
    assert seen == ["sum", "per_byte"]
    first, second, third = found["rows"]
    assert second["measured"] == first["measured"] == first["values"]["ranking_accuracy"]
    assert second["standard_error"] == first["standard_error"] is not None
    assert (first["published"], second["published"]) == (SUM["published"], {})
    assert third["measured"] == first["values"]["ranking_accuracy_per_byte"]


def test_an_interrupted_suite_goes_on_with_the_first_row_that_is_missing(
    run, tmp_path, monkeypatch
):
    measure, seen = measuring.evaluate_params, []

    def ends_before_the_second(*args, measurements, **kwargs):
        if seen == ["sum"]:
            raise KeyboardInterrupt
        seen.append(measurements[0].normalization)
        return measure(*args, measurements=measurements, **kwargs)

    rows = [SUM, {**BYTES, "value": "ranking_accuracy_unconditional"}]
    monkeypatch.setattr(measuring, "evaluate_params", ends_before_the_second)
    with pytest.raises(KeyboardInterrupt):
        evaluated(run, tmp_path, rows)
    (kept,) = read_results(str(tmp_path))
    assert [row["value"] for row in kept["rows"]] == [SUM["value"]]
    seen.clear()
    evaluated(run, tmp_path, rows)
    assert seen == ["unconditional"]
    # Of other parameters nothing is known, and no part of a row is left behind.
    seen.clear()
    monkeypatch.setattr(measuring, "identity_of", lambda *_: "other")
    evaluated(run, tmp_path, rows[:1])
    assert seen == ["sum"]
    assert not list(tmp_path.rglob("*.partial.jsonl"))


def test_a_report_has_published_numbers_beside_the_measured_ones(run, tmp_path, capsys):
    evaluated(run, tmp_path, [SUM, ELSEWHERE, BYTES], max_rows=3)
    (found,) = read_results(str(tmp_path))
    found["rows"][0] |= {"measured": 66.666, "standard_error": 33.333}
    found["rows"][1] |= {"measured": 12.5, "standard_error": None}
    head, names, first, second, missing = table(found).splitlines()
    assert head == "suite one, step 1"
    assert names.split() == ["task", "shots", "split", "value", "measured", "A", "7B", "B"]
    assert "66.67 ± 33.33 (3 of 4 rows)" in first and first.split()[-2:] == ["60.5", "81"]
    assert "12.50 (3 of 4 rows)" in second and second.split()[-2:] == ["–", "50"]
    assert missing.startswith("not measured: elsewhere 0 validation ranking_accuracy: there is no")
    capsys.readouterr()
    assert cli.main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("suite one, step 1\n")
    assert cli.main(["report", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["one"]["rows"][0]["published"] == SUM["published"]


@pytest.mark.parametrize(
    ("shots", "values", "shown"),
    [
        (0, {"ranking_accuracy": 1.0}, "0"),
        (5, {"ranking_shots": 5.0}, "5"),
        (64, {"em": 1.0, "shots": 7.25}, "64 (7.2 in the mean)"),
        ("fit", {"continuation_shots": 12.0}, "fit (12.0 in the mean)"),
    ],
)
def test_a_report_says_how_many_examples_the_prompts_had_room_for(shots, values, shown):
    row = {
        "task": "a", "shots": shots, "split": "test", "value": "em", "measured": 1.0,
        "standard_error": None, "rows": 2.0, "split_rows": 2.0, "values": values, "published": {},
    }  # fmt: skip
    results = {"suite": "one", "step": 1, "rows": [row], "missing": {}}
    cells = table(results).splitlines()[2].split("  ")
    assert [cell.strip() for cell in cells if cell] == ["a", shown, "test", "em", "1.00"]


def test_suites_that_say_nothing_are_refused(run, tmp_path):
    with pytest.raises(UserError, match="row 2 has task, shot: it needs task and value"):
        Suite("one", [SUM, {"task": "a", "shot": 1}], [Ranking()])
    with pytest.raises(
        UserError, match="nothing measures 'em' of 'a'; its measurements are ranking"
    ):
        Suite("one", [Row("a", "em")], [Ranking()])
    with pytest.raises(UserError, match="an evaluation of 0 rows"):
        evaluated(run, tmp_path, [SUM, BYTES], max_rows=0)
    with pytest.raises(
        UserError, match="no row could be measured; of the first, there is no cache"
    ):
        evaluated(run, tmp_path, [ELSEWHERE])
    (found,) = evaluated(run, tmp_path, [SUM, {**SUM, "value": "ranking_f1"}]).values()
    assert "'ranking_f1' is none of its values" in next(iter(found["missing"].values()))


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("../one", [SUM], r"called '\.\./one' \(SUITE_NAME\): give letters"),
        ("", [SUM], r"called '' \(SUITE_NAME\)"),
        ("one", [], "has no rows: bind ROWS"),
        ("one", [SUM, {**SUM, "published": {}}], "row 2 asks for the same as row 1"),
        ("one", [{**SUM, "published": 60.5}], "row 1: 'published' is 60.5: give a number for each"),
        ("one", [{**SUM, "published": {"A": "60.5"}}], "give a number for each model"),
        ("one", [{**SUM, "longest": 0}], "'longest' is 0: give a number of tokens"),
        ("one", [{**SUM, "task": None}], "'task' is None: give a name"),
        ("one", [{**SUM, "shots": -1}], r"\(SHOTS\) is -1: a whole number of 0 or more"),
    ],
)
def test_a_suite_of_ones_own_is_refused_before_it_is_measured(name, rows, said):
    with pytest.raises(UserError, match=said):
        Suite(name, rows, [Ranking()])


def test_a_number_of_examples_for_all_rows_is_refused_since_each_row_has_its_own():
    with pytest.raises(UserError, match="SHOTS is 5, but each row says how many examples it has"):
        Suite("one", [SUM], [Ranking(shots=Shots(5))])


@pytest.mark.parametrize("name", PACKAGED)
def test_a_packaged_suite_asks_for_tasks_and_values_that_there_are(name):
    """Splits that tasks have, metrics that generated answers have, each row once."""
    with config.isolated():
        config.parse([f"suites/{name}.gin"], [("MODEL", "None"), ("MODEL_DIR", "x")])
        suite = config.macro("SUITE")
    assert suite.name == name
    asked = [(row.task, row.value, row.shots) for row in suite.rows]
    assert len(set(asked)) == len(asked)
    for row in suite.rows:
        for task, _ in tasks.get_mixture_or_task(row.task).tasks:
            kind = suite.measurement(row).name
            tfds = getattr(task.source, "tfds", None)
            names = tfds.split_names if tfds is not None else None
            assert row.split in (names or ("validation", "test"))
            assert (kind == "ranking") == ("label" in task.form.kept)
            # Of options, metrics compare what each says.
            says = "answers_of_options" in task.form.kept
            assert (kind == "generation" or says) == bool(task.metric_fns)
            metric_of_options = row.value in ("ranking_f1a", "ranking_em")
            assert metric_of_options == says
            assert all(0 < value <= 100 for value in row.published.values())


def test_what_a_run_was_measured_by_while_it_trained_decides_nothing_of_a_suite(tmp_path):
    """Its config.gin has the direction in which it read prompts, and its number of examples."""
    (tmp_path / "config.gin").write_text(
        "from __gin__ import dynamic_registration\nfrom t5x_like import evaluation\nSHOTS = 5\n"
        "evaluation.Shots.count = %SHOTS\nevaluation.Generation.contexts = 'inputs'\n"
        "evaluation.Generation.shots = @evaluation.Shots()\nMODEL = None\nMODEL_DIR = 'x'\n"
    )
    with config.isolated():
        config.parse([f"{tmp_path}/config.gin", "suites/llama.gin"])
        suite = config.macro("SUITE")
    (few,) = (row for row in suite.rows if row.shots == 64)
    (none, *_) = (row for row in suite.rows if row.task == "trivia_qa" and row.shots == 0)
    for row, shots in ((few, 64), (none, 0)):
        measurement = suite.measurement(row)
        assert (measurement.contexts, measurement.shots.count) == ("text", shots)


def test_gpt3_is_read_by_beams_and_compared_per_token():
    """Brown et al. 2020, section 2.4: four beams, a length penalty of 0.6."""
    with config.isolated():
        config.parse(["suites/gpt3.gin"], [("MODEL", "None"), ("MODEL_DIR", "x")])
        suite = config.macro("SUITE")
    measured = {row.task: suite.measurement(row) for row in suite.rows}
    assert measured["trivia_qa"].strategy == BeamSearch(beams=4, alpha=0.6)
    assert measured["piqa"].normalization == "per_token"
    assert measured["arc_easy"].normalization == "unconditional"


def test_palm_has_all_of_its_29_tasks():
    """Chowdhery et al. 2022, table 4; of SQuAD 2.0 it has F1 and exact match."""
    with config.isolated():
        config.parse(["suites/palm_29.gin"], [("MODEL", "None"), ("MODEL_DIR", "x")])
        rows = config.macro("SUITE").rows
    assert len({row.task for row in rows}) == 29
    record = [row.published["PaLM 540B"] for row in rows if row.task == "record_options"]
    assert record == [92.9, 92.8, 92.9]


def test_published_numbers_stand_where_the_tables_have_them():
    """LLaMA 65B: eight tasks of common sense, TriviaQA with 0, 1, 5 and 64 examples, RACE."""
    with config.isolated():
        config.parse(["suites/llama.gin"], [("MODEL", "None"), ("MODEL_DIR", "x")])
        rows = config.macro("SUITE").rows
    found = [row.published["LLaMA 65B"] for row in rows if "LLaMA 65B" in row.published]
    assert found == [85.3, 82.8, 52.3, 84.2, 77.0, 78.9, 56.0, 60.2, 68.2, 71.6, 72.6, 73.0,
                     67.9, 51.6]  # fmt: skip


def test_how_answers_are_read_and_compared_decides_whether_a_row_is_measured_again():
    form = forms.Template("{text}", "{answer}")
    source = sources.JsonLines(files={"train": "none.jsonl"}, columns=("text", "answer"))
    task = tasks.text_to_text("asked", source, form, metrics=[metrics.accuracy])
    changes = [
        {},
        {"form": forms.Template("{text}?", "{answer}")},
        {"postprocessor": postprocessors.FinalAnswer()},
        {"postprocessor": postprocessors.FinalAnswer(r"answer: (\d+)")},
        {"metric_fns": (metrics.exact_match,)},
        {"metric_fns": (functools.partial(metrics.macro_f1, classes=3),)},
        {"metric_fns": (functools.partial(metrics.macro_f1, classes=2),)},
        {"few_shot": forms.FewShot(separator="\n")},
    ]
    row = Row("asked", "accuracy")
    keys = [
        measuring._key(row, Ranking(), dataclasses.replace(task, **each), None)
        for each in [*changes, {}]
    ]
    assert len(set(keys)) == len(changes) and keys[-1] == keys[0]
