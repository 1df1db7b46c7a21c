"""Records of steps, from metrics given by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from t5x_like.cost import peak
from t5x_like.cost.peak import Peak
from t5x_like.training import step_metrics
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
        sums.forget_compilation()
        for step in range(1, count + 1):
            sums.add(step, {"loss": (jnp.float32(6.0), jnp.float32(2.0))})
        sums.drain()
        return shown

    return make


# -- What steps take ------------------------------------------------------------------------------


class Timed:
    """Steps on a clock of their own: each takes a second, of whatever it waits for.

    Args:
      monkeypatch: pytest's.
      log_period: steps of a record.
    """

    def __init__(self, monkeypatch, log_period=1):
        self.now, self.shown = 100.0, Shown()
        monkeypatch.setattr(step_metrics.time, "perf_counter", lambda: self.now)
        self.sums = StepMetrics(
            train_steps=1000, log_period=log_period, progress=self.shown, log=None,
            peak=Peak(1e12, "of this test"),
        )  # fmt: skip
        self.step = 0

    def waited_for(self, steps):
        """Steps that are done when they return, as iterations of `align` are."""
        for _ in range(steps):
            self.step += 1
            self.now += 1
            self.sums.add(self.step, {"loss": (np.float32(6.0), np.float32(2.0))})
            if self.sums.is_new_program:
                self.sums.forget_compilation()

    @property
    def seconds(self):
        self.sums.drain()
        return [record.get("step_seconds") for record in self.shown.records]


@pytest.mark.parametrize("log_period", [1, 4])
def test_a_step_before_a_checkpoint_takes_as_long_as_the_others(monkeypatch, log_period):
    run = Timed(monkeypatch, log_period)
    run.waited_for(8)
    for _ in range(2):  # a checkpoint, then an evaluation
        with run.sums.pause(), run.sums.pause():
            run.now += 50
    run.waited_for(8)
    assert run.seconds == [1.0] * (16 // log_period)


def test_steps_that_are_computed_meanwhile_take_as_long_whenever_they_are_looked_at(monkeypatch):
    run = Timed(monkeypatch)
    done_at = {}

    def is_done(self):
        return done_at[self.step] <= run.now

    def waits(metrics):
        """The device's time passes until they are there."""
        run.now = max(run.now, done_at[int(metrics["step"][0])])
        return metrics

    monkeypatch.setattr(step_metrics._Dispatched, "is_done", is_done)
    monkeypatch.setattr(step_metrics.jax, "device_get", waits)

    def steps(count, wait=0.0):
        for _ in range(count):
            run.step += 1
            # The device was idle where the host has waited, for data or whatever.
            while run.now < done_at.get(run.step - 1, 0) + wait:
                run.now += 0.125
                run.sums.look()
            done_at[run.step] = max(run.now, done_at.get(run.step - 1, run.now)) + 1.0 - wait
            number = (np.float32(run.step), np.float32(1))
            run.sums.add(run.step, {"loss": number, "step": number})

    steps(5)  # the device is never idle
    with run.sums.pause():
        run.now += 50
        done_at[run.step] = run.now
    steps(5)
    with run.sums.pause():
        run.now += 50
        done_at[run.step] = run.now
    steps(5, wait=0.75)
    with run.sums.pause():
        run.now += 50
    assert run.seconds == [1.0] * 15


def test_steps_that_are_found_done_together_share_the_time(monkeypatch):
    run = Timed(monkeypatch)
    monkeypatch.setattr(step_metrics._Dispatched, "is_done", lambda one: one.step % 2 == 0 or ready)
    ready = False
    for step in (1, 2):
        run.now += 1
        ready = step == 2
        run.sums.add(step, {"loss": (np.float32(6.0), np.float32(2.0))})
    assert run.seconds == [1.0, 1.0]


def test_a_step_that_was_compiled_first_has_no_rate_to_estimate_the_time_left_by(monkeypatch):
    run = Timed(monkeypatch)
    run.sums.set_work(tokens_per_step=10, flops_per_step=1e9, rows=4)
    run.now += 30  # compiling
    run.waited_for(3)
    assert run.seconds == [None, 1.0, 1.0]
    assert [record.get("tokens_per_second") for record in run.shown.records] == [None, 10.0, 10.0]


def test_measuring_the_peak_again_is_no_time_of_a_step(monkeypatch):
    run = Timed(monkeypatch)

    def measured():
        run.now += 0.5
        return 1e9

    monkeypatch.setattr(peak, "_measured_cpu_peak", measured)
    run.sums._peak = Peak(1e6, "measured float32 product", measured=True)
    run.sums.set_work(tokens_per_step=10, flops_per_step=1e7, rows=4)
    run.waited_for(4)
    assert run.seconds == [None, 1.0, 1.0, 1.0]
    assert [record.get("mfu") for record in run.shown.records] == [None, 0.01, 0.01, 0.01]


# -- The peak -------------------------------------------------------------------------------------


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
