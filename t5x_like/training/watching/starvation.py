"""Whether devices wait for data, and why."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from t5x_like.protocols import Batch
from t5x_like.training.watching.goodput import Goodput

# Share of the time since the last look from which on waiting is told.
_TOLD = 0.1
# By how much making a batch must take longer in one process than in the middle one.
_SLOWER = 2.0
# From which share of the time of making a batch on it is computing that takes it.
_COMPUTING = 0.6
_LOOK_EVERY = 0.0005  # seconds


class Making(Protocol):
    """How long the batches took so far; `data.effort.Effort` is one."""

    batches: int
    seconds: float
    computing: float
    remedy: str


class Batches(Protocol):
    """What makes batches ahead; `data.DataIterator` is one."""

    @property
    def making(self) -> Making:
        """What making them has taken."""

    def is_ready(self) -> bool:
        """Whether the next one is there."""

    def __next__(self) -> Batch:
        """The next one."""


class DataWait:
    """Takes batches, and measures for how long the devices had nothing to do meanwhile.

    Args:
      batches: where from.
      time_of_run: gets the time that was waited as `data`.
      say: shows a line.
    """

    def __init__(self, batches: Batches, time_of_run: Goodput, say: Callable[[str], None]) -> None:
        self._batches, self._time, self._say = batches, time_of_run, say
        self._waited, self._since, self._told = 0.0, time.perf_counter(), False

    def next(self, devices_idle: Callable[[], bool]) -> Batch:
        """The next batch.

        Args:
          devices_idle: whether every step that was dispatched is done.
        """
        while not self._batches.is_ready():
            if devices_idle():
                break
            time.sleep(_LOOK_EVERY)  # as long as they compute, nothing is lost by waiting
        else:
            return next(self._batches)
        began = time.perf_counter()
        batch = next(self._batches)
        waited = time.perf_counter() - began
        self._time.charge("data", waited)
        self._waited += waited
        return batch

    def start(self) -> None:
        """What was waited until now, for the first batches and compiling, is not told."""
        self._waited, self._since = 0.0, time.perf_counter()

    def look(self, step: int) -> None:
        """Says, once, that devices wait, if they did since the last look."""
        now = time.perf_counter()
        share = self._waited / max(now - self._since, 1e-9)
        self._waited, self._since = 0.0, now
        if share < _TOLD or self._told:
            return
        self._told = True
        self._say(
            f"step {step}: the devices waited for data {share:.0%} of the time: "
            f"{cause(self._batches.making)}"
        )


def cause(making: Making) -> str:
    """Why batches come slowly, in words."""
    each = making.seconds / max(making.batches, 1)
    share = making.computing / making.seconds if making.seconds else 0.0
    if share >= _COMPUTING:
        return (
            f"a batch takes {each * 1000:.0f} ms to make, {share:.0%} of it computing on one core "
            "(objective and packing): a smaller batch for each process, or more processes"
        )
    return (
        f"a batch takes {each * 1000:.0f} ms to make, {1 - share:.0%} of it waiting for the cache "
        f"or for a free core: {making.remedy}"
    )


def slow_host(hosts: Sequence[Mapping[str, Any]]) -> str:
    """A line about the process whose batches take far longer than the others'; "" if none does.

    Args:
      hosts: of each process, `host`, its machine's name, and `batch_seconds`.
    """
    times = [float(one["batch_seconds"]) for one in hosts]
    if len(times) < 2:
        return ""
    slowest = max(range(len(times)), key=times.__getitem__)
    usual = statistics.median(times[:slowest] + times[slowest + 1 :])
    if times[slowest] < _SLOWER * usual or not usual:
        return ""
    return (
        f"process {slowest} on {hosts[slowest]['host']} is slow: a batch takes "
        f"{times[slowest] * 1000:.0f} ms there and {usual * 1000:.0f} ms elsewhere, and all wait"
    )
