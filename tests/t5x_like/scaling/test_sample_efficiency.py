"""Steps, tokens and batches that a loss takes, against the constants of Kaplan et al. 2020."""

import numpy as np
import pandas as pd
import pytest

from t5x_like.errors import UserError
from t5x_like.scaling.sample_efficiency import (
    CriticalBatch,
    StepsLaw,
    fit_critical_batch,
    fit_steps_law,
    minimum_flops,
    minimum_steps,
    steps_law_interval,
    tokens_to_loss,
)

KAPLAN = StepsLaw()


def curves(law=KAPLAN, sizes=(1e6, 1e7, 1e8, 1e9), batch_tokens=2**19, critical=None, noise=0.0):
    """Curves of a law at steps 100, 200, …; with a critical batch, of S_min at their own loss."""
    rng = np.random.default_rng(0)
    rows = []
    for n in sizes:
        for step in np.geomspace(100, 250_000, 60).round():
            loss = float(law.loss(n, step))
            for _ in range(200 if critical else 0):  # S_min depends on the loss, and it on S_min
                least = minimum_steps(step, batch_tokens, critical.tokens(loss))
                loss = float(0.5 * loss + 0.5 * law.loss(n, least))
            loss *= np.exp(noise * rng.standard_normal())
            tokens = step * batch_tokens
            rows.append((f"{n:.0e}", "", n, step, tokens, 6 * n * tokens, loss, batch_tokens))
    columns = ["name", "variant", "parameters", "step", "tokens", "flops", "loss", "batch_tokens"]
    return pd.DataFrame(rows, columns=columns)


def test_the_critical_batch_doubles_for_every_13_percent_decrease_of_the_loss():
    """Kaplan et al. 2020, section 5.1; and 1 to 2 million tokens at the losses they reach."""
    critical = CriticalBatch()
    assert critical.tokens(3.0 * 0.87) / critical.tokens(3.0) == pytest.approx(2, rel=0.04)
    assert (
        critical.tokens(3.0)
        == pytest.approx(2.1e8 / 3 ** (1 / 0.21))
        == pytest.approx(1.12e6, rel=0.01)
    )


def test_at_the_critical_batch_steps_and_compute_are_twice_their_least():
    """Equations 5.4 and 5.5; far above it steps are the least, far below it compute is."""
    assert minimum_steps(1000, 1e6, 1e6) == 500 and minimum_flops(1e18, 1e6, 1e6) == 5e17
    assert minimum_steps(1000, 1e9, 1e6) == pytest.approx(1000, rel=0.002)
    assert minimum_flops(1e18, 1e3, 1e6) == pytest.approx(1e18, rel=0.002)


def test_a_law_of_the_critical_batch_is_found_again_and_a_scale_that_is_negative_is_left_out():
    losses = np.linspace(2.2, 5.0, 12)
    scales = CriticalBatch(3e7, 0.3).tokens(losses)
    scales[3] = -1.0  # an estimate of few steps may be
    found = fit_critical_batch(losses, scales)
    assert (found.B_star, found.alpha_B) == pytest.approx((3e7, 0.3))
    with pytest.raises(UserError, match="does not grow as the loss falls"):
        fit_critical_batch(losses, losses)
    with pytest.raises(UserError, match="2 can be used"):
        fit_critical_batch([3.0, 2.5], [1e5, 2e5])


def test_kaplans_law_is_found_again_from_its_curves():
    found = fit_steps_law(curves())
    assert found.alpha_N == pytest.approx(0.077, rel=1e-4)
    assert found.alpha_S == pytest.approx(0.76, rel=1e-4)
    assert found.N_c == pytest.approx(6.5e13, rel=1e-2)
    assert found.S_c == pytest.approx(2.1e3, rel=1e-3)


def test_small_batches_are_corrected_by_the_critical_one():
    """At 2^17 tokens, below the critical batch, steps overstate progress (equation 5.4)."""
    critical = CriticalBatch()
    rows = curves(batch_tokens=2**17, critical=critical)
    found = fit_steps_law(rows, critical)
    assert (found.alpha_N, found.alpha_S) == pytest.approx((0.077, 0.76), rel=1e-3)
    assert fit_steps_law(rows).alpha_S != pytest.approx(0.76, rel=0.02)


def test_the_interval_of_noisy_curves_contains_the_law():
    rows = curves(noise=0.01)
    ends = steps_law_interval(rows, resamples=20)
    for name, (low, high) in ends.items():
        assert low <= getattr(fit_steps_law(rows), name) <= high
        assert low < high


def test_a_law_of_steps_needs_three_sizes_and_one_batch():
    with pytest.raises(UserError, match="three sizes, not of 2"):
        fit_steps_law(curves(sizes=(1e6, 1e7)))
    mixed = pd.concat([curves(), curves(batch_tokens=2**18).assign(name="other")])
    with pytest.raises(UserError, match="give the critical batch"):
        fit_steps_law(mixed)


def test_a_larger_model_reaches_a_loss_on_fewer_tokens():
    """The steps of the law itself, between the records of the curves."""
    reached = tokens_to_loss(curves(), [4.0, 1.0])
    assert set(reached["target"]) == {4.0}  # none reaches 1.0
    assert list(reached["parameters"]) == [1e7, 1e8, 1e9]  # the least is above 4.0 for long
    expected = KAPLAN.steps(reached["parameters"], 4.0)
    assert np.isinf(KAPLAN.steps(1e6, 3.9)) and (np.diff(reached["tokens"]) < 0).all()
    np.testing.assert_allclose(reached["steps"], expected, rtol=0.01)
    np.testing.assert_allclose(reached["tokens"], reached["steps"] * 2**19, rtol=1e-9)
    np.testing.assert_allclose(
        reached["flops"], 6 * reached["parameters"] * reached["tokens"], rtol=1e-9
    )
