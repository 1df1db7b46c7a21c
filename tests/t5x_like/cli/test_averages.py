"""Averages of evaluated runs, as `glue-average` and `super-glue-average` print them."""

import json

import pytest

from t5x_like import cli

# MRPC F1 and accuracy differ, as do the two correlations; all others are 80.
VALUES = {
    "mnli": {"accuracy": 80.0},
    "mnli_mismatched": {"accuracy": 80.0},
    "qqp": {"f1": 80.0, "accuracy": 80.0},
    "qnli": {"accuracy": 80.0},
    "sst2": {"accuracy": 80.0},
    "cola": {"matthews_corrcoef": 80.0},
    "stsb": {"pearson_corrcoef": 62.0, "spearman_corrcoef": 80.0},
    "mrpc": {"f1": 89.0, "accuracy": 71.0},
    "rte": {"accuracy": 80.0},
    "wnli": {"accuracy": 71.0},
}


def evaluated(tmp_path, tasks=VALUES, step=10, **changed):
    """A run directory for each task."""
    runs = []
    for name in tasks:
        run = tmp_path / name
        run.mkdir(exist_ok=True)
        record = {"step": step, "split": "validation", "task": f"glue_{name}_labels"}
        record |= {"rows": 40, "split_rows": 40, "loss": 0.5, **VALUES[name], **changed}
        with (run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        runs.append(str(run))
    return runs


def found(capsys, *arguments, command="glue-average"):
    assert cli.main([command, "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_both_averages_of_runs_by_name(tmp_path, capsys):
    # (8 · 80 + 89) / 9; and (6 · 80 + (89 + 71) / 2 + (62 + 80) / 2 + 71) / 9.
    report = found(capsys, *evaluated(tmp_path))
    assert report["bert_average"] == pytest.approx(729 / 9)
    assert report["leaderboard_score"] == pytest.approx(702 / 9)
    assert report["tasks"]["mrpc"] == {"step": 10, "f1": 89.0, "accuracy": 71.0, "loss": 0.5}
    # 6 · 80 + (89 + 71) / 2 + (62 + 80) / 2, without WNLI.
    assert report["t5_average"] == pytest.approx(631 / 8)
    assert not report["missing"]


def a_run(tmp_path, records, **shared):
    """A run directory with these evaluations, `{task: what its record says}`."""
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    with (run / "metrics.jsonl").open("a") as file:
        for name, values in records.items():
            record = {"step": 10, "split": "validation", "task": name, "rows": 8, "split_rows": 8}
            file.write(json.dumps(record | shared | values) + "\n")
    return str(run)


GENERATED = {"decoding": "greedy, at most 84 tokens"}


def test_of_a_run_of_text_the_tasks_metrics_count_and_not_the_models(tmp_path, capsys):
    """Of a model whose loss has an `accuracy` too, the task's is recorded as `task_accuracy`."""
    records = {f"glue_{name}": dict(values) for name, values in VALUES.items()}
    for values in records.values():
        if "accuracy" in values:
            values |= {"task_accuracy": values["accuracy"], "accuracy": 0.97}
    report = found(capsys, a_run(tmp_path, records, **GENERATED))
    assert report["leaderboard_score"] == pytest.approx(702 / 9)
    assert report["tasks"]["mrpc"] == {"step": 10, "f1": 89.0, "accuracy": 71.0}


def test_an_evaluation_without_answers_in_text_does_not_count(tmp_path, capsys):
    run = a_run(tmp_path, {"glue_sst2": {"accuracy": 0.97, "loss": 0.1, "step": 20}})
    assert cli.main(["glue-average", run]) == 2
    assert "glue_sst2 have no answers in text" in capsys.readouterr().err
    a_run(tmp_path, {"glue_sst2": {"task_accuracy": 90.0, "accuracy": 0.9}}, **GENERATED)
    assert found(capsys, run)["tasks"]["sst2"] == {"step": 10, "accuracy": 90.0}


def test_super_glue_of_one_run_of_the_mixture(tmp_path, capsys):
    """T5-Base's row; the mixture's own record and DPR's do not count."""
    records = {
        "boolq": {"accuracy": 81.4},
        "cb": {"macro_f1": 86.2, "accuracy": 94.0},
        "copa": {"accuracy": 71.2},
        "multirc": {"f1a": 79.7, "em": 43.1},
        "record": {"f1": 75.0, "em": 74.2},
        "rte": {"accuracy": 81.5},
        "wic": {"accuracy": 68.3},
        "wsc": {"accuracy": 80.8},
    }
    named = {f"super_glue_{name}": values for name, values in records.items()}
    others = {"super_glue": {"accuracy": 1.0}, "dpr": {"accuracy": 1.0}}
    run = a_run(tmp_path, {**named, **others}, **GENERATED)
    report = found(capsys, run, command="super-glue-average")
    assert report["super_glue_score"] == pytest.approx(76.16, abs=0.005)
    assert set(report["tasks"]) == set(records)
    assert cli.main(["super-glue-average", run]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "super_glue_score : 76.16"
    assert cli.main(["glue-average", run]) == 2
    assert "one of GLUE's tasks" in capsys.readouterr().err


def test_what_an_average_lacks_is_said(tmp_path, capsys):
    assert cli.main(["glue-average", *evaluated(tmp_path, ["mrpc"])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mrpc             step 10  ")
    assert "needs accuracy of mnli, accuracy of mnli_mismatched, f1 of qqp" in lines[1]
    assert lines[1].startswith("bert_average") and lines[2].startswith("leaderboard_score")


def test_of_several_evaluations_of_a_run_the_newest_checkpoint_counts(tmp_path, capsys):
    evaluated(tmp_path, ["mrpc"], step=30, f1=3.0)
    runs = evaluated(tmp_path, ["mrpc"], step=20, f1=2.0)
    assert found(capsys, *runs)["tasks"]["mrpc"]["f1"] == 3.0


def test_of_evaluations_after_other_numbers_of_examples_one_is_chosen(tmp_path, capsys):
    (run,) = evaluated(tmp_path, ["mrpc"], f1=2.0)
    evaluated(tmp_path, ["mrpc"], f1=3.0, asked_after="5_shots")
    assert cli.main(["glue-average", run]) == 2
    said = "are after different numbers of examples, 0, 5: choose one of them with --shots."
    assert said in capsys.readouterr().err
    for shots, f1 in (("0", 2.0), ("5", 3.0)):
        assert found(capsys, run, f"--shots={shots}")["tasks"]["mrpc"]["f1"] == f1
    assert cli.main(["glue-average", run, "--shots=1"]) == 2
    assert "is after 1 examples: --shots may be 0, 5." in capsys.readouterr().err


@pytest.mark.parametrize("case", ["twice", "part", "none", "split"])
def test_what_could_mislead_is_refused(tmp_path, capsys, case):
    runs = evaluated(tmp_path, ["mrpc"], rows=39 if case == "part" else 40)
    flags = {"split": ["--split=test"]}.get(case, [])
    if case == "twice":
        (tmp_path / "again").mkdir()
        runs += evaluated(tmp_path / "again", ["mrpc"])
    if case == "none":
        (tmp_path / "empty").mkdir()
        runs = [str(tmp_path / "empty")]
    assert cli.main(["glue-average", *runs, *flags]) == 2
    said = {
        "twice": "have an evaluation of GLUE's mrpc: give one of them",
        "part": "is of 39 of 40 rows: evaluate the whole split",
        "none": "has an evaluation of one of GLUE's tasks",
        "split": "on split 'test'",
    }
    assert said[case] in capsys.readouterr().err
