"""Approaches 1 and 2: what they recover, and what makes their grids doubtful."""

import numpy as np
import pandas as pd
import pytest

from t5x_like.errors import UserError
from t5x_like.scaling import laws
from t5x_like.scaling.fitting import fit
from t5x_like.scaling.fitting.power_law import power_law

BUDGETS = (1e18, 3e18, 1e19, 3e19, 1e20)
# With one exponent for N and D, the loss along a budget is even in log N about its minimum.
EVEN = laws.ParametricLaw(E=1.7, A=400.0, B=400.0, alpha=0.3, beta=0.3)
CHINCHILLA = laws.ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)


def isoflop(law=EVEN, spread=0.5, sizes=7, shift=lambda budget: 0.0, noise=0.0, seed=0):
    """Sizes within `spread` decades around each budget's best, or `shift` off it."""
    rng, rows = np.random.default_rng(seed), []
    for budget in BUDGETS:
        best = float(law.optimum(budget)[0])
        for n in best * 10 ** (np.linspace(-spread, spread, sizes) + shift(budget)):
            loss = float(law.loss(n, budget / 6 / n)) * np.exp(noise * rng.standard_normal())
            rows.append({"N": n, "C": budget, "loss": loss})
    return pd.DataFrame(rows)


def curves(law=CHINCHILLA, sizes=14):
    """Training curves whose loss after D tokens is that of a run of D tokens."""
    return pd.concat(
        pd.DataFrame({"name": f"run {i}", "N": n, "D": (d := np.geomspace(1, 400, 150) * n),
                      "loss": law.loss(n, d)})
        for i, n in enumerate(np.geomspace(2e7, 5e9, sizes))
    )  # fmt: skip


def warnings_of(found):
    return {entry["name"]: entry["message"] for entry in found.warnings}


# -- Approach 2 ---------------------------------------------------------------------------------


def test_centred_grids_of_an_even_loss_give_the_exact_law():
    found = fit(isoflop(), "approach2")
    np.testing.assert_allclose(found.minima["budget"], BUDGETS)
    np.testing.assert_allclose(found.minima["parameters"], EVEN.optimum(BUDGETS)[0], rtol=1e-6)
    assert found.parameters["a"] == pytest.approx(0.5, abs=1e-7)
    assert found.law.optimum(1e21)[0] == pytest.approx(EVEN.optimum(1e21)[0], rel=1e-6)
    assert set(warnings_of(found)) == {"tokens_below_parameters"}


def test_parabolas_pass_through_losses_that_are_parabolas():
    # L = 3 + 0.5·(log10 N - log10 best)², best = 1e8·(C/1e18)^0.46, by hand.
    frame = pd.DataFrame(
        [
            {"N": best * 10**away, "C": budget, "loss": 3 + 0.5 * away**2}
            for budget in BUDGETS
            for best in [1e8 * (budget / 1e18) ** 0.46]
            for away in (-0.3, -0.1, 0.2, 0.4)
        ]
    )
    found = fit(frame, "approach2")
    assert found.parameters["exponent"] == pytest.approx(0.46, rel=1e-9)
    assert found.law.optimum(1e18)[0] == pytest.approx(1e8, rel=1e-7)
    np.testing.assert_allclose(found.minima["loss"], 3, rtol=1e-12)
    np.testing.assert_allclose(found.minima["curvature"], 0.5, rtol=1e-9)
    np.testing.assert_allclose(found.residuals["residual"], 0, atol=1e-12)


def test_a_minimum_outside_of_its_grid_is_left_out():
    # At the largest budget the sizes stop 0.1 decades short of the best.
    shift = {1e20: -0.6}
    found = fit(isoflop(shift=lambda budget: shift.get(budget, 0.0)), "approach2")
    assert list(found.minima["inside"]) == [True] * 4 + [False]
    assert list(found.minima["used"]) == [True] * 4 + [False]
    assert found.parameters["a"] == pytest.approx(0.5, abs=1e-7)
    assert "1 of 5 IsoFLOP minima" in warnings_of(found)["minimum_not_inside_grid"]


def test_without_two_minima_there_is_no_law():
    with pytest.raises(UserError, match=r"of 5 budgets 0 have one\. Add smaller or larger models"):
        fit(isoflop(shift=lambda budget: 0.8), "approach2")


def test_a_drifting_centre_biases_the_exponent_and_is_told():
    drift = 0.1
    drifting = fit(isoflop(CHINCHILLA, shift=lambda c: drift * np.log10(c / 1e19)), "approach2")
    offset = fit(isoflop(CHINCHILLA, shift=lambda c: 0.2), "approach2")
    centred = fit(isoflop(CHINCHILLA), "approach2")
    message = warnings_of(drifting)["grid_centre_drifts"]
    assert "for each decade of C" in message and "only the coefficient" in message
    assert "grid_centre_drifts" not in warnings_of(offset)
    assert "grid_centre_drifts" not in warnings_of(centred)
    wrong = abs(drifting.parameters["a"] - CHINCHILLA.a)
    assert wrong > 2 * abs(offset.parameters["a"] - CHINCHILLA.a)


def test_a_wide_grid_is_told_and_a_window_mends_it():
    wide = isoflop(CHINCHILLA, spread=1.2, sizes=13)
    found = fit(wide, "approach2")
    # 13 sizes are 0.2 decades apart: 0.8, 1.0 and 1.2 lie beyond on each side of 5 minima.
    assert "--window 0.7 leaves 30 of 65" in warnings_of(found)["grid_too_wide"]
    windowed = fit(wide, "approach2", window=0.7)
    assert "grid_too_wide" not in warnings_of(windowed)
    assert windowed.rows_used + len(windowed.rows_left_out) == 65
    assert "more than 0.7 decades" in windowed.rows_left_out[0]["reason"]
    truth = CHINCHILLA.optimum(np.array(BUDGETS))[0]

    def error(fitted):
        return np.abs(np.log(fitted.minima["parameters"] / truth)).max()

    assert error(windowed) < error(found) / 2


def test_budgets_are_those_named():
    frame = isoflop()
    frame["C"] *= np.tile([0.95, 1.0, 1.05, 1.0, 0.97, 1.0, 1.02], len(BUDGETS))
    extra = pd.DataFrame([{"N": 1e8, "C": 1.8e19, "loss": 3.0}])
    found = fit(pd.concat([frame, extra]), "approach2", budgets=BUDGETS)
    assert list(found.minima["budget"]) == list(BUDGETS)
    assert found.rows_left_out == [
        {"row": 36, "name": "row 36", "reason": "C is not within 25% of a budget (--budgets)"}
    ]


def test_budgets_that_run_together_are_told():
    rng = np.random.default_rng(0)
    frame = pd.concat([isoflop()] * 3, ignore_index=True)
    frame["C"] = 10 ** rng.uniform(18, 20, len(frame))
    assert "Name them (--budgets" in warnings_of(fit(frame, "approach2"))["budgets_run_together"]


def test_a_budget_with_two_sizes_is_left_out_with_the_reason():
    frame = isoflop().drop(index=range(2, 7))
    found = fit(frame, "approach2")
    assert len(found.minima) == 4
    assert "has 2 sizes; a parabola needs 3" in found.rows_left_out[0]["reason"]


def test_one_budget_is_refused():
    with pytest.raises(UserError, match="needs two budgets of 3 sizes each, and 1 have that"):
        fit(isoflop().head(7), "approach2")


def test_runs_are_drawn_within_budgets_and_intervals_hold_the_truth():
    found = fit(isoflop(noise=0.002), "approach2", bootstrap=400)
    assert found.resampled == 35
    low, high = found.intervals["a"]
    assert low < 0.5 < high and high - low < 0.2
    minima = found.minima
    assert (minima["parameters_low"] < minima["parameters"]).all()
    assert (minima["parameters"] < minima["parameters_high"]).all()
    np.testing.assert_allclose(
        6 * minima["tokens_low"] * minima["parameters_high"], minima["budget"]
    )
    at = found.optimum(1e21)
    assert at["parameters_interval"][0] < at["parameters"] < at["parameters_interval"][1]
    assert at["loss"] is None
    with pytest.raises(UserError, match="not what loss it buys"):
        found.predict(1e9, 1e10)


def test_a_power_law_without_two_budgets_is_none():
    log_c = np.log([[1e18, 1e19, 1e20]] * 2)
    coefficient, exponent = power_law(log_c, np.array([[0.0, 1.0, 2.0], [0.0, np.nan, np.nan]]))
    assert exponent[0] == pytest.approx(1 / np.log(10))
    assert np.isnan(exponent[1]) and np.isnan(coefficient[1])


# -- Approach 1 ---------------------------------------------------------------------------------


def test_the_envelope_gives_the_exponent_of_the_law_behind_the_curves():
    found = fit(curves(), "approach1", bootstrap=50)
    assert found.parameters["a"] == pytest.approx(CHINCHILLA.a, abs=0.02)
    n = found.law.optimum(1e20)[0]
    assert n == pytest.approx(CHINCHILLA.optimum(1e20)[0], rel=0.15)
    low, high = found.intervals["a"]
    assert low < CHINCHILLA.a < high
    assert found.resampled == 14


def test_the_envelope_is_the_lowest_curve_at_1500_flop_counts():
    frame = curves(sizes=6)
    envelope = fit(frame, "approach1").envelope
    assert len(envelope) == 1500
    steps = np.diff(np.log(envelope["flops"]))
    np.testing.assert_allclose(steps, steps[0])
    # On its own curve, whose loss is that of the law, and below all others.
    row = envelope.iloc[700]
    sizes = frame.groupby("name")["N"].first()
    tokens = row["flops"] / 6 / sizes
    losses = CHINCHILLA.loss(sizes, tokens)
    losses = pd.Series(losses, index=sizes.index)
    assert losses[(tokens >= sizes) & (tokens <= 400 * sizes)].idxmin() == row["name"]
    assert row["loss"] == pytest.approx(losses[row["name"]], rel=1e-3)


def test_ends_of_the_envelope_where_no_other_size_could_win_are_not_fitted():
    found = fit(curves(), "approach1")
    used = found.envelope[found.envelope["used"]]
    assert used["parameters"].max() < 5e9 and used["parameters"].min() > 2e7
    few = fit(curves(sizes=3), "approach1")
    assert few.envelope["used"].all()
    assert "Train more sizes" in warnings_of(few)["minimum_not_inside_grid"]


def test_final_losses_alone_are_no_curves():
    with pytest.raises(UserError, match="needs training curves: several rows"):
        fit(isoflop(), "approach1")
