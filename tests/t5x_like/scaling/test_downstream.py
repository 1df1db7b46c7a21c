"""What runs of a sweep were measured on tasks, against compute and loss."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from t5x_like.scaling.downstream import error_laws, fit_errors, measured_table
from t5x_like.scaling.report import figures
from t5x_like.scaling.report.analysis import analyse
from t5x_like.scaling.report.plots import all_plots
from t5x_like.scaling.report.summary import as_json
from t5x_like.scaling.report.sweep_runs import from_frames
from t5x_like.scaling.report.tables import all_tables
from t5x_like.scaling.report.write import NAMES
from t5x_like.scaling.sweeps.results import sweep_measurements, sweep_results

# Of Err(L) = epsilon - k exp(-gamma L), errors in percent.
EPSILON, K, GAMMA = 85.0, 208.0, 0.756


def law(loss):
    return EPSILON - K * np.exp(-GAMMA * np.asarray(loss))


def row(cell, task, accuracy, error=2.0, metric="ranking_accuracy"):
    named = ("name", "variant", "parameters", "active_parameters", "tokens", "flops", "loss")
    return {
        **{name: cell[name] for name in named},
        "task": task, "split": "validation", "rows": 100.0,
        "metric": metric, "value": accuracy, "standard_error": error,
    }  # fmt: skip


@pytest.fixture(scope="module")
def measured(sweeps):
    """Six runs on two tasks: the error of the first follows the law, the other is 10 above."""
    cells = sweeps.isoflop_cells(budgets=2, sizes=3, noise=0)
    rows = []
    for cell in cells.to_dict("records"):
        rows.append(row(cell, "first", math.nan, math.nan, metric="loss"))
        rows[-1]["value"] = 3.0
        rows.append(row(cell, "first", 100 - law(cell["loss"])))
        rows.append(row(cell, "first", 50.0, math.nan, metric="clean/ranking_accuracy"))
        rows.append(row(cell, "second", 90 - law(cell["loss"]), error=1.5))
    return cells, pd.DataFrame(rows)


def test_each_task_has_a_headline_and_an_interval_over_its_examples(measured):
    table = measured_table(measured[1])
    heads = table[table["headline"]].groupby("task")["metric"].unique().to_dict()
    assert {task: list(metrics) for task, metrics in heads.items()} == {
        "average": ["accuracy"], "first": ["ranking_accuracy"], "second": ["ranking_accuracy"]
    }  # fmt: skip
    first = table[(table["task"] == "first") & table["headline"]].iloc[0]
    assert first["high"] - first["value"] == pytest.approx(1.96 * 2.0, abs=1e-3)
    assert np.isnan(table[table["metric"] == "loss"]["low"]).all()


def test_the_average_of_tasks_has_the_error_of_independent_means(measured):
    """Of 2 and 1.5 points the mean has sqrt(4 + 2.25) / 2 = 1.25."""
    table = measured_table(measured[1])
    average = table[table["task"] == "average"]
    assert len(average) == 6 and (average["split"] == "2 tasks").all()
    np.testing.assert_allclose(average["standard_error"], 1.25)
    np.testing.assert_allclose(average["value"], 95 - law(average["loss"]))
    without = measured[1].drop(measured[1].index[-1])  # a run without its second task
    assert (measured_table(without)["task"] == "average").sum() == 5


def test_the_law_of_the_error_is_found_again(measured):
    laws = {each.task: each for each in error_laws(measured_table(measured[1]))}
    assert set(laws) == {"first", "second", "average"}
    for name, above in (("first", 0.0), ("second", 10.0), ("average", 5.0)):
        found = laws[name]
        assert found.gamma == pytest.approx(GAMMA, rel=1e-3)
        assert found.k == pytest.approx(K, rel=1e-3)
        assert found.epsilon == pytest.approx(EPSILON + above, rel=1e-3)
        assert found.runs == 6 and found.residual < 1e-3
        assert found.error(np.array([3.0]))[0] == pytest.approx(law(3.0) + above, rel=1e-4)


def test_runs_with_small_errors_count_more():
    loss = np.array([2.0, 2.5, 3.0, 3.5, 4.0])
    error = law(loss)
    error[2] += 5.0  # one run is off, and is known to be uncertain
    epsilon, k, gamma, *_ = fit_errors(loss, error, np.array([0.01, 0.01, 100.0, 0.01, 0.01]))
    assert (epsilon, k, gamma) == pytest.approx((EPSILON, K, GAMMA), rel=1e-2)


@pytest.mark.parametrize("case", ["three runs", "a line", "the better the worse"])
def test_no_law_is_told_where_none_is_known(case):
    loss = np.array([2.0, 2.5, 3.0, 3.5, 4.0])
    error = {"three runs": law(loss), "a line": 10 * loss, "the better the worse": -law(loss)}[case]
    count = 3 if case == "three runs" else 5
    assert fit_errors(loss[:count], error[:count], np.zeros(count)) is None


def test_the_report_has_a_table_a_figure_and_plots_of_it(measured, sweeps):
    cells, rows = measured
    runs = from_frames(cells, sweeps.curves_of(cells), name="synthetic", measured=rows)
    analysis = analyse(runs, bootstrap=0)
    names = [plot.name for plot in all_plots(analysis) if plot.section == "downstream"]
    assert len(names) == len(set(names)) == 6 and names[0].startswith("downstream-average")
    assert len(all_tables(analysis)["downstream"]) == 4 * 6 + 6
    printed = as_json(analysis)
    assert len(printed["downstream"]) == 30 and len(printed["error_laws"]) == 3
    json.dumps(printed, allow_nan=False)
    drawn = figures.studies.downstream(analysis)
    assert len(drawn.axes) == 6  # three tasks against compute and against loss
    assert {"figures/downstream.svg", "tables/downstream.csv"} <= set(NAMES)


def test_a_sweep_that_was_not_measured_has_none(sweeps):
    cells = sweeps.isoflop_cells(budgets=1, sizes=3)
    analysis = analyse(from_frames(cells, sweeps.curves_of(cells), name="plain"), bootstrap=0)
    assert analysis.downstream.empty and analysis.error_laws == []
    assert "downstream" not in all_tables(analysis)
    assert not any(plot.section == "downstream" for plot in all_plots(analysis))


def test_measurements_are_read_of_the_last_step_and_leave_the_runs_loss_alone(sweeps, tmp_path):
    cells = sweeps.isoflop_cells(budgets=1, sizes=2)
    root = sweeps.write(tmp_path, cells, sweeps.curves_of(cells))
    name, steps = cells.iloc[0]["name"], int(cells.iloc[0]["steps"])
    record = {
        "step": steps, "split": "validation", "task": "first", "ranking": "sum", "rows": 50,
        "split_rows": 60, "loss": 9.0, "ranking_accuracy": 40.0,
        "ranking_accuracy_standard_error": 7.0, "clean/ranking_accuracy": 30.0, "clean/rows": 20,
    }  # fmt: skip
    with open(root / "cells" / name / "metrics.jsonl", "a") as file:
        for one in (record, {**record, "step": steps - 1}, {**record, "asked_after": "5_shots"}):
            file.write(json.dumps(one) + "\n")
    found = sweep_measurements(root)
    assert found["task"].tolist() == ["first"] * 3 + ["first, 5 shots"] * 3
    found = found[found["task"] == "first"]
    assert set(found["name"]) == {name}
    values = found.set_index("metric")[["value", "standard_error", "rows"]]
    assert values.index.tolist() == ["loss", "ranking_accuracy", "clean/ranking_accuracy"]
    assert values.loc["ranking_accuracy"].tolist() == [40.0, 7.0, 50.0]
    assert values.loc["clean/ranking_accuracy", "rows"] == 20
    assert found["loss"].iloc[0] == cells.iloc[0]["loss"]
    states = sweep_results(root).set_index("name")
    assert states.loc[name, "loss"] == cells.iloc[0]["loss"]


def test_rows_of_a_papers_table_are_read_with_their_shots(sweeps, tmp_path):
    cells = sweeps.isoflop_cells(budgets=1, sizes=2)
    root = sweeps.write(tmp_path, cells, sweeps.curves_of(cells))
    name, steps = cells.iloc[0]["name"], int(cells.iloc[0]["steps"])
    row = {
        "task": "piqa", "shots": 5, "split": "validation", "value": "ranking_accuracy_sum",
        "measured": 55.0, "standard_error": 1.5, "rows": 100.0, "split_rows": 100.0,
    }  # fmt: skip
    folder = root / "cells" / name / "eval" / "suites" / "llama"
    folder.mkdir(parents=True)
    results = {"suite": "llama", "step": steps, "rows": [row], "missing": {}}
    (folder / f"{steps}.json").write_text(json.dumps(results))
    found = sweep_measurements(root).iloc[0]
    assert (found["task"], found["metric"], found["value"]) == (
        "piqa, 5 shots", "ranking_accuracy_sum", 55.0
    )  # fmt: skip
    table = measured_table(sweep_measurements(root))
    assert table["headline"].all() and table["high"].iloc[0] == pytest.approx(57.94, abs=0.01)

    # The same row of another table is no second run; measured in another way it has its own name.
    def other(suite, **changes):
        path = folder.with_name(suite) / f"{steps}.json"
        path.parent.mkdir()
        path.write_text(json.dumps({**results, "suite": suite, "rows": [{**row, **changes}]}))

    other("gopher")
    assert len(sweep_measurements(root)) == 1
    other("palm", rows=50.0, measured=60.0)
    found = sweep_measurements(root).set_index("task")["value"]
    assert found["piqa, 5 shots (llama)"] == 55.0 and found["piqa, 5 shots (palm)"] == 60.0


def test_how_a_model_works_is_no_headline_and_losses_are_none():
    values = {"expert_load_max": 3.1, "router_z_loss": 2.0, "loss": 1.0, "token_accuracy": 0.4}
    rows = [{**row({"name": "a", "variant": "", "parameters": 1, "active_parameters": 1,
                    "tokens": 1, "flops": 1.0, "loss": 1.0}, "lm", 0.0, error=float("nan")),
             "metric": name, "value": value} for name, value in values.items()]  # fmt: skip
    table = measured_table(pd.DataFrame(rows)).set_index("metric")
    assert table.index[table["headline"]].tolist() == ["token_accuracy"]
