"""A run of another kind as a line among the losses of a sweep."""

import dataclasses
import json

import pytest

from t5x_like.cli import main
from t5x_like.errors import UserError
from t5x_like.scaling.report import figures
from t5x_like.scaling.report.analysis import analyse
from t5x_like.scaling.report.floor import Floor, difference, read_floor
from t5x_like.scaling.report.page import page_text
from t5x_like.scaling.report.plots import all_plots
from t5x_like.scaling.report.sweep_runs import from_frames
from t5x_like.scaling.report.tables import all_tables

RECORD = {"step": 0, "split": "validation", "task": "stdlib_lm", "loss": 1.25, "cross_entropy": 1.2}


@pytest.fixture
def evaluated(tmp_path):
    """Writes a MODEL_DIR with these records."""

    def write(*records):
        folder = tmp_path / "5gram"
        folder.mkdir(exist_ok=True)
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
        return folder

    return write


@pytest.fixture(scope="module")
def analysis(sweeps):
    cells = sweeps.isoflop_cells(budgets=2, sizes=3)
    runs = from_frames(cells, sweeps.curves_of(cells), name="synthetic")
    return dataclasses.replace(
        analyse(runs, bootstrap=0),
        floors=[Floor("5gram", 1.2, 640, 6070), Floor("lstm", 2.5, 1, 1)],
    )


def test_the_newest_validation_of_a_run_is_its_floor(evaluated):
    newer = {**RECORD, "step": 5, "cross_entropy": 1.1, "rows": 640, "split_rows": 6070}
    folder = evaluated(RECORD, newer, {**RECORD, "split": "test", "step": 9})
    assert read_floor(folder) == Floor("5gram", 1.1, 640, 6070)


def test_a_run_that_was_not_evaluated_says_how(evaluated):
    for folder in (
        evaluated({**RECORD, "split": "train"}),
        evaluated({**RECORD, "cross_entropy": None}),
    ):
        with pytest.raises(UserError, match="measure it with `t5x-like eval --gin_file="):
            read_floor(folder)


def test_the_floor_is_a_dashed_line_within_the_axes(analysis):
    (plot,) = [one for one in all_plots(analysis) if one.section == "isoflop"]
    lines = {one["name"]: one for one in plot.data if one.get("name") in ("5gram", "lstm")}
    assert lines["5gram"]["y"] == [1.2, 1.2] and lines["5gram"]["line"]["dash"] != "solid"
    low, high = plot.layout["yaxis"]["range"]
    assert low < 1.2 and high > max(2.5, analysis.sweep.done["loss"].max())
    (axes, *_) = figures.laws.isoflop(analysis).axes
    drawn = [line.get_ydata()[0] for line in axes.lines if line.get_label() == "5gram"]
    assert drawn == [1.2]
    assert "<b>1.2000</b><span>nats a token of 5gram</span>" in page_text(
        analysis, all_tables(analysis)
    )


def test_report_takes_it_and_warns_where_its_rows_are_others(
    sweeps, evaluated, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(figures, "_FIGURES", {})
    cells = sweeps.isoflop_cells(budgets=1, sizes=3)
    root = sweeps.write(tmp_path / "sweep", cells, sweeps.curves_of(cells, points=2))
    floor = f"--floor={evaluated({**RECORD, 'rows': 6070, 'split_rows': 6070})}"
    arguments = ["report", str(root), floor, "--bootstrap=0"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["floors"] == [{"name": "5gram", "loss": 1.2, "rows": 6070, "split_rows": 6070}]
    assert "other_rows" not in {note["name"] for note in found["notes"]}
    metrics = root / "cells" / cells["name"][0] / "metrics.jsonl"
    record = {"step": 100, "split": "validation", "loss": 3.0, "rows": 640, "split_rows": 6070}
    metrics.write_text(metrics.read_text() + json.dumps(record) + "\n")
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "floor 5gram: loss 1.2000" in out
    assert (
        "measured on 6,070 of 6,070 rows, the runs on 640 of 6,070: evaluate it with --gin" in out
    )
    other = dataclasses.replace(read_floor(tmp_path / "5gram"), split_rows=99)
    assert "another task, or other TASK_FEATURE_LENGTHS" in difference(other, root)


def test_a_floor_that_is_no_run_is_one_line(sweeps, tmp_path, capsys):
    cells = sweeps.isoflop_cells(budgets=1, sizes=3)
    root = sweeps.write(tmp_path / "sweep", cells, sweeps.curves_of(cells, points=2))
    assert main(["report", str(root), f"--floor={tmp_path}/none"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "has no finite loss of the validation split" in line
