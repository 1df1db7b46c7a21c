"""How often a mixture draws from each of its tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from t5x_like.errors import UserError


class Mixing(Protocol):
    """A rule for the shares of a mixture's tasks."""

    def weights(
        self, names: Sequence[str], rates: Sequence[float], examples: Sequence[int]
    ) -> list[float]:
        """Weights that sum to 1, from each task's declared rate and number of examples."""


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
        self, names: Sequence[str], rates: Sequence[float], examples: Sequence[int]
    ) -> list[float]:
        """See `Mixing.weights`; `examples` plays no part."""
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
    """

    maximum: int | None = None
    temperature: float = 1.0

    def weights(
        self, names: Sequence[str], rates: Sequence[float], examples: Sequence[int]
    ) -> list[float]:
        """See `Mixing.weights`; `rates` plays no part."""
        if self.temperature <= 0:
            raise UserError(
                f"ExamplesProportional.temperature is {self.temperature}; it must be above 0"
            )
        capped = [n if self.maximum is None else min(n, self.maximum) for n in examples]
        return _normalized(names, [n ** (1 / self.temperature) for n in capped])
