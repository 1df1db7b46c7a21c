"""Which example of which task comes at each place, and how often each task was gone through."""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t5x_like.data.batch_schedule import BatchSchedule
from t5x_like.data.mixing import Shares


class Interleaving:
    """Tasks in fixed proportions: which one comes at each place of an endless sequence.

    Any n examples in a row have each task's share of n but for one or two: n is split into the
    first task's part and the others', then these again, rounded down each time.
    """

    def __init__(self, weights: Sequence[float], first: int = 0):
        """Takes weights that sum to 1, rounded to multiples of 2^-32, and where to begin.

        Args:
          weights: of the tasks; one of 0 never comes.
          first: how many places are left out at the beginning.
        """
        self._parts = [max(1, round(weight * 2**32)) if weight else 0 for weight in weights]
        self._first = first
        self._left_out = self._counts(first)
        self._memo = 0, self._left_out

    def _counts(self, places: int) -> list[int]:
        """How many of the first `places` examples are of each task."""
        whole, left = sum(self._parts), places
        found = []
        for part in self._parts:
            others = left * (whole - part) // whole if part else left
            found.append(left - others)
            left, whole = others, whole - part
        return found

    def counts(self, places: int) -> list[int]:
        """How many examples are of each task before a place."""
        pairs = zip(self._counts(self._first + places), self._left_out, strict=True)
        return [count - left_out for count, left_out in pairs]

    def at(self, place: int) -> tuple[int, int]:
        """The task at a place, counted from 0, and how many of its examples came before."""
        known, before = self._memo  # most are asked for in order
        if known != place:
            before = self._counts(self._first + place)
        after = self._counts(self._first + place + 1)
        self._memo = place + 1, after
        task = next(i for i, (b, a) in enumerate(zip(before, after, strict=True)) if a > b)
        return task, before[task] - self._left_out[task]


class ChangingInterleaving:
    """Tasks in proportions that change: each stage interleaves anew where the one before ended.

    Each begins at another place of its own pattern, so that no task gains by many short stages.

    Attributes:
      changes: the places at which a stage began, but for the first.
    """

    def __init__(self, weights: Sequence[Sequence[float]], first: int = 0):
        """Begins the first stage.

        Args:
          weights: of the tasks, which sum to 1, for each stage.
          first: how many places of the first stage are left out at the beginning.
        """
        self._weights, self._first = weights, first
        self._stages = [Interleaving(weights[0], first)]
        self._before = [[0] * len(weights[0])]
        self.changes: list[int] = []

    def change(self, place: int) -> None:
        """Begins the next stage; places ascend."""
        drawn = self._stages[-1].counts(place - (self.changes[-1] if self.changes else 0))
        self._before.append([a + b for a, b in zip(self._before[-1], drawn, strict=True)])
        self._stages.append(Interleaving(self._weights[len(self._stages)], self._first + place))
        self.changes.append(place)

    def counts(self, place: int) -> list[int]:
        """How many examples are of each task before a place."""
        stage = bisect.bisect_right(self.changes, place)
        here = self._stages[stage].counts(place - (self.changes[stage - 1] if stage else 0))
        return [a + b for a, b in zip(self._before[stage], here, strict=True)]

    def at(self, place: int) -> tuple[int, int]:
        """The task at a place, counted from 0, and how many of its examples came before."""
        stage = bisect.bisect_right(self.changes, place)
        begin = self.changes[stage - 1] if stage else 0
        task, nth = self._stages[stage].at(place - begin)
        return task, self._before[stage][task] + nth


def interleaved(shares: Shares, schedule: BatchSchedule) -> ChangingInterleaving:
    """The order of rows of one example each, whose shares change with the batches."""
    order = ChangingInterleaving(shares.weights)
    for begin in shares.begins[1:]:
        order.change(schedule.rows_before(begin))
    return order


class StreamMixing:
    """Which example of which task a stream of packed rows reads.

    Streams read at their own pace, for all give equally many rows. Each therefore mixes the tasks
    itself, and reads its own part of each task's examples: numbers k, k + streams, k + 2 streams
    and so on in stream k. The streams begin at different places of the mixture, so that a batch
    has examples of all tasks. Where shares change with a batch, they change in each stream with
    the example that it reads next; these places are part of its position in the data.
    """

    def __init__(self, shares: Shares, streams: int):
        """Takes the shares of the tasks and the number of streams."""
        self._shares, self._streams = shares, streams
        self._mixed = len(shares.weights[0]) > 1
        if self._mixed:
            self._order = [ChangingInterleaving(shares.weights, n) for n in range(streams)]

    def at(self, stream: int, ordinal: int) -> tuple[int, int]:
        """The task, and the number of its example, that a stream reads at a place of its own."""
        task, nth = self.place(stream, ordinal)
        return task, nth * self._streams + stream

    def place(self, stream: int, ordinal: int) -> tuple[int, int]:
        """The task, and how many of its examples the stream has read before."""
        return self._order[stream].at(ordinal) if self._mixed else (0, ordinal)

    def counts(self, stream: int, ordinal: int) -> list[int]:
        """How many examples of each task a stream reads before a place of its own."""
        return self._order[stream].counts(ordinal) if self._mixed else [ordinal]

    def begin_batch(self, stream: int, batch: int, ordinal: int) -> None:
        """Changes the shares of a stream that reads its place `ordinal` next, where it is time."""
        if self._mixed:
            begun = bisect.bisect_right(self._shares.begins, batch) - 1
            while len(self._order[stream].changes) < begun:
                self._order[stream].change(ordinal)

    def get_state(self, stream: int, oldest: int, position: int) -> dict[str, Any]:
        """What of a stream's position depends on the batches before, as JSON.

        Args:
          stream: its number.
          oldest: the first place whose example is not in a batch.
          position: the place that it reads next.
        """
        changes = self._order[stream].changes if self._mixed else []
        return {"changes": list(changes)} if changes else {}

    def set_state(self, stream: int, state: Mapping[str, Any]) -> None:
        """Continues from what `get_state` gave."""
        if self._mixed:
            self._order[stream] = ChangingInterleaving(self._shares.weights, stream)
            for place in state.get("changes", ()):
                self._order[stream].change(place)


@dataclass(frozen=True)
class Epochs:
    """The epochs of each task: examples drawn of it, by those that it has.

    Attributes:
      names: of the tasks.
      sizes: examples in an epoch of each.
      shares: of the examples that are drawn.
      schedule: examples of each batch, where every example is a row.
      streams: of packed rows, in all processes together; 0 for rows by number.
    """

    names: Sequence[str]
    sizes: Sequence[int]
    shares: Shares
    schedule: BatchSchedule
    streams: int = 0

    def __call__(self, state: Mapping[str, Any]) -> dict[str, float]:
        """By the name of the task.

        Args:
          state: a position, of `DataIterator.get_state`; of several processes that of one, whose
            streams stand for all.
        """
        if self.streams:
            own = state["streams"].values()
            edges = [[0, *stream.get("changes", ()), stream["next"]] for stream in own]
            each = self.streams / len(own)
        else:
            steps = [min(begin, state["step"]) for begin in (*self.shares.begins, state["step"])]
            edges, each = [[self.schedule.rows_before(step) for step in steps]], 1
        drawn = [0.0] * len(self.names)
        for places in edges:
            for (begin, end), weights in zip(
                itertools.pairwise(places), self.shares.weights, strict=False
            ):
                drawn = [d + each * (end - begin) * w for d, w in zip(drawn, weights, strict=True)]
        return dict(
            zip(self.names, (d / n for d, n in zip(drawn, self.sizes, strict=True)), strict=True)
        )
