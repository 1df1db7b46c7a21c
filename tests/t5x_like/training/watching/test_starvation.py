"""Devices that wait for data are told of in one line, with its cause; so is a slow host."""

import time

from t5x_like.data.iterator import DataIterator
from t5x_like.training.watching.goodput import Goodput
from t5x_like.training.watching.starvation import DataWait, cause, slow_host


class Rows:
    """A source of rows that takes a while for each batch."""

    examples_read = 0

    def __init__(self, wait=0.0, work=0.0):
        self.wait, self.work = wait, work

    def next_rows(self):
        time.sleep(self.wait)
        began = time.thread_time()
        while time.thread_time() - began < self.work:
            pass
        return []

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def iterator(prefetch=2, **slow):
    return DataIterator(Rows(**slow), lambda rows: {}, "", prefetch)


def waited(batches, steps, idle, step_seconds=0.0):
    said, of_run = [], Goodput()
    wait = DataWait(batches, of_run, said.append)
    with batches:
        wait.next(idle)
        wait.start()
        for _ in range(steps):
            time.sleep(step_seconds)
            wait.next(idle)
        wait.look(40)
        wait.look(60)
    return of_run.seconds()["data"], said


def test_idle_devices_that_wait_for_the_disk_are_told_of_once():
    seconds, said = waited(iterator(wait=0.05), 4, lambda: True)
    assert seconds > 0.1
    (line,) = said
    assert line.startswith("step 40: the devices waited for data ")
    assert line.endswith(
        "waiting for the cache or for a free core: copy the cache to a local disk (CACHE_DIR)"
    )


def test_idle_devices_that_wait_for_computing_are_told_so():
    batches = iterator(work=0.03)
    with batches:
        for _ in range(3):
            next(batches)
    making = batches.making
    assert making.batches >= 3 and making.computing >= 0.09
    making.seconds = making.computing / 0.95  # whatever else this machine does
    assert "95% of it computing on one core (objective and packing)" in cause(making)


def test_nothing_is_lost_by_waiting_while_the_devices_compute():
    seconds, said = waited(iterator(wait=0.02), 3, lambda: False)
    assert (seconds, said) == (0.0, [])


def test_batches_that_are_there_cost_nothing():
    batches = iterator()
    seconds, said = waited(batches, 3, lambda: True, step_seconds=0.1)
    assert seconds < 0.1 and said == []


def test_a_host_whose_batches_take_twice_as_long_is_named():
    hosts = [{"host": f"tpu-{i}", "batch_seconds": 0.035} for i in range(4)]
    assert slow_host(hosts) == slow_host(hosts[:1]) == ""
    hosts[2] = {"host": "tpu-2", "batch_seconds": 0.41}
    assert slow_host(hosts) == (
        "process 2 on tpu-2 is slow: a batch takes 410 ms there and 35 ms elsewhere, and all wait"
    )
