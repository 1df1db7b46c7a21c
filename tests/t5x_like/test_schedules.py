import functools

import numpy as np
import pytest

from t5x_like import schedules
from t5x_like.errors import UserError


def rates(schedule, *steps):
    return [float(schedule(step)) for step in steps]


def test_t5s_rsqrt_is_constant_and_then_one_over_the_root_of_the_step():
    # Raffel et al. 2020, section 3.1.2: 1 / sqrt(max(n, k)), k = 10,000; n = step + 1.
    schedule = schedules.RSqrt(peak=0.01, warmup_steps=10_000)
    expected = [0.01, 0.01, 1 / np.sqrt(40_000)]
    np.testing.assert_allclose(rates(schedule, 0, 9_999, 39_999), expected, rtol=1e-6)


def test_vaswanis_rsqrt_is_their_equation_3():
    d_model, warmup = 512, 4000
    schedule = schedules.RSqrt(peak=(d_model * warmup) ** -0.5, warmup_steps=warmup, ramp=True)
    for n in (1, 100, 4000, 20_000):
        expected = d_model**-0.5 * min(n**-0.5, n * warmup**-1.5)
        np.testing.assert_allclose(float(schedule(n - 1)), expected, rtol=1e-6)


def test_cosine_rises_and_ends_at_its_final_fraction():
    schedule = schedules.Cosine(peak=1.0, total_steps=110, warmup_steps=10, final_fraction=0.1)
    # Half way between the end of the warm-up and the end: 0.1 + 0.9 * (1 + cos(pi / 2)) / 2.
    expected = [0.1, 1.0, 0.55, 0.1]
    np.testing.assert_allclose(rates(schedule, 0, 10, 60, 110), expected, rtol=1e-5)


def test_linear_falls_in_a_straight_line():
    schedule = schedules.Linear(peak=2.0, total_steps=100)
    np.testing.assert_allclose(rates(schedule, 0, 25, 100), [2.0, 1.5, 0.0], atol=1e-6)


def test_berts_line_is_drawn_from_step_0_behind_its_warm_up():
    """Devlin et al. 2019, appendix A.2: 1e-4, 10,000 steps of 1,000,000; by the released code."""
    schedule = schedules.Linear(1e-4, 1_000_000, warmup_steps=10_000, from_start=True)
    found = rates(schedule, 4_999, 9_999, 10_000, 505_000, 1_000_000)
    np.testing.assert_allclose(found, [5e-5, 1e-4, 9.9e-5, 4.95e-5, 0.0], rtol=1e-5, atol=1e-12)


def test_electras_warmup_multiplies_the_line():
    """Its released code, after 5,000 of 10,000 steps of warm-up: half of .995 of the peak."""
    schedule = schedules.Linear(
        1e-4, 1_000_000, warmup_steps=10_000, from_start=True, multiplied=True
    )
    assert float(schedule(4_999)) == pytest.approx(4.975e-5, rel=1e-5)
    assert float(schedule(10_000)) == pytest.approx(0.99e-4, rel=1e-6)


def test_warmup_stable_decay_keeps_its_plateau_until_the_last_steps():
    schedule = schedules.WarmupStableDecay(1.0, total_steps=100, decay_steps=20, warmup_steps=4)
    expected = [0.25, 1.0, 1.0, 0.5, 0.0]
    np.testing.assert_allclose(rates(schedule, 0, 4, 80, 90, 100), expected, atol=1e-6)


@pytest.mark.parametrize("peak", [0.0, -1e-3, float("nan")])
def test_a_learning_rate_of_zero_or_less_is_refused(peak):
    with pytest.raises(UserError, match=r"learning rate .* above 0"):
        schedules.Cosine(peak=peak, total_steps=10)


@pytest.mark.parametrize("kind", [schedules.Cosine, schedules.Linear])
@pytest.mark.parametrize("fraction", [-1.0, 1.5, float("nan")])
def test_a_last_rate_below_zero_or_above_the_peak_is_refused(kind, fraction):
    with pytest.raises(UserError, match=r"final_fraction is .* from 0 to 1"):
        kind(0.1, 10, final_fraction=fraction)


def test_a_multiplied_warmup_is_of_a_line_from_the_start():
    with pytest.raises(UserError, match="multiplied is True without from_start"):
        schedules.Linear(0.1, 10, 2, multiplied=True)


def test_a_warmup_longer_than_the_schedule_is_refused():
    with pytest.raises(UserError, match="10 steps cannot hold 11"):
        schedules.WarmupStableDecay(1.0, total_steps=10, decay_steps=6, warmup_steps=5)
    for warmup in (0, 6):
        with pytest.raises(UserError, match="DECAY_STEPS is -5"):
            schedules.WarmupStableDecay(1.0, total_steps=10, decay_steps=-5, warmup_steps=warmup)


def test_a_step_decay_is_zarembas():
    """Section 4.1, large: 1 for 14 epochs, the 15th at 1 / 1.15, here of 10 updates; 55 of them."""
    schedule = schedules.StepDecay(1.0, period=10, constant_periods=14, divisor=1.15)
    expected = [1.0, 1.0, 1 / 1.15, 1 / 1.15, 1 / 1.15**2, 1 / 1.15**41]
    np.testing.assert_allclose(rates(schedule, 0, 139, 140, 149, 150, 549), expected, rtol=1e-5)
    assert rates(schedules.StepDecay(1.0, 10, constant_periods=0, divisor=2.0), 0) == [0.5]
    wrong = {"period": 0, "constant_periods": -1, "divisor": 0.5}
    for name, value in wrong.items():
        with pytest.raises(UserError, match=f"StepDecay.{name} is {value}: .* or more is needed"):
            schedules.StepDecay(**({"peak": 1.0, "period": 10} | {name: value}))


def test_a_squared_schedule_follows_the_other():
    # PaLM's decay: 0.01² until step 10,000, then 1/k.
    schedule = schedules.Squared(schedules.RSqrt(peak=0.01, warmup_steps=10_000))
    np.testing.assert_allclose(rates(schedule, 0, 9_999, 39_999), [1e-4, 1e-4, 1 / 40_000])
    assert schedule.last_step is None
    assert schedules.Squared(schedules.Linear(peak=1.0, total_steps=9)).last_step == 9


class Counted:
    """A model of which only the number of parameters matters."""

    def __init__(self, parameters):
        self.parameters = parameters

    def parameter_count(self):
        return self.parameters


def test_the_planned_rate_is_deepseeks_law_of_the_compute():
    """Bi et al. 2024, equation 1: 0.3118 C^-0.125, C = 6 N D; 0.3118 / 8 for 2^24 = 8^8 FLOPs."""
    assert schedules.planned_rate(Counted(2**20), {"targets": 2}, 8, 1, factor=6**0.125) == 0.02
    rate = schedules.planned_rate(
        Counted(2**20), {"inputs": 99, "targets": 2}, 8, 1, factor=6**0.125, maximum=1.0
    )
    assert rate == float(f"{0.3118 / 8:.3g}")


@pytest.mark.parametrize(
    ("lengths", "rows", "says"),
    [
        ({"targets": 0}, 8, r"TASK_FEATURE_LENGTHS\['targets'\] is 0: it must be 1 or more"),
        ({"inputs": -5, "targets": 2}, 8, r"TASK_FEATURE_LENGTHS\['inputs'\] is -5"),
        ({"targets": 2}, -4, "BATCH_SIZE is -4"),
    ],
)
def test_there_is_no_planned_rate_of_an_empty_batch(lengths, rows, says):
    with pytest.raises(UserError, match=says):
        schedules.planned_rate(Counted(2**20), lengths, rows, 100)


def test_the_planned_rate_counts_the_parameters_that_a_token_uses():
    class Sparse(Counted):
        def active_parameter_count(self):
            return self.parameters // 256

    rate = functools.partial(schedules.planned_rate, batch_size=8, train_steps=1000)
    assert rate(Sparse(2**28), {"targets": 128}) == rate(Counted(2**20), {"targets": 128})


def test_rows_without_targets_count_in_full():
    rate = functools.partial(schedules.planned_rate, Counted(2**20), batch_size=8, train_steps=99)
    assert rate({"first": 64, "second": 64}) == rate({"inputs": 512, "targets": 128})


@pytest.mark.parametrize("steps, warmup", [(1, 1), (1000, 50), (40_000, 2000), (10**6, 2000)])
def test_the_planned_warmup_is_a_twentieth_of_the_steps_up_to_2000(steps, warmup):
    assert schedules.planned_warmup(steps) == warmup


def test_the_slanted_triangle_is_ulmfits():
    """Howard and Ruder 2018, equation 3, with 100 steps, a tenth of them upwards, and ratio 32."""
    schedule = schedules.SlantedTriangular(peak=0.01, total_steps=100)
    expected = [0.0003125, 0.00515625, 0.01, 0.00515625, 0.0003125]
    np.testing.assert_allclose(rates(schedule, 0, 5, 10, 55, 100), expected, rtol=1e-5)
    for name, value in (("cut_fraction", 0.0), ("cut_fraction", 1.0), ("ratio", 0.5)):
        with pytest.raises(UserError, match=f"SlantedTriangular.{name} is {value}"):
            schedules.SlantedTriangular(peak=0.01, total_steps=100, **{name: value})
