"""`t5x-like fit`: what it prints, as text and as JSON, and how it refuses."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from t5x_like import cli
from t5x_like.scaling import Fit, fit, laws, read_runs

CHINCHILLA = laws.ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)


@pytest.fixture
def runs_csv(tmp_path):
    """40 runs with a little noise, and 12 whose loss is not there."""
    rng = np.random.default_rng(0)
    n = 10 ** rng.uniform(7.5, 9.5, 52)
    d = n * 10 ** rng.uniform(0.3, 2.3, 52)
    loss = CHINCHILLA.loss(n, d) * np.exp(0.003 * rng.standard_normal(52))
    loss[40:] = np.nan
    path = tmp_path / "runs.csv"
    pd.DataFrame({"N": n, "D": d, "loss": loss}).to_csv(path, index=False)
    return path


def test_json_is_one_object_with_the_promised_keys(runs_csv, capsys):
    arguments = ["fit", str(runs_csv), "--bootstrap=20", "--drop_highest=2", "--json"]
    assert cli.main([*arguments, "--at_flops=1e20,1e21"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"A", "B", "E", "alpha", "beta", "a", "objective", "rows_used", "rows_left_out",
            "intervals", "warnings", "starts_agreeing"} <= set(found)  # fmt: skip
    assert found["rows_used"] == 38 and len(found["rows_left_out"]) == 14
    assert all({"row", "name", "reason"} == set(entry) for entry in found["rows_left_out"])
    assert [entry["flops"] for entry in found["optimum"]] == [1e20, 1e21]
    assert all(low < found[name] < high for name, (low, high) in found["intervals"].items())
    assert {len(values) for values in found["samples"].values()} == {20}
    law = laws.from_json(found["law"])
    assert law.loss(1e9, 1e10) == pytest.approx(CHINCHILLA.loss(1e9, 1e10), rel=0.01)


def test_text_shows_the_law_its_intervals_and_what_was_left_out(runs_csv, capsys):
    assert cli.main(["fit", str(runs_csv), "--bootstrap=20"]) == 0
    text = capsys.readouterr().out
    assert "40 rows used, 12 left out" in text
    assert "of 64 starts agree" in text and "20 resamples of 40 runs" in text
    for name in ("E", "A", "B", "alpha", "beta", "a", "b"):
        assert re.search(rf"^  {name} +[0-9.]+ +\[[0-9.]+, [0-9.]+\]$", text, re.MULTILINE), name
    assert "  row 41: loss is missing or NaN\n" in text
    assert "  and 2 more (--json lists all)" in text


def test_the_default_budgets_are_the_largest_and_10_and_100_times_it(runs_csv):
    found = fit(runs_csv)
    largest = read_runs(runs_csv).frame["flops"].max()
    np.testing.assert_allclose(found.at_flops, np.array([1, 10, 100]) * largest)
    assert isinstance(found, Fit)


@pytest.mark.parametrize("method", ["kaplan", "gadre", "variable_projection_relative"])
def test_all_loss_laws_are_printed(runs_csv, capsys, method):
    assert cli.main(["fit", str(runs_csv), f"--method={method}"]) == 0
    assert f"{method} fitted to runs.csv: L = " in capsys.readouterr().out


def test_minima_of_an_isoflop_grid_are_printed(tmp_path, capsys):
    rows = [
        {"N": best * 10**away, "C": budget, "loss": 3 + 0.5 * away**2}
        for budget, best in ((1e18, 1e8), (1e19, 3e8), (1e20, 9e8))
        for away in (-0.3, 0.0, 0.1, 0.4)
    ]
    path = tmp_path / "grid.jsonl"
    pd.DataFrame(rows).to_json(path, orient="records", lines=True)
    assert cli.main(["fit", str(path), "--method=approach2"]) == 0
    text = capsys.readouterr().out
    # 100M, 300M and 900M: log10(3) for each decade of C.
    assert re.search("exponent +0.477121", text)
    rows = [line.split() for line in text.partition("budget")[2].splitlines()[1:4]]
    assert [row[:3] for row in rows] == [
        ["1e+18", "4", "100M"], ["1e+19", "4", "300M"], ["1e+20", "4", "900M"],
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_residuals_are_drawn(runs_csv, tmp_path, capsys, suffix):
    picture = tmp_path / f"residuals.{suffix}"
    assert cli.main(["fit", str(runs_csv), f"--plot={picture}"]) == 0
    start = {"png": b"\x89PNG", "svg": b"<?xml"}[suffix]
    assert picture.read_bytes().startswith(start)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--method=aproach3"], "no method 'aproach3'; nearest: approach3"),
        (["--method=approach1"], "approach1 needs training curves"),
        (["--at_flops=much"], "--at_flops takes FLOPs like 1e21,1e22, not 'much'"),
        (["--bootstrap=-1"], "bootstrap is a count"),
        (["--bootstrap=some"], "invalid int value: 'some'"),
        (["--plot=residuals.gif"], "a figure is one of .png, .svg, .pdf"),
        (["--variant=moe"], "no run is of the variant 'moe'"),
    ],
)
def test_mistakes_are_one_line(runs_csv, capsys, flags, message):
    assert cli.main(["fit", str(runs_csv), *flags]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and message in printed.err
    assert len(printed.err.strip().splitlines()) == 1


def test_a_file_without_numbers_names_the_row(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    path.write_text("N,D,loss\n1e8,1e9,3.5\n1e8,2e9,low\n")
    assert cli.main(["fit", str(path)]) == 2
    assert "row 2: 'low' in the column 'loss' is not a number" in capsys.readouterr().err
