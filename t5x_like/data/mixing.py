"""How often a mixture draws from each of its tasks."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from t5x_like.errors import UserError

SAMPLED = 4096  # examples of a task whose lengths are measured
_STEPS = 64  # in which rates move from one stage to the next


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


def _check_names(where: str, given: Mapping[str, object], names: Sequence[str]) -> None:
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise UserError(
            f"{where} has {unknown[0]!r}, which is none of the mixture's tasks: {', '.join(names)}"
        )


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
        counted = self._counted(names, examples)
        capped = [n if self.maximum is None else min(n, self.maximum) for n in counted]
        return _normalized(names, [n ** (1 / self.temperature) for n in capped])

    def note(self, names: Sequence[str], examples: Sequence[int]) -> str:
        """What is hardly meant: a limit that leaves nothing of the proportions; "" for nothing."""
        counted = self._counted(names, examples)
        if self.maximum is None or len(counted) < 2 or min(counted) < self.maximum:
            return ""
        return (
            f"ExamplesProportional.maximum is {self.maximum:,}, and no task has fewer examples "
            f"(the smallest {min(counted):,}): all are drawn equally often."
        )

    def _counted(self, names: Sequence[str], examples: Sequence[int]) -> list[int]:
        given = dict(self.sizes or {})
        _check_names("ExamplesProportional.sizes", given, names)
        return [given.get(name, n) for name, n in zip(names, examples, strict=True)]


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


@dataclass(frozen=True)
class GivenEpochs:
    """In proportion to how often each task is to be gone through.

    A task of twice as many examples, or twice as many epochs, is drawn twice as often. With
    `TRAIN_EPOCHS` the least of the numbers, a run goes through each task just so often.

    Attributes:
      epochs: by the name of the task, above 0; 1 of those that are not there.

    Raises:
      UserError: a name is of no task.
    """

    epochs: Mapping[str, float]

    def weights(
        self,
        names: Sequence[str],
        rates: Sequence[float],
        examples: Sequence[int],
        mean_tokens: Callable[[], Sequence[float]],
    ) -> list[float]:
        """See `Mixing.weights`; only names and numbers of examples count."""
        _check_names("GivenEpochs.epochs", self.epochs, names)
        drawn = [self.epochs.get(name, 1) * n for name, n in zip(names, examples, strict=True)]
        return _normalized(names, drawn)


@dataclass(frozen=True)
class Shares:
    """Which share of the examples is of each task, and from which batch on.

    Attributes:
      begins: how many batches come before each change; the first is 0.
      weights: for each of them the tasks' shares, which sum to 1; a task of share 0 is not drawn.
    """

    begins: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]


def constant(weights: Sequence[float]) -> Shares:
    """Shares that never change."""
    return Shares((0,), (tuple(weights),))


@dataclass(frozen=True)
class MixtureSchedule:
    """Rates that change while a run trains: `((0, None), (9000, {"books": 3, "web": 1}))`.

    Attributes:
      stages: pairs of how many batches come before, ascending from 0, and the rates from there
        on by the name of the task, of which those that are left out are not drawn. None takes the
        rates that the mixture declares.
      linear: whether shares move from each pair to the next on a straight line, in 64 equal steps,
        or one for each batch where there are fewer; otherwise they change at once.
      rule: what makes shares of the rates of a stage; with `TokenShares` they are of tokens.

    Raises:
      UserError: the stages are not such, or name no task of the mixture.
    """

    stages: Sequence[tuple[int, Mapping[str, float] | None]]
    linear: bool = False
    rule: Mixing = field(default_factory=GivenRates)

    def __post_init__(self) -> None:
        pairs = tuple(tuple(pair) for pair in self.stages)
        right = all(
            len(pair) == 2 and isinstance(pair[0], int) and (pair[1] is None or pair[1])
            for pair in pairs
        )
        firsts = [begin for begin, _ in self.stages] if right else []
        if not firsts or firsts[0] != 0 or sorted(set(firsts)) != firsts:
            raise UserError(
                f"data.MixtureSchedule.stages is {self.stages!r}: pairs of a batch and the rates "
                "from there on are needed, ascending from batch 0, such as ((0, None), (9000, "
                "{'books': 3, 'web': 1}))."
            )
        object.__setattr__(self, "stages", pairs)

    def shares(
        self,
        names: Sequence[str],
        rates: Sequence[float],
        examples: Sequence[int],
        mean_tokens: Callable[[], Sequence[float]],
    ) -> Shares:
        """The shares of the tasks in time; the arguments are those of `Mixing.weights`."""
        begins = [begin for begin, _ in self.stages]
        at_stage = [
            self._weights(given, names, rates, examples, mean_tokens) for _, given in self.stages
        ]
        for name, drawn in zip(names, zip(*at_stage, strict=True), strict=True):
            if not any(drawn):
                raise UserError(
                    f"data.MixtureSchedule.stages never draws the task {name!r}: give it a rate in "
                    "one of them, or leave it out of the mixture."
                )
        if not self.linear:
            return Shares(tuple(begins), tuple(at_stage))
        moving_begins, moving = [], []
        for (begin, before), (end, after) in itertools.pairwise(zip(begins, at_stage, strict=True)):
            steps = min(_STEPS, end - begin)
            for step in range(steps):
                moved = (step + 0.5) / steps  # the mean of the line over the step
                moving_begins.append(begin + (end - begin) * step // steps)
                moving.append(
                    tuple((1 - moved) * a + moved * b for a, b in zip(before, after, strict=True))
                )
        return Shares((*moving_begins, begins[-1]), (*moving, at_stage[-1]))

    def _weights(
        self,
        given: Mapping[str, float] | None,
        names: Sequence[str],
        rates: Sequence[float],
        examples: Sequence[int],
        mean_tokens: Callable[[], Sequence[float]],
    ) -> tuple[float, ...]:
        """The shares of one stage."""
        stage = dict(zip(names, rates, strict=True)) if given is None else given
        _check_names("MixtureSchedule.stages", stage, names)
        drawn = [place for place, name in enumerate(names) if stage.get(name, 0)]
        weights = self.rule.weights(
            [names[place] for place in drawn],
            [stage[names[place]] for place in drawn],
            [examples[place] for place in drawn],
            lambda: [mean_tokens()[place] for place in drawn],
        )
        found = [0.0] * len(names)
        for place, weight in zip(drawn, weights, strict=True):
            found[place] = weight
        return tuple(found)
