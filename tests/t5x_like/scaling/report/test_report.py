"""Reports of sweeps whose laws are known, finished and not."""

import dataclasses
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from t5x_like.cli import main
from t5x_like.scaling.report import series, style
from t5x_like.scaling.report.analysis import analyse
from t5x_like.scaling.report.page import page_text
from t5x_like.scaling.report.plots import all_plots
from t5x_like.scaling.report.plots.traces import gin_bindings
from t5x_like.scaling.report.studies import rate_study, shape_study
from t5x_like.scaling.report.summary import as_json, report_text
from t5x_like.scaling.report.sweep_runs import from_frames, read_sweep_runs
from t5x_like.scaling.report.tables import all_tables
from t5x_like.scaling.report.write import report

# Few, so that the tests are quick: intervals are the fits' and the multipliers' own tests' matter.
BOOTSTRAP = 30


def analysed(sweeps, cells, **options):
    runs = from_frames(cells, sweeps.curves_of(cells), name="synthetic", family="gopher")
    return analyse(runs, **{"bootstrap": BOOTSTRAP, **options})


@pytest.fixture(scope="module")
def finished(sweeps, tmp_path_factory):
    """A sweep's directory, and what `report --json` printed of it."""
    cells = sweeps.isoflop_cells({"serial": sweeps.law, "parallel": sweeps.worth(1.4)})
    root = tmp_path_factory.mktemp("sweep")
    return sweeps.write(root, cells, sweeps.curves_of(cells)), cells


@pytest.fixture(scope="module")
def printed(finished):
    root, _ = finished
    return report(root, bootstrap=BOOTSTRAP)


@pytest.mark.slow
def test_json_is_one_object_with_laws_multipliers_and_files(finished, tmp_path, capsys):
    root, _ = finished
    out = tmp_path / "out"
    assert main(["report", str(root), f"--out={out}", "--bootstrap=5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cells"], found["done"], found["baseline"]) == (70, 70, "serial")
    fitted = {(each["variant"], each["method"]) for each in found["fits"]}
    methods = ("approach1", "approach2", "approach3")
    assert fitted == {(v, m) for v in ("serial", "parallel") for m in methods}
    assert found["files"][0] == str(out / "index.html")
    assert all(Path(path).is_file() for path in found["files"])


def test_the_laws_are_those_the_runs_were_drawn_from(printed, sweeps):
    """a = beta / (alpha + beta) = 0.28 / 0.62, and the multiplier 1.4."""
    for each in printed["fits"]:
        if each["method"] != "approach1":  # the synthetic curves lag, as real ones do
            low, high = each["intervals"]["a"]
            assert low - 0.01 < 0.28 / 0.62 < high + 0.01
            assert each["parameters"]["a"] == pytest.approx(0.28 / 0.62, abs=0.02)
    (row,) = [row for row in printed["multipliers"] if row["headline"]]
    assert row["multiplier"] == pytest.approx(1.4, rel=0.05)
    assert row["low"] < row["multiplier"] < row["high"]


def test_tables_are_there_as_csv_and_as_parquet_with_the_same_numbers(finished, printed):
    root, cells = finished
    folder = root / "report" / "tables"
    names = {path.stem for path in folder.iterdir()}
    assert names == {"runs", "minima", "laws", "variants", "curves"}
    for name in names:
        csv, parquet = (
            pd.read_csv(folder / f"{name}.csv"),
            pd.read_parquet(folder / f"{name}.parquet"),
        )
        assert list(csv.columns) == list(parquet.columns)
        for column in csv.select_dtypes("number"):
            np.testing.assert_allclose(csv[column], parquet[column].astype(float), rtol=1e-12)
    runs = pd.read_parquet(folder / "runs.parquet")
    assert runs["loss"].to_numpy() == pytest.approx(cells["loss"].to_numpy())
    assert runs["gin_file"][0] == f"cells/{cells['name'][0]}/cell.gin"
    minima = pd.read_csv(folder / "minima.csv")
    assert minima.groupby("variant").size().to_dict() == {"serial": 5, "parallel": 5}
    assert (minima["parameters_low"] <= minima["parameters_high"]).all()


def test_a_report_that_is_passed_on_tells_nothing_of_its_machine(finished, printed):
    root, cells = finished
    texts = read_sweep_runs(root).gin_texts
    name = cells["name"][0]
    assert texts[name].endswith(f"MODEL_DIR = 'SWEEP_DIR/cells/{name}'\n")
    written = [path for path in (root / "report").rglob("*") if path.is_file()]
    assert len(written) > 15
    assert not [path for path in written if str(root).encode() in path.read_bytes()]


def test_figures_are_wide_enough_for_print_and_their_text_is_text(finished, printed):
    import matplotlib.image

    folder = finished[0] / "report" / "figures"
    names = {"isoflop", "optimum", "envelope", "residuals", "variants"}
    assert {path.stem for path in folder.iterdir()} == names
    words = {
        "isoflop": ("parameters N", "budget (FLOPs)", "parallel"),
        "optimum": ("compute C (FLOPs)", "Besiroglu 2024", "Approach 2"),
        "envelope": ("training loss (nats a token)", "envelope"),
        "residuals": ("tokens D",),
        "variants": ("compute multiplier against serial",),
    }
    for name in names:
        height, width, _ = matplotlib.image.imread(folder / f"{name}.png").shape
        assert width >= 1300 and height >= 500
        tree = ElementTree.parse(folder / f"{name}.svg")
        texts = {node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")}
        assert texts >= set(words[name])


@pytest.mark.slow
def test_a_new_report_replaces_the_old_one(finished, printed):
    root, _ = finished
    stale = root / "report" / "figures" / "shapes.png"
    stale.touch()
    report(root, bootstrap=0)
    assert not stale.exists()
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_an_unfinished_sweep_says_what_is_missing_and_fits_the_rest(sweeps, tmp_path, capsys):
    """Of the baseline three budgets are done, of the other variant nothing is."""
    cells = sweeps.isoflop_cells({"serial": sweeps.law, "parallel": sweeps.law})
    cells = sweeps.unfinished(cells, done=21)
    root = sweeps.write(tmp_path / "sweep", cells, sweeps.curves_of(cells))
    assert main(["report", str(root), "--bootstrap=0"]) == 0
    text = capsys.readouterr().out
    assert "21 of 70 runs done (1 running, 1 failed, 47 waiting)" in text
    assert "serial approach2: coefficient" in text
    assert "parallel: Approach 2, IsoFLOP parabolas: no cell is done yet." in text
    assert "failed: serial-" in text
    assert "variant 'parallel' has no finished run with an IsoFLOP budget" in text
    page = (root / "report" / "index.html").read_text()
    assert "21 of 70 runs done" in page
    assert "no cell is done yet." in page
    written = read_sweep_runs(root)
    assert written.gin_texts[cells["name"].iloc[-1]] == ""


@pytest.mark.parametrize("done", [0, 2, 5])
def test_a_sweep_that_has_just_begun_is_reported_too(sweeps, done):
    found = analysed(sweeps, sweeps.unfinished(sweeps.isoflop_cells(), done=done))
    missing = {note.about.partition(",")[0]: note.message for note in found.notes}
    assert not {"approach2", "approach3"} & {method for _, method in found.fits}
    expected = "no cell is done yet" if not done else "two budgets with 3 finished sizes"
    assert expected in missing["Approach 2"]
    assert "Runs" in page_text(found, all_tables(found))


def test_warnings_of_the_fits_are_on_the_page(sweeps):
    """Sizes are all above the best one of the smallest budget."""
    cells = sweeps.isoflop_cells(noise=0)
    best = sweeps.law.optimum(1e16)[0]
    cells = cells[(cells["budget"] > 1.1e16) | (cells["parameters"] > 1.01 * best)]
    found = analysed(sweeps, cells)
    assert "minimum_not_inside_grid" in {note.name for note in found.notes if note.warning}
    page = page_text(found, all_tables(found))
    assert "<code>minimum_not_inside_grid</code>" in page
    assert "<h2>Warnings</h2>" in page


def test_one_budget_alone_has_curves_but_no_law(sweeps):
    found = analysed(sweeps, sweeps.isoflop_cells(budgets=1))
    reasons = {note.about: note.message for note in found.notes if note.name == "not_fitted"}
    assert "two budgets" in reasons["Approach 2, IsoFLOP parabolas"]
    assert "8 finished runs; there are 7" in reasons["Approach 3, E + A/Nᵅ + B/Dᵝ"]
    assert 'id="isoflop"' in page_text(found, all_tables(found))


def test_with_experts_n_is_what_a_token_passes(sweeps):
    """The runs have eight times the parameters that they use; the law is that of those used."""
    cells = sweeps.isoflop_cells(noise=0)
    cells["parameters"] = 8 * cells["active_parameters"]
    found = analysed(sweeps, cells).fits["", "approach3"]
    assert found.parameters["A"] == pytest.approx(sweeps.law.A, rel=1e-3)


def test_a_law_that_is_far_from_every_run_leaves_the_axes(sweeps):
    """With alpha and A on their bounds approach 3 puts N below 1e-20; no run is below 1e6."""
    cells = sweeps.isoflop_cells(noise=0)
    found = analysed(sweeps, cells)
    law = dataclasses.replace(found.fits["", "approach3"].law, A=1e-7, alpha=1e-3)
    broken = dataclasses.replace(found.fits["", "approach3"], law=law, samples={})
    fits = {**found.fits, ("", "approach3"): broken}
    analysis = dataclasses.replace(found, fits=fits)
    lines = series.optima(analysis, "")
    (far,) = [line for line in lines if line.label == "Approach 3 (undetermined)"]
    assert far.parameters[0].max() < 1e-20
    low, high = series.window(analysis, lines, "parameters")
    smallest, largest = cells["parameters"].min(), cells["parameters"].max()
    assert smallest / 200 < low < smallest < largest < high < 200 * largest


def test_a_study_of_shapes_compares_cells_of_one_size(sweeps):
    cells = sweeps.shape_cells()
    rows = shape_study(cells)
    assert rows.groupby("group").size().tolist() == [5, 5]
    first = rows[rows["group"] == 0]
    # embed_dim 204 of 2 layers is 102; the best of sqrt(1e6 / 12 / 8) / 8 and its like is near 50.
    assert first["aspect_ratio"].max() == pytest.approx(102)
    assert first.loc[first["increase"].idxmin(), "aspect_ratio"] == pytest.approx(36, abs=1)
    assert first["increase"].min() == 0
    found = analysed(sweeps, cells)
    assert "shapes" in all_tables(found)
    assert 'class="plot" id="shapes"' in page_text(found, all_tables(found))
    assert len(as_json(found)["shapes"]) == 10


def test_an_isoflop_sweep_is_no_study_of_shapes(sweeps):
    assert shape_study(sweeps.isoflop_cells()).empty


def test_a_users_mistake_is_one_line(finished, tmp_path, capsys, monkeypatch):
    root, _ = finished
    assert main(["report", str(tmp_path)]) == 2
    assert "it has no sweep.json" in capsys.readouterr().err
    searching = tmp_path / "searching"
    searching.mkdir()
    plan = {"name": "new", "family": "gopher", "baseline": "", "cells": [], "search": []}
    (searching / "sweep.json").write_text(json.dumps(plan))
    assert main(["report", str(searching)]) == 2
    assert "has planned no run yet" in capsys.readouterr().err
    assert main(["report", str(root), "--baseline=swiglu"]) == 2
    line = capsys.readouterr().err
    assert "no variant 'swiglu': there are serial, parallel." in line
    assert line.count("\n") == 1


def test_bindings_of_a_gin_file_are_what_it_sets():
    text = """# Cell x
from __gin__ import dynamic_registration
from models import gpt

include 'models/gopher/shape.gin'

NUM_LAYERS = 4
MODEL = @gpt.GPT2()
gpt.GPT2.bias = (
    1,
    2)
"""
    expected = ["NUM_LAYERS = 4", "MODEL = @gpt.GPT2()", "gpt.GPT2.bias = ( 1, 2)"]
    assert gin_bindings(text) == expected


@pytest.mark.parametrize(
    ("value", "text"), [(12_345_678, "12.3M"), (999.9e6, "1B"), (1.5e12, "1.5T"), (950, "950")]
)
def test_counts_are_written_as_they_are_read_aloud(value, text):
    assert style.short(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1e18, "10¹⁸"), (3.16e17, "3.2×10¹⁷"), (9.99e9, "10¹⁰")]
)
def test_flops_are_powers_of_ten(value, text):
    assert style.power(value) == text


@pytest.mark.parametrize("high", [1.05, 1.3, 2, 7, 25, 300, 1e5, 1e12])
@pytest.mark.parametrize("low", [1.0, 3.7e6, 8.9e17])
def test_a_log_axis_has_two_to_nine_labels_of_few_digits(low, high):
    places = style.ticks(low, low * high)
    assert 2 <= len(places) <= 9
    assert all(low <= place <= low * high * (1 + 1e-9) for place in places)
    assert all(place == float(f"{place:.4g}") for place in places)


def test_a_colour_that_comes_round_again_has_another_dash():
    looks = [(style.cycled(style.COLOURS, i), style.line_of(i)) for i in range(12)]
    assert len(set(looks)) == 12 and looks[0][1] == "-"
    assert [style.plotly_line_of(i) for i in (0, 5, 6)] == ["solid", "solid", "dash"]


@pytest.mark.parametrize("colour", [*style.COLOURS, *style.sequence(9)])
def test_colours_stand_out_on_a_dark_page(colour):
    """3:1 against #16181c, by the formula of WCAG 2.2 for relative luminance."""

    def luminance(text):
        parts = [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter = luminance(style.on_dark(colour))
    assert (lighter + 0.05) / (luminance("#16181c") + 0.05) >= 3


# -- Learning rates --------------------------------------------------------------------------


def rate_cells(sweeps):
    """Two sizes at four rates and two seeds, best at 0.01; and one run of another length."""
    rows = [
        {**sweeps.cell("", n, 20 * n, 3 + 0.1 * np.log10(rate / 0.01) ** 2 - 1e-9 * n + 0.01 * seed,
                       learning_rate=rate, seed=seed),
         "name": f"learning_rate_{rate}-width_{n:.0f}-s{seed}"}
        for n in (1e6, 4e6)
        for rate in (0.001, 0.003, 0.01, 0.03)
        for seed in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame([*rows, sweeps.cell("", 1e6, 3e7, 3.0)])


def test_a_sweep_over_rates_has_a_plot_of_loss_against_rate(sweeps):
    found = analysed(sweeps, rate_cells(sweeps), bootstrap=0)
    assert found.rates.groupby("group").size().tolist() == [8, 8]
    plot = next(plot for plot in all_plots(found) if plot.name == "rates")
    line, marks = plot.data[:2]
    assert line["x"] == [0.001, 0.003, 0.01, 0.03] and len(marks["x"]) == 8
    # The mean of both seeds, at a tenth of the best rate: 3 + 0.1 - 0.001 + 0.005.
    assert line["y"][0] == pytest.approx(3.104) and min(line["y"]) == line["y"][2]
    assert plot.layout["xaxis"]["type"] == "log" and marks["name"] == "N 1M, D 20M"
    tables = all_tables(found)
    assert list(tables["rates"]["learning_rate"][:2]) == [0.001, 0.001]
    assert 'class="plot" id="rates"' in page_text(found, tables)
    assert len(as_json(found)["rates"]) == 16


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((1.5, 1.2, np.inf), "multiplier 1.5 [1.2, ∞] against"),
        ((np.inf, 2.0, np.inf), "multiplier unbounded [2, ∞] against"),
        ((np.nan, np.nan, np.nan), "multiplier undefined against"),
    ],
)
def test_a_multiplier_that_is_unbounded_is_told_from_one_that_is_not_known(sweeps, values, said):
    cells = sweeps.isoflop_cells({"serial": sweeps.law, "parallel": sweeps.worth(1.4)}, budgets=3)
    found = analysed(sweeps, cells, bootstrap=0)
    table = found.multipliers.table.copy()
    table.loc[table["headline"], ["multiplier", "low", "high"]] = values
    found = dataclasses.replace(
        found, multipliers=dataclasses.replace(found.multipliers, table=table)
    )
    assert said in report_text({**as_json(found), "files": ["index.html"]})


def test_rates_of_runs_that_differ_in_more_are_studied_apart(sweeps):
    """Three rates with two weight decays: the mean over both would be of neither."""
    losses = {0.0: (2.50, 2.10, 2.20), 0.1: (1.90, 2.40, 2.60)}
    rows = [
        {**sweeps.cell("", 1e6, 2e7, loss, learning_rate=rate),
         "name": f"learning_rate_{rate}-weight_decay_{decay}"}
        for decay, of_rates in losses.items()
        for rate, loss in zip((1e-05, 0.003, 0.01), of_rates, strict=True)
    ]  # fmt: skip
    found = analysed(sweeps, pd.DataFrame(rows), bootstrap=0)
    assert found.rates.groupby("group").size().tolist() == [3, 3]
    assert "0.003 gives the lowest loss, 2.1000" in (said := as_json(found)["conclusion"])
    assert "single runs: no interval" in said


def test_a_sweep_of_one_rate_has_none(sweeps):
    assert rate_study(sweeps.isoflop_cells()).empty


def test_a_published_law_far_from_the_runs_does_not_squeeze_the_axes(sweeps):
    # A sweep of a CPU, where Kaplan's best N goes from 101 to 15,700.
    rows = [
        sweeps.cell("", n, budget / 6 / n, 3 + (np.log10(n / best)) ** 2, budget=budget)
        for budget, best in ((1e11, 2e4), (1e12, 6e4), (1e13, 2e5))
        for n in best * np.geomspace(0.4, 2.5, 5)
    ]
    found = analysed(sweeps, pd.DataFrame(rows), bootstrap=0)
    lines = series.optima(found, "")
    low, high = series.window(found, lines, "parameters")
    assert 8e3 / 6 < low < 8e3 and 5e5 < high < 5e5 * 6
    kaplan = next(line for line in lines if line.label.startswith("Kaplan"))
    assert kaplan.parameters[0].min() < 110
    own = next(line for line in lines if not line.published)
    assert series.label_within(own, "parameters", (low, high)) == own.label
    above = series.label_within(kaplan, "parameters", (1e5, 1e6))
    assert above == "Kaplan 2020 (N without embeddings), off the axes"


def test_that_compute_is_counted_exactly_is_said_once(sweeps):
    """And not of each fit: it is the sweep's choice."""
    cells = sweeps.isoflop_cells({"a": sweeps.law, "b": sweeps.worth(1.5)}, budgets=3, sizes=5)
    cells = cells.assign(flops=cells["budget"], tokens=cells["tokens"] * 1.6)
    analysis = analyse(from_frames(cells, sweeps.curves_of(cells), name="exact"), bootstrap=0)
    said = [note for note in analysis.notes if note.name == "flops_not_6nd"]
    assert len(said) == 1 and said[0].about == "" and "exact FLOPs" in said[0].message
    assert analysis.multipliers.table["multiplier"].iloc[0] == pytest.approx(1.5, rel=0.1)
