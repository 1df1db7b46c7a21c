"""Wall time by phase, over restarts; seconds are counted by hand."""

import pytest

from t5x_like.training.watching.goodput import Goodput, goodput_line


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def after(clock, seconds):
    clock.now += seconds


def first_start(clock):
    """10 s of starting, 30 of compiling, 50 of steps of which 5 wait for data, 10 of saving."""
    time = Goodput(clock)
    after(clock, 7)
    with time.spent("restoring"):
        after(clock, 3)
    time.enter("compiling")
    after(clock, 30)
    time.enter("steps")
    after(clock, 45)
    time.charge("data", 5.0)
    with time.spent("saving"):
        after(clock, 10)
    after(clock, 5)
    return time


def test_each_second_is_of_one_phase(clock):
    time = first_start(clock)
    assert time.seconds() == {
        "steps": 45, "compiling": 30, "data": 5, "evaluating": 0, "saving": 10, "restoring": 3,
        "starting": 7, "lost": 0,
    }  # fmt: skip
    assert time.values() == {
        "goodput": 0.45, "seconds_steps": 45, "seconds_compiling": 30, "seconds_data": 5,
        "seconds_saving": 10, "seconds_restoring": 3, "seconds_starting": 7,
    }  # fmt: skip
    assert time.line() == (
        "goodput 45.0%: compiling 30.0%, waiting for data 5.0%, saving 10.0%, restoring 3.0%, "
        "starting 7.0%"
    )


def test_what_is_inside_another_phase_is_taken_out_of_it(clock):
    time = Goodput(clock)
    with time.spent("evaluating"):
        after(clock, 4)
        with time.spent("saving"):
            after(clock, 2)
        after(clock, 1)
    assert (time.seconds()["evaluating"], time.seconds()["saving"]) == (5, 2)


def test_steps_after_the_last_checkpoint_are_lost_when_a_start_is_cut_short(clock):
    first = first_start(clock)
    saved = first.seconds()
    after(clock, 20)  # of steps that no checkpoint has
    last = first.values()
    second = Goodput(clock)
    after(clock, 5)
    second.go_on_from(last, saved)
    second.enter("steps")
    after(clock, 75)
    # 120 s before, 80 now; 45 + 75 of them made steps that count.
    assert second.values()["goodput"] == 120 / 200
    assert second.values()["seconds_lost"] == 20
    assert "steps made again 10.0%" in second.line()


def test_a_run_that_was_killed_before_its_first_checkpoint_has_lost_all_steps(clock):
    last = first_start(clock).values()
    second = Goodput(clock)
    second.go_on_from(last, {})
    assert (second.seconds()["steps"], second.seconds()["lost"]) == (0, 45)


def test_a_checkpoint_that_is_newer_than_the_last_record_counts(clock):
    time = first_start(clock)
    last = time.values()
    after(clock, 15)
    second = Goodput(clock)
    second.go_on_from(last, time.seconds())
    assert (second.seconds()["steps"], second.seconds()["lost"]) == (60, 0)


def test_going_back_to_a_checkpoint_loses_the_steps_since(clock):
    time = first_start(clock)
    saved = time.seconds()
    after(clock, 12)
    time.go_back(saved)
    assert (time.seconds()["steps"], time.seconds()["lost"]) == (45, 12)


def test_records_of_earlier_versions_have_no_line():
    assert goodput_line({"loss": 2.0}) == ""
