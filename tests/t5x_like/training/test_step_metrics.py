"""Records of steps, from metrics given by hand."""

import jax.numpy as jnp
import pytest

from t5x_like.cost import peak
from t5x_like.cost.peak import Peak
from t5x_like.training.step_metrics import StepMetrics


class Shown:
    """What a person would see."""

    def __init__(self):
        self.said, self.records = [], []

    def say(self, text):
        self.said.append(text)

    def advance(self, step):
        pass

    def record(self, step, values):
        self.records.append(values)


@pytest.fixture
def steps():
    """Makes so many steps of 1e15 FLOPs, each recorded, and returns what is shown."""

    def make(device_peak, count):
        shown = Shown()
        sums = StepMetrics(
            train_steps=count, log_period=1, progress=shown, log=None, peak=device_peak
        )
        sums.set_work(tokens_per_step=10, flops_per_step=1e15)
        for step in range(1, count + 1):
            sums.add(step, {"loss": (jnp.float32(6.0), jnp.float32(2.0))})
        sums.drain()
        return shown

    return make


def test_a_peak_that_a_step_exceeds_was_measured_on_a_busy_machine_and_is_measured_again(
    steps, monkeypatch
):
    monkeypatch.setattr(peak, "_measured_cpu_peak", lambda: 1e30)
    shown = steps(Peak(1e9, "measured float32 product", measured=True), count=3)
    assert all(0 < record["mfu"] <= 1 for record in shown.records) and shown.said == []


def test_an_impossible_mfu_is_left_out_and_said_once_with_the_reason(steps, monkeypatch):
    measured = []
    monkeypatch.setattr(peak, "_measured_cpu_peak", lambda: measured.append(2e9) or 2e9)
    shown = steps(Peak(1e9, "measured float32 product", measured=True), count=8)
    assert all("mfu" not in record for record in shown.records)
    (line,) = shown.said
    assert "TFLOP/s are more than the peak of 0.002 (measured float32 product: the machine" in line
    assert len(measured) == 3  # it costs half a second, and does not go on for ever


def test_a_peak_that_is_looked_up_stays_what_it_is(steps, monkeypatch):
    monkeypatch.setattr(peak, "_measured_cpu_peak", lambda: pytest.fail("measured"))
    shown = steps(Peak(1e9, "TPU v5e bfloat16, datasheet"), count=2)
    assert all("mfu" not in record for record in shown.records)
    assert "datasheet: not that of this device" in shown.said[0]


def test_the_best_of_several_sizes_is_the_peak(monkeypatch):
    rates = {512: 3e9, 1024: 5e9, 2048: 4e9}
    monkeypatch.setattr(peak, "_product_flops", lambda size, seconds: rates[size])
    assert peak._measured_cpu_peak() == 5e9
