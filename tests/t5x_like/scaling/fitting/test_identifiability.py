"""What runs do not determine is refused or told, and has no narrow interval."""

import numpy as np
import pandas as pd
import pytest

from t5x_like.errors import UserError
from t5x_like.scaling import laws
from t5x_like.scaling.fitting import fit
from t5x_like.scaling.fitting.fit_report import fit_text
from t5x_like.scaling.fitting.identifiability import num_levels
from t5x_like.scaling.fitting.resampling import counts_of_runs, counts_within_groups, settings
from t5x_like.scaling.fitting.result import interval
from t5x_like.scaling.multiplier import compute_multipliers

CHINCHILLA = laws.ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
LOSS_LAWS = (
    *("approach3", "variable_projection", "variable_projection_relative"),
    *("kaplan", "gadre"),
)
SIZES = np.geomspace(3e7, 3e9, 4)


def table(n, d, noise=0.01):
    n, d = np.broadcast_arrays(np.asarray(n, np.float64), np.asarray(d, np.float64))
    noise = np.exp(noise * np.random.default_rng(0).standard_normal(len(n)))
    return pd.DataFrame({"N": n, "D": d, "loss": CHINCHILLA.loss(n, d) * noise})


def grid(noise=0.01):
    """Four sizes, each on three numbers of tokens."""
    return table(np.repeat(SIZES, 3), np.repeat(SIZES, 3) * np.tile([4, 20, 100], 4), noise)


def isoflop():
    rows = []
    for budget in (1e18, 1e19, 1e20):
        best = float(CHINCHILLA.optimum(budget)[0])
        for n in best * 10 ** np.linspace(-0.5, 0.5, 5):
            rows.append({"N": n, "C": budget, "loss": float(CHINCHILLA.loss(n, budget / 6 / n))})
    frame = pd.DataFrame(rows)
    noise = np.random.default_rng(0).standard_normal(len(frame))
    return frame.assign(loss=frame["loss"] * np.exp(0.002 * noise))


def curves():
    return pd.concat(
        pd.DataFrame({"name": f"run {i}", "N": n, "D": (d := np.geomspace(1, 400, 50) * n),
                      "loss": CHINCHILLA.loss(n, d)})
        for i, n in enumerate(np.geomspace(2e7, 5e9, 9))
    )  # fmt: skip


def twice(frame):
    return pd.concat([frame, frame], ignore_index=True)


def warnings_of(found):
    return {entry["name"]: entry["message"] for entry in found.warnings}


# -- Three different N and D --------------------------------------------------------------------


@pytest.mark.parametrize("method", LOSS_LAWS)
@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_n_or_d_are_refused(method, count):
    few, many = np.resize([1e8, 4e8][:count], 12), np.geomspace(1e9, 1e11, 12)
    with pytest.raises(UserError, match=rf"3 different values of N, and these 12 .* have {count} "):
        fit(table(few, many), method)
    with pytest.raises(UserError, match=rf"3 different values of D, and these 12 .* have {count} "):
        fit(table(many, few), method)


def test_values_that_differ_by_rounding_are_one():
    # N from C / 6D, as where a file has C and D.
    d = np.geomspace(1e9, 1e11, 12)
    frame = table(1e8, d)
    frame = pd.DataFrame({"C": 6 * 1e8 * d * (1 + 1e-3 * np.sin(d)), "D": d, "loss": frame["loss"]})
    with pytest.raises(UserError, match="3 different values of N"):
        fit(frame)
    assert num_levels(np.array([1.0, 1.019, 1.021, 2.0])) == 3


def test_an_envelope_needs_three_sizes():
    two = curves()
    two = two[two["name"].isin(["run 2", "run 5"])]
    with pytest.raises(UserError, match="at least 3 sizes that overlap in FLOPs; there are 2"):
        fit(two, "approach1")


def test_a_parabola_needs_three_sizes_that_differ():
    frame = isoflop()
    # At the first budget two sizes, one of them with rounding errors.
    frame.loc[1:3, "N"] = frame.loc[1, "N"] * np.array([1.0, 1.001, 1.002])
    frame = frame.drop(index=0)
    assert "has 2 sizes; a parabola needs 3" in fit(frame, "approach2").rows_left_out[0]["reason"]


def test_a_law_through_two_minima_is_told():
    assert "two_minima" in warnings_of(fit(isoflop().head(10), "approach2"))
    assert "two_minima" not in warnings_of(fit(isoflop(), "approach2"))


# -- Directions without curvature ---------------------------------------------------------------


@pytest.mark.parametrize("method", LOSS_LAWS[:3])
def test_the_exponent_of_a_term_that_is_zero_has_an_infinite_interval(method):
    frame = grid()
    noise = np.random.default_rng(1).standard_normal(len(frame))
    frame["loss"] = (1.7 + 400 * frame["N"] ** -0.34) * np.exp(0.0005 * noise)
    found = fit(frame, method, bootstrap=20)
    assert "beta" in warnings_of(found)["not_determined"]
    for name in ("B", "beta", "a", "b"):
        assert found.intervals[name] == [-np.inf, np.inf], name
    on_bound = [w["message"] for w in found.warnings if w["name"] == "parameter_on_bound"]
    assert any("B = 0 sits on its bound" in message for message in on_bound)
    assert found.parameters["alpha"] == pytest.approx(0.34, abs=0.02)
    assert np.isfinite(found.intervals["alpha"]).all()
    # What follows from it too.
    at = found.optimum(1e21)
    assert at["parameters_interval"] == at["loss_interval"] == [-np.inf, np.inf]
    assert found.predict(1e9, 1e10)[1:] == (-np.inf, np.inf)
    assert "[-∞, ∞]" in fit_text(found)
    written = found.to_json()
    assert written["intervals"]["beta"] == [None, None] and "beta" in written["undetermined"]


def test_terms_that_can_be_interchanged_are_not_determined():
    # With D = 20 N in all runs, A/N^alpha and B/D^beta may change places.
    n = np.geomspace(1e7, 1e10, 12)
    found = fit(table(n, 20 * n), bootstrap=8)
    assert set(found.undetermined) == {"A", "B", "alpha", "beta", "a", "b"}
    assert np.isfinite(found.intervals["E"]).all()
    # Gadre's form has one exponent, which is determined, and two coefficients, which are not.
    assert set(fit(table(n, 20 * n), "gadre").undetermined) == {"a_M", "b_M"}


@pytest.mark.parametrize("method", LOSS_LAWS)
def test_a_grid_of_n_and_d_determines_everything(method):
    assert fit(grid(), method).undetermined == ()


def test_an_interval_does_not_end_where_the_search_does():
    # D^-4, where exponents end at 3.
    frame = grid(noise=0.0)
    frame["loss"] = 1.7 + 400 * frame["N"] ** -0.34 + 0.5 * (frame["D"] / 1.2e8) ** -4
    low, high = fit(frame, bootstrap=8).intervals["beta"]
    assert high == np.inf and np.isfinite(low)


def test_resamples_of_two_sizes_do_not_count():
    # Three sizes, of which a resample of nine runs lacks one with 3·(2/3)^9 = 7.8%, less overlaps.
    n = np.repeat(SIZES[:3], 3)
    found = fit(table(n, n * np.tile([4, 20, 100], 3)), bootstrap=200)
    lost = int(np.isnan(found.samples["alpha"]).sum())
    assert 5 <= lost <= 40
    assert f"{lost} of 200 resamples give no law" in warnings_of(found)["resamples_without_law"]


def test_an_interval_of_few_resamples_is_none():
    most = np.array([1.0, 2.0, 3.0, np.nan, np.nan])
    assert interval(most) == (pytest.approx(1.05), pytest.approx(2.95))
    low, high = interval(np.array([[1.0, 2.0, np.nan, np.nan, np.nan], most]))
    assert np.isnan([low[0], high[0]]).all() and low[1] == pytest.approx(1.05)


# -- Repeats ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", [*LOSS_LAWS, "approach2", "approach1"])
def test_every_run_given_twice_changes_neither_law_nor_intervals(method):
    frame = {"approach2": isoflop, "approach1": curves}.get(method, grid)()
    again = twice(frame)
    if "name" in frame:  # of two names, as two runs would have
        again.loc[len(frame) :, "name"] += " again"
    once, both = (fit(each, method, bootstrap=16) for each in (frame, again))
    for name, value in once.parameters.items():
        assert both.parameters[name] == pytest.approx(value, rel=1e-5), name
        assert both.intervals[name] == pytest.approx(once.intervals[name], rel=1e-4), name
    assert (both.resampled, both.settings) == (once.resampled, once.settings)
    assert "repeated_rows" in warnings_of(both) and "repeated_rows" not in warnings_of(once)
    count = len(frame)
    assert f"{count} of {2 * count} rows have the N, D" in warnings_of(both)["repeated_rows"]
    assert f"{2 * count} rows used of {count} settings" in fit_text(both)


def test_seeds_of_a_setting_are_drawn_together_and_are_not_copies():
    frame = twice(grid())
    frame.loc[12:, "loss"] *= 1.001
    found = fit(frame, bootstrap=10)
    assert (found.resampled, found.settings, found.rows_used) == (12, 12, 24)
    assert "repeated_rows" not in warnings_of(found)
    counts, _ = counts_of_runs([f"run {i}" for i in range(24)], settings(renamed(frame)), 5, 0)
    np.testing.assert_array_equal(counts[:, :12], counts[:, 12:])


def renamed(frame):
    return frame.rename(columns={"N": "parameters", "D": "tokens"})


def test_runs_that_share_a_setting_are_drawn_with_all_their_checkpoints():
    # Runs a and b meet in setting 1, b and c in setting 3; d is alone.
    names = ["a", "a", "b", "b", "c", "c", "d"]
    setting = np.array([0, 1, 1, 3, 3, 4, 5])
    counts, drawn = counts_of_runs(names, setting, 20, 0)
    assert drawn == 2
    assert (counts[:, :6] == counts[:, :1]).all() and (counts.max(axis=1) <= 2).all()


def test_within_a_budget_as_many_settings_are_drawn_as_there_are():
    groups, setting = np.array([0, 0, 0, 1, 1]), np.array([7, 7, 2, 3, 4])
    counts = counts_within_groups(groups, setting, 50, 0)
    np.testing.assert_array_equal(counts[:, 0], counts[:, 1])
    np.testing.assert_array_equal(counts[:, [0, 2]].sum(axis=1), 2)
    np.testing.assert_array_equal(counts[:, 3:].sum(axis=1), 2)


def test_few_runs_counts_settings():
    frame = grid().iloc[[0, 1, 2, 3, 5, 7, 11]]
    assert "7 runs for 5 parameters" in warnings_of(fit(twice(frame)))["few_runs"]


def test_compute_multipliers_of_every_run_given_twice_are_as_wide(sweeps):
    runs = sweeps.isoflop_cells({"base": sweeps.law, "better": sweeps.worth(1.3)})
    once, both = (
        compute_multipliers(each, "base", bootstrap=100).table.iloc[0]
        for each in (runs, twice(runs))
    )
    for name in ("multiplier", "low", "high"):
        assert both[name] == pytest.approx(once[name], rel=1e-9), name
