"""How often a mixture draws from each of its tasks, and has gone through it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from t5x_like.data.batch_schedule import BatchSchedule
from t5x_like.errors import UserError

SAMPLED = 4096  # examples of a task whose lengths are measured


class Mixing(Protocol):
    """A rule for the shares of a mixture's tasks, counted in examples."""

    def weights(
        self,
        names: Sequence[str],
        rates: Sequence[float],
        examples: Sequence[int],
        mean_tokens: Callable[[], Sequence[float]],
    ) -> list[float]:
        """How many of the examples are of each task.

        Args:
          names: of the tasks.
          rates: as the mixture declares them.
          examples: number of examples of each task.
          mean_tokens: measures the mean number of tokens of an example of each task, in all
            features that the model is given, EOS counted.

        Returns:
          Weights that sum to 1.
        """


def _normalized(names: Sequence[str], values: Sequence[float]) -> list[float]:
    for name, value in zip(names, values, strict=True):
        if not 0 < value < float("inf"):
            raise UserError(
                f"the mixing rate of {name!r} is {value}; it must be a number above 0 "
                "(leave a task out of the mixture instead of giving it rate 0)"
            )
    total = sum(values)
    return [value / total for value in values]


@dataclass(frozen=True)
class GivenRates:
    """In proportion to the rates that the mixture declares, sharpened by a temperature.

    Attributes:
      temperature: each rate is raised to 1/temperature; 1 leaves it, large values approach
        equal shares.
    """

    temperature: float = 1.0

    def weights(
        self,
        names: Sequence[str],
        rates: Sequence[float],
        examples: Sequence[int],
        mean_tokens: Callable[[], Sequence[float]],
    ) -> list[float]:
        """See `Mixing.weights`; only names and rates count."""
        if self.temperature <= 0:
            raise UserError(f"GivenRates.temperature is {self.temperature}; it must be above 0")
        shares = _normalized(names, rates)
        return _normalized(names, [share ** (1 / self.temperature) for share in shares])


@dataclass(frozen=True)
class ExamplesProportional:
    """In proportion to the number of examples, each capped (Raffel et al. 2020, section 3.5.2).

    Attributes:
      maximum: the artificial data set size limit K; None sets none.
      temperature: capped sizes are raised to 1/temperature.
      sizes: numbers of examples that replace the counted ones, by the name of the task; those of
        tasks that are not there are counted.

    Raises:
      UserError: a size is of no task.
    """

    maximum: int | None = None
    temperature: float = 1.0
    sizes: Mapping[str, int] | None = None

    def weights(
        self,
        names: Sequence[str],
        rates: Sequence[float],
        examples: Sequence[int],
        mean_tokens: Callable[[], Sequence[float]],
    ) -> list[float]:
        """See `Mixing.weights`; only names and numbers of examples count."""
        if self.temperature <= 0:
            raise UserError(
                f"ExamplesProportional.temperature is {self.temperature}; it must be above 0"
            )
        given = dict(self.sizes or {})
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise UserError(
                f"ExamplesProportional.sizes has {unknown[0]!r}, which is none of the mixture's "
                f"tasks: {', '.join(names)}"
            )
        examples = [given.get(name, n) for name, n in zip(names, examples, strict=True)]
        capped = [n if self.maximum is None else min(n, self.maximum) for n in examples]
        return _normalized(names, [n ** (1 / self.temperature) for n in capped])


@dataclass(frozen=True)
class TokenShares:
    """Shares of the tokens instead of the examples.

    A task whose examples are twice as long is drawn half as often for the same share. Lengths are
    the means of `SAMPLED` examples of each task, as the model is given them.

    Attributes:
      shares: the rule whose weights are taken for shares of tokens.
    """

    shares: Mixing = field(default_factory=GivenRates)

    def weights(
        self,
        names: Sequence[str],
        rates: Sequence[float],
        examples: Sequence[int],
        mean_tokens: Callable[[], Sequence[float]],
    ) -> list[float]:
        """See `Mixing.weights`."""
        shares = self.shares.weights(names, rates, examples, mean_tokens)
        lengths = mean_tokens()
        return _normalized(names, [s / n for s, n in zip(shares, lengths, strict=True)])


class Interleaving:
    """Tasks in fixed proportions: which one comes at each place of an endless sequence.

    Any n examples in a row have each task's share of n but for one or two: n is split into the
    first task's part and the others', then these again, rounded down each time.
    """

    def __init__(self, weights: Sequence[float], first: int = 0):
        """Takes weights that sum to 1, rounded to multiples of 2^-32, and where to begin.

        Args:
          weights: of the tasks.
          first: how many places are left out at the beginning.
        """
        self._parts = [max(1, round(weight * 2**32)) for weight in weights]
        self._first = first
        self._left_out = self._counts(first)
        self._memo = 0, self._left_out

    def _counts(self, places: int) -> list[int]:
        """How many of the first `places` examples are of each task."""
        whole, left = sum(self._parts), places
        found = []
        for part in self._parts:
            others = left * (whole - part) // whole
            found.append(left - others)
            left, whole = others, whole - part
        return found

    def at(self, place: int) -> tuple[int, int]:
        """The task at a place, counted from 0, and how many of its examples came before."""
        known, before = self._memo  # most are asked for in order
        if known != place:
            before = self._counts(self._first + place)
        after = self._counts(self._first + place + 1)
        self._memo = place + 1, after
        task = next(i for i, (b, a) in enumerate(zip(before, after, strict=True)) if a > b)
        return task, before[task] - self._left_out[task]


class StreamMixing:
    """Which example of which task a stream of packed rows reads.

    Streams read at their own pace, for all give equally many rows. Each therefore mixes the tasks
    itself, and reads its own part of each task's examples: numbers k, k + streams, k + 2 streams
    and so on in stream k. The streams begin at different places of the mixture, so that a batch
    has examples of all tasks.
    """

    def __init__(self, weights: Sequence[float], streams: int):
        """Takes weights that sum to 1 and the number of streams."""
        self._streams = streams
        self._mixed = len(weights) > 1
        if self._mixed:
            self._order = [Interleaving(weights, first=number) for number in range(streams)]

    def at(self, stream: int, ordinal: int) -> tuple[int, int]:
        """The task, and the number of its example, that a stream reads at a place of its own."""
        task, nth = self._order[stream].at(ordinal) if self._mixed else (0, ordinal)
        return task, nth * self._streams + stream


@dataclass(frozen=True)
class Epochs:
    """The epochs of each task: examples drawn of it, by those that it has.

    Attributes:
      names: of the tasks.
      sizes: examples in an epoch of each.
      weights: shares of the examples that are drawn.
      schedule: examples of each batch, where every example is a row.
      streams: of packed rows, in all processes together; 0 for rows by number.
    """

    names: Sequence[str]
    sizes: Sequence[int]
    weights: Sequence[float]
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
            drawn = sum(stream["next"] for stream in own) * self.streams / len(own)
        else:
            drawn = self.schedule.rows_before(state["step"])
        return {
            name: drawn * weight / size
            for name, size, weight in zip(self.names, self.sizes, self.weights, strict=True)
        }
