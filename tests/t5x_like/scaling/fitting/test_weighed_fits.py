"""Fits in which runs weigh by the standard errors of their losses."""

import json

import numpy as np
import pandas as pd
import pytest

from t5x_like import cli
from t5x_like.errors import UserError
from t5x_like.scaling import laws
from t5x_like.scaling.fitting import fit
from t5x_like.scaling.fitting.forms import ParametricForm, Points
from t5x_like.scaling.fitting.numerics.residuals import HuberObjective

LAW = laws.ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
LOSS_LAWS = ("approach3", "variable_projection", "variable_projection_relative")


def runs(noise=0.01):
    rng = np.random.default_rng(0)
    n, d = (
        np.ravel(axis)
        for axis in np.meshgrid(10 ** np.array([7.0, 7.5, 8, 9]), 10 ** np.array([9.0, 9.5, 10.5]))
    )
    return pd.DataFrame(
        {"N": n, "D": d, "loss": LAW.loss(n, d) * np.exp(noise * rng.standard_normal(len(n)))}
    )


def test_a_parabola_by_hand():
    """Of each budget, at log10 N one below, at and one above 7.5, losses 3.06, 2.5 and 2.9.

    The first is the mean of two runs of one size, 3.0 ± 0.1 and 3.3 ± 0.2, by weights 100 and 25.
    Slope -0.08 and curvature 0.48 put the minimum at 7.5 + 0.08 / 0.96, 0.08² / (4 0.48) below 2.5.
    Unweighed, the first is 3.15: slope -0.125, curvature 0.525.
    """
    rows = [
        {"N": 10**log_n, "C": budget, "budget": budget, "loss": loss, "loss_standard_error": error}
        for budget in (1e18, 1e19)
        for log_n, loss, error in (
            (6.5, 3.0, 0.1), (6.5, 3.3, 0.2), (7.5, 2.5, 0.1), (8.5, 2.9, 0.4)
        )
    ]  # fmt: skip
    weighed = fit(pd.DataFrame(rows), "approach2", weigh=True).minima
    assert np.log10(weighed["parameters"].to_numpy()) == pytest.approx(7.5 + 0.08 / 0.96)
    assert weighed["loss"].to_numpy() == pytest.approx(2.5 - 0.08**2 / (4 * 0.48))
    evenly = fit(pd.DataFrame(rows), "approach2").minima
    assert np.log10(evenly["parameters"].to_numpy()) == pytest.approx(7.5 + 0.125 / 1.05)


@pytest.mark.parametrize("method", LOSS_LAWS)
def test_equal_errors_change_nothing(method):
    table = runs()
    of_loss = 1.0 if method == "variable_projection" else table["loss"]  # else of log loss
    even = table.assign(loss_standard_error=0.02 * of_loss)
    found, plain = fit(even, method, weigh=True), fit(even, method)
    assert found.parameters == pytest.approx(dict(plain.parameters), rel=1e-5)
    assert found.weighed and not plain.weighed
    if method != "variable_projection_relative":
        assert found.objective == pytest.approx(plain.objective)


@pytest.mark.parametrize("method", ["approach3", "variable_projection"])
def test_a_run_of_half_the_error_weighs_as_four(method):
    """Within Huber's square: with a delta that is above all residuals."""
    table = runs()
    of_loss = 1.0 if method == "variable_projection" else table["loss"]
    precise = table.index == 5
    found = fit(
        table.assign(loss_standard_error=np.where(precise, 0.01, 0.02) * of_loss),
        method, weigh=True, huber_delta=1.0,
    )  # fmt: skip
    fourfold = pd.concat([table, *[table[precise]] * 3])
    expected = fit(fourfold, method, huber_delta=1.0)
    assert found.parameters == pytest.approx(dict(expected.parameters), rel=1e-5)


def test_beyond_hubers_square_it_weighs_as_two():
    """There the loss is linear in a residual over its standard error."""
    table = runs(noise=0.1)
    data = Points(*(table[name].to_numpy() for name in ("N", "D", "loss")))
    at = np.array([[0.6, 0.5, 0.5, 0.3, 0.3]])
    once = np.ones((1, len(table)))
    scales, counts = once[0].copy(), once.copy()
    scales[5] = counts[0, 5] = 2.0
    found = HuberObjective(ParametricForm(), data, 1e-9, once, scales)
    expected = HuberObjective(ParametricForm(), data, 1e-9, counts)
    for ours, theirs in zip(*(each.evaluate(at, [0]) for each in (found, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_an_uncertain_outlier_leaves_the_law_alone_in_every_resample():
    table = runs(noise=0.0)
    table.loc[3, "loss"] *= 1.2
    table["loss_standard_error"] = 0.01
    table.loc[3, "loss_standard_error"] = 1e6
    found = fit(table, "variable_projection", weigh=True, bootstrap=20)
    assert found.parameters["alpha"] == pytest.approx(0.34, rel=1e-5)
    assert found.intervals["alpha"] == pytest.approx([0.34, 0.34], rel=1e-4)
    assert fit(table, "variable_projection").parameters["alpha"] != pytest.approx(0.34, rel=0.02)


def test_runs_without_an_error_are_left_out_and_named(tmp_path, capsys):
    table = runs().assign(name="r", stderr=0.01)
    table.loc[2, "stderr"] = np.nan
    table.loc[4, "stderr"] = 0.0
    path = tmp_path / "runs.csv"
    table.to_csv(path, index=False)
    assert cli.main(["fit", str(path), "--weigh", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["weighed"] and found["rows_used"] == 10
    assert [row["row"] for row in found["rows_left_out"]] == [3, 5]
    assert found["rows_left_out"][0]["reason"] == "its loss has no standard error above 0 (--weigh)"
    assert cli.main(["fit", str(path), "--weigh"]) == 0
    assert "each run weighs by the standard error of its loss" in capsys.readouterr().out


def test_what_cannot_be_weighed_is_refused():
    with pytest.raises(UserError, match="--weigh needs a column loss_standard_error, and the"):
        fit(runs(), weigh=True)
    with pytest.raises(UserError, match="approach1 takes the lowest of curves"):
        fit(runs().assign(loss_standard_error=0.1), "approach1", weigh=True)
