"""The search of a learning rate that comes before a sweep."""

import dataclasses
import math
from collections.abc import Sequence

from t5x_like.errors import UserError
from t5x_like.scaling.sweeps.cells import Cell
from t5x_like.scaling.sweeps.grids import all_positive

Factors = Sequence[tuple[float, float]]
"""What a search found: FLOPs of a run, and the best factor on the recipe's rate for it."""

# A rate that was found at 2e11 FLOPs cost a LLaMA of 6e12 0.11 nats (docs/sweeps.md).
_FARTHEST = 10.0


@dataclasses.dataclass(frozen=True)
class LearningRateSearch:
    """A small sweep, run first, that corrects the recipe's learning rate.

    Every variant trains a model for each budget with the recipe's rate times each factor. The
    minimum of a parabola through the best three losses, in the logarithm of the factor, is the best
    factor for that budget. The runs of the sweep have a factor whose logarithm is linear in that
    of their FLOPs between two budgets: the best rate falls as runs get longer. Above the largest
    budget the last two are extrapolated if they decrease; below the lowest it is constant.

    Attributes:
      budgets: FLOPs of a run, ascending.
      parameters: of the model at each budget.
      factors: ascending.
    """

    budgets: Sequence[float]
    parameters: Sequence[float]
    factors: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0)

    def __post_init__(self) -> None:
        if not self.budgets:
            raise UserError("a search of learning rates has no budgets: give one or more.")
        for name in ("budgets", "parameters", "factors"):
            all_positive(f"LearningRateSearch.{name}", getattr(self, name))
        if list(self.budgets) != sorted(set(self.budgets)):
            raise UserError(f"budgets {list(self.budgets)} of a search: they rise.")
        if len(self.parameters) != len(self.budgets):
            raise UserError(
                f"a search has {len(self.budgets)} budgets, and parameters "
                f"{list(self.parameters)}: give one number for each budget."
            )
        if len(self.factors) < 3 or list(self.factors) != sorted(set(self.factors)):
            raise UserError(f"factors {list(self.factors)}: give three or more, rising.")

    @property
    def models(self) -> list[tuple[float, float]]:
        """The budget and the parameters of each model."""
        return list(zip(self.budgets, self.parameters, strict=True))

    def best_factors(self, cells: Sequence[Cell], losses: Sequence[float]) -> tuple[Factors, str]:
        """What the runs of one variant say, and advice on the range where they want it wider.

        Args:
          cells: budget by budget, factor by factor.
          losses: of each.
        """
        found: list[tuple[float, float]] = []
        for start in range(0, len(cells), len(self.factors)):
            factor = self.best(losses[start : start + len(self.factors)])
            found.append((cells[start].six_n_d, factor))
        ends = {f"x{f}": None for _, f in found if f in (self.factors[0], self.factors[-1])}
        if not ends:
            return found, ""
        return found, f"; at the end of the range: {', '.join(ends)}, give factors beyond"

    def best(self, losses: Sequence[float]) -> float:
        """The best factor, from the loss of each."""
        order = [i for i, loss in enumerate(losses) if math.isfinite(loss)]
        if not order:
            raise UserError("every run of the learning rate search diverged: lower its factors.")
        best = min(order, key=lambda i: losses[i])
        # No parabola at an end of the range, or next to a run that diverged.
        if best - 1 not in order or best + 1 not in order:
            return float(self.factors[best])
        x = [math.log(self.factors[i]) for i in (best - 1, best, best + 1)]
        y = [losses[i] for i in (best - 1, best, best + 1)]
        left = (y[1] - y[0]) / (x[1] - x[0])
        right = (y[2] - y[1]) / (x[2] - x[1])
        curvature = (right - left) / (x[2] - x[0])
        lowest = (x[0] + x[1]) / 2 - left / (2 * curvature)
        return float(f"{math.exp(lowest):.3g}")

    def too_cheap_for(self, cells: Sequence[Cell]) -> str:
        """One line where the search is far cheaper than the largest of these runs; else ""."""
        largest, searched = max(cell.flops for cell in cells), max(self.budgets)
        if largest <= _FARTHEST * searched:
            return ""
        return (
            f"learning rates are searched at {searched:.3g} FLOPs, and the largest run has "
            f"{largest / searched:.0f} times as many: short runs want higher rates than long ones. "
            "Add a larger budget to LearningRateSearch.budgets, and its parameters."
        )
