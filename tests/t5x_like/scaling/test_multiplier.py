"""Compute multipliers of variants whose advantage is known."""

import itertools

import numpy as np
import pandas as pd
import pytest

from t5x_like.errors import UserError
from t5x_like.scaling.laws import ParametricLaw
from t5x_like.scaling.multiplier import compute_multipliers, parabola_minimum

# Hoffmann et al. 2022, equation 10.
BASE = ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
BUDGETS = tuple(np.geomspace(1e17, 1e19, 5))


def worth(multiplier):
    """The law whose loss at any C is that of `BASE` at `multiplier * C`.

    L'(N, D) = L(N sqrt(m), D sqrt(m)): A and B shrink by m^(-alpha/2) and m^(-beta/2).
    """
    a = BASE.A * multiplier ** (-BASE.alpha / 2)
    b = BASE.B * multiplier ** (-BASE.beta / 2)
    return ParametricLaw(E=BASE.E, A=a, B=b, alpha=BASE.alpha, beta=BASE.beta)


def runs_of(variant, law, *, budgets=BUDGETS, sizes=7, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for budget in budgets:
        best = float(law.optimum(budget)[0])
        for factor in np.geomspace(1 / 2, 2, sizes):
            n = best * factor
            loss = float(law.loss(n, budget / 6 / n)) * np.exp(noise * rng.standard_normal())
            rows.append({"variant": variant, "budget": budget, "parameters": n, "loss": loss})
    return pd.DataFrame(rows)


def headline(found):
    (row,) = found.table[found.table["headline"]].to_dict("records")
    return row


@pytest.mark.parametrize("multiplier", [0.6, 1.0, 1.7])
def test_a_variant_worth_m_times_the_compute_is_measured_as_m(multiplier):
    law = worth(multiplier)
    assert law.loss(*law.optimum(1e18)) == pytest.approx(
        float(BASE.loss(*BASE.optimum(multiplier * 1e18))), rel=1e-12
    )
    runs = pd.concat([runs_of("base", BASE), runs_of("new", law)])
    found = compute_multipliers(runs, "base", bootstrap=20)
    assert found.table["multiplier"].to_numpy() == pytest.approx(multiplier, rel=2e-3)
    assert headline(found)["flops"] == pytest.approx(1e18)
    assert found.curves["base"].floor[0] == pytest.approx(BASE.E, rel=0.02)


def test_noise_of_a_half_percent_is_within_the_interval():
    """Of twelve sweeps with noise, the 95% interval holds the truth in nearly all."""
    held = []
    for seed in range(12):
        runs = pd.concat(
            [
                runs_of("base", BASE, sizes=9, noise=0.005, seed=seed),
                runs_of("new", worth(1.5), sizes=9, noise=0.005, seed=100 + seed),
            ]
        )
        row = headline(compute_multipliers(runs, "base", bootstrap=200, seed=seed))
        assert row["low"] < row["multiplier"] < row["high"]
        held.append(row["low"] <= 1.5 <= row["high"])
    assert sum(held) >= 10


def test_two_budgets_are_a_straight_line_at_their_geometric_mean():
    """By hand: losses C^-0.1 and (2 C)^-0.1, so that a budget is worth twice itself."""
    rows = []
    for (variant, m), budget in itertools.product((("a", 1), ("b", 2)), (1e18, 1e20)):
        for x in (-1, 0, 1):
            loss = (m * budget) ** -0.1 * (1 + 0.01 * x**2)
            n = 1e8 * np.exp(x)
            rows.append({"variant": variant, "budget": budget, "parameters": n, "loss": loss})
    found = compute_multipliers(pd.DataFrame(rows), "a", bootstrap=10)
    row = headline(found)
    assert row["flops"] == pytest.approx(1e19)
    assert row["multiplier"] == pytest.approx(2, rel=1e-9)
    assert np.isnan(row["low"])
    assert any("no interval" in note for note in found.notes)


def test_a_loss_below_the_baselines_floor_is_worth_infinitely_much():
    better = ParametricLaw(E=0.2, A=BASE.A / 4, B=BASE.B / 4, alpha=BASE.alpha, beta=BASE.beta)
    runs = pd.concat([runs_of("base", BASE), runs_of("new", better)])
    assert headline(compute_multipliers(runs, "base", bootstrap=5))["multiplier"] == np.inf


def test_a_budget_whose_minimum_is_outside_its_grid_is_left_out():
    runs = pd.concat([runs_of("base", BASE), runs_of("new", worth(1.3))])
    outside = (runs["variant"] == "new") & (runs["budget"] == BUDGETS[0])
    runs.loc[outside, "loss"] = 3 + runs.loc[outside, "parameters"] / 1e9
    found = compute_multipliers(runs, "base", bootstrap=5)
    left = found.minima[~found.minima["inside"]]
    assert left[["variant", "budget"]].to_numpy().tolist() == [["new", BUDGETS[0]]]
    assert headline(found)["budgets"] == 4
    assert headline(found)["multiplier"] == pytest.approx(1.3, rel=0.02)


def test_what_cannot_be_compared_is_said():
    runs = pd.concat([runs_of("base", BASE), runs_of("new", BASE, budgets=[1e18])])
    found = compute_multipliers(runs, "base", bootstrap=5)
    assert found.table.empty
    assert any("1 of its budgets has a minimum" in note for note in found.notes)
    with pytest.raises(UserError, match="baseline 'none' has no finished run"):
        compute_multipliers(runs, "none")


def test_a_parabola_is_lowest_where_calculus_says():
    x = np.log(np.array([1e7, 2e7, 4e7, 9e7]))
    y = 3 + 0.2 * (x - 17) ** 2
    at, lowest = parabola_minimum(x, np.stack([y, 2 * y, -y, 3 + 0.2 * (x - 12) ** 2]))
    assert at[:2] == pytest.approx(17, abs=1e-9)
    assert lowest[:2] == pytest.approx([3, 6], abs=1e-9)
    # Opens downwards; is lowest outside of all sizes.
    assert np.isnan(at[2:]).all() and np.isnan(lowest[2:]).all()


def test_four_sizes_are_enough_for_an_interval():
    """Every drawing has all sizes, so that each has its minima."""
    grid = {"sizes": 4, "budgets": BUDGETS[:3], "noise": 0.003}
    runs = pd.concat([runs_of("base", BASE, **grid), runs_of("new", worth(1.3), seed=1, **grid)])
    row = headline(compute_multipliers(runs, "base", bootstrap=300))
    assert 0 < row["low"] < row["multiplier"] < row["high"] < np.inf
