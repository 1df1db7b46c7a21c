"""Where the wall time of a run goes, over all of its starts."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

# In the order in which they are told.
PHASES = (
    "steps", "compiling", "data", "evaluating", "saving", "restoring", "starting", "lost",
)  # fmt: skip
_PREFIX = "seconds_"
# What a phase is called in words.
_WORDS = {
    "compiling": "compiling",
    "data": "waiting for data",
    "evaluating": "evaluating",
    "saving": "saving",
    "restoring": "restoring",
    "starting": "starting",
    "lost": "steps made again",
}
_TOLD = 0.005  # a smaller share is left out of the line


class Goodput:
    """Adds up wall time by phase; there is one phase at a time.

    `steps` is the time of updates that count. Those after the last checkpoint of a start that was
    cut short are made again: their time is moved to `lost`. `data` is time in which the devices had
    nothing to do because the next batch was not there. What happens between two starts is not seen.

    Args:
      clock: seconds that grow.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._sums = dict.fromkeys(PHASES, 0.0)
        self._phase, self._since = "starting", clock()

    def enter(self, phase: str) -> None:
        """From now on, time is of this phase."""
        now = self._clock()
        self._sums[self._phase] += now - self._since
        self._phase, self._since = phase, now

    @contextlib.contextmanager
    def spent(self, phase: str) -> Iterator[None]:
        """The time of the body is of this phase; the phase before goes on afterwards."""
        before = self._phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def charge(self, phase: str, seconds: float) -> None:
        """The last `seconds` were of this phase and not of the one that goes on."""
        self._sums[phase] += seconds
        self._sums[self._phase] -= seconds

    def go_on_from(self, last: Mapping[str, float], saved: Mapping[str, float]) -> None:
        """Adds the time of earlier starts.

        Args:
          last: `values` when they were last recorded.
          saved: `seconds` of the checkpoint from which the run resumes; empty at the beginning.
        """
        for phase in PHASES:
            recorded = float(last.get(_PREFIX + phase, 0.0))
            self._sums[phase] += max(recorded, saved.get(phase, 0.0))
        again = float(last.get(_PREFIX + "steps", 0.0)) - saved.get("steps", 0.0)
        self._lose(max(again, 0.0))

    def go_back(self, saved: Mapping[str, float]) -> None:
        """The run goes back to a checkpoint with these `seconds`: the steps since are lost."""
        self._lose(self.seconds()["steps"] - saved.get("steps", 0.0))

    def _lose(self, seconds: float) -> None:
        self._sums["steps"] -= seconds
        self._sums["lost"] += seconds

    def seconds(self) -> dict[str, float]:
        """Of each phase until now."""
        self.enter(self._phase)
        return {phase: max(total, 0.0) for phase, total in self._sums.items()}

    def values(self) -> dict[str, float]:
        """For a record: `goodput`, the share of `steps`, and `seconds_PHASE` of each that was."""
        found = self.seconds()
        whole = sum(found.values())
        named = {_PREFIX + phase: seconds for phase, seconds in found.items() if seconds}
        return {"goodput": found["steps"] / whole if whole else 0.0, **named}

    def line(self) -> str:
        """The shares in words: "goodput 91.2%: compiling 5.1%, saving 3.7%"."""
        return goodput_line(self.values())


def goodput_line(record: Mapping[str, float]) -> str:
    """The shares of a record that has `Goodput.values`, in words; "" of one that has none."""
    if "goodput" not in record:
        return ""
    found = {phase: record.get(_PREFIX + phase, 0.0) for phase in PHASES}
    whole = sum(found.values()) or 1.0
    rest = [
        f"{words} {found[phase] / whole:.1%}"
        for phase, words in _WORDS.items()
        if found[phase] / whole >= _TOLD
    ]
    return f"goodput {record['goodput']:.1%}" + (f": {', '.join(rest)}" if rest else "")
