"""Each warning by its name: the runs that give rise to it, and runs that do not."""

import numpy as np
import pandas as pd
import pytest

from t5x_like.scaling import laws
from t5x_like.scaling.fitting import diagnostics, fit

CHINCHILLA = laws.ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
METHOD = "variable_projection"


def grid(noise=0.0):
    """Six sizes, each trained on 4, 20 and 100 tokens a parameter."""
    n = np.repeat(np.geomspace(3e7, 3e9, 6), 3)
    d = n * np.tile([4.0, 20.0, 100.0], 6)
    noise = np.exp(noise * np.random.default_rng(0).standard_normal(18))
    return pd.DataFrame({"N": n, "D": d, "loss": CHINCHILLA.loss(n, d) * noise})


def warnings_of(frame, method=METHOD, **options):
    return {entry["name"]: entry["message"] for entry in fit(frame, method, **options).warnings}


def test_a_sound_table_gives_no_warning():
    assert warnings_of(grid()) == {}
    assert warnings_of(grid(noise=0.001), "approach3") == {}


def test_few_runs():
    # Five parameters: eight runs are enough, seven are not.
    some = grid().iloc[[0, 2, 4, 7, 9, 11, 14, 17]]
    assert "few_runs" not in warnings_of(some)
    message = warnings_of(some.iloc[:-1])["few_runs"]
    assert "7 runs for 5 parameters" in message and "At least 8" in message


def test_tokens_below_parameters():
    frame = grid()
    frame.loc[3, "D"] = 0.5 * frame.loc[3, "N"]
    frame["loss"] = CHINCHILLA.loss(frame["N"], frame["D"])
    message = warnings_of(frame)["tokens_below_parameters"]
    assert "1 of 18 runs have D/N below 1, the lowest 0.5 ('row 4')" in message


def test_long_warmup():
    frame = grid().assign(warmup_fraction=[0.01] * 17 + [0.4])
    assert "third of 1 of 18 runs, 40% of 'row 18'" in warnings_of(frame)["long_warmup"]
    assert "long_warmup" not in warnings_of(frame.assign(warmup_fraction=1 / 3))


def test_loss_not_decreasing_in_tokens():
    frame = grid()
    frame.loc[1, "loss"] = frame.loc[0, "loss"] + 0.1
    message = warnings_of(frame)["loss_not_decreasing_in_tokens"]
    assert "in 1 of 12 pairs" in message and "at N = 3e+07" in message and "D = 6e+08" in message


@pytest.mark.parametrize(
    "columns, hint",
    [
        ({}, "leave C out"),
        ({"active_parameters": 0.25}, "--count active"),
        ({"parameters_without_embeddings": 0.25}, "--count without_embeddings"),
    ],
)
def test_flops_not_6nd(columns, hint):
    frame = grid()
    frame["C"] = 6 * 0.25 * frame["N"] * frame["D"]
    for name, share in columns.items():
        frame[name] = share * frame["N"]
    message = warnings_of(frame)["flops_not_6nd"]
    assert "C is not 6·N·D in 18 of 18 runs: from 0.25 to 0.25" in message and hint in message
    if columns:
        count = hint.removeprefix("--count ")
        assert "flops_not_6nd" not in warnings_of(frame, count=count)


def test_flops_that_are_6nd_but_for_rounding_give_no_warning():
    frame = grid()
    frame["C"] = 6.2 * frame["N"] * frame["D"]
    assert "flops_not_6nd" not in warnings_of(frame)


def test_mixed_parameter_counts():
    frame = grid()
    frame["parameters_without_embeddings"] = frame["N"] - 2e7
    assert "mixed_parameter_counts" not in warnings_of(frame)
    frame.loc[:5, "N"] = frame.loc[:5, "parameters_without_embeddings"]
    message = warnings_of(frame)["mixed_parameter_counts"]
    assert "12 total, 6 without embeddings" in message


@pytest.mark.parametrize("method", ["approach3", METHOD])
def test_parameter_on_bound(method):
    # Of D^-4, where exponents end at 3; the term is 0.5 nats at the fewest tokens.
    frame = grid()
    frame["loss"] = 1.7 + 400 * frame["N"] ** -0.34 + 0.5 * (frame["D"] / 1.2e8) ** -4
    assert "beta = 3 sits on its bound" in warnings_of(frame, method)["parameter_on_bound"]


def test_starts_disagree():
    assert diagnostics.of_starts(7, 64) == diagnostics.of_starts(64, 64) == []
    assert "only 6 of 64 starts" in diagnostics.of_starts(6, 64)[0]["message"]
    assert diagnostics.of_starts(1, 4)[0]["name"] == "starts_disagree"


def test_resamples_without_law():
    # Three runs a budget: a resample often has fewer than three sizes.
    rows = [
        {"N": best * 10**away, "C": budget, "loss": 3 + 0.5 * away**2}
        for budget, best in ((1e18, 1e8), (1e19, 3e8))
        for away in (-0.3, 0.1, 0.4)
    ]
    found = fit(pd.DataFrame(rows), "approach2", bootstrap=200)
    warnings = {entry["name"]: entry["message"] for entry in found.warnings}
    lost = int(np.isnan(found.samples["a"]).sum())
    # A resample of 3 has all 3 with probability 3!/3³ = 2/9, of both budgets 4/81.
    assert 170 < lost < 200
    assert f"{lost} of 200 resamples" in warnings["resamples_without_law"]
