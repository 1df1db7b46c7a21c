"""Solvers for loss laws: Huber's loss of log loss, and variable projection."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from t5x_like.scaling.fitting.forms import Form, Points, even
from t5x_like.scaling.fitting.numerics.newton import Minima, minimize
from t5x_like.scaling.fitting.numerics.projection import ProjectedObjective, starting_points
from t5x_like.scaling.fitting.numerics.residuals import HuberObjective

Floats = NDArray[np.float64]

# Minima whose objectives differ by a smaller share count as the same.
AGREEMENT = 1e-6


@dataclass(frozen=True)
class Found:
    """Fits of a batch: `minima` in the search's own coordinates, and the form's `points` (S, P)."""

    minima: Minima
    points: Floats

    def agreeing(self) -> int:
        """The number of fits within `AGREEMENT` of the best value."""
        best = self.minima.values.min()
        # For an exact fit the objective is rounding error: 1e-20 of a square counts as 0.
        return int((self.minima.values <= best * (1 + AGREEMENT) + 1e-14).sum())


class Solver(Protocol):
    """Fits one form by one objective."""

    @property
    def form(self) -> Form:
        """The form to fit."""

    def starts(self, points: Points, size: int) -> Floats:
        """About `size` initial points of the search."""

    def solve(self, points: Points, counts: Floats, starts: Floats) -> Found:
        """Minimises each problem from its start; `counts` (S, n), `starts` (S, P)."""

    def objective(self, value: float) -> float:
        """Converts a value of `Minima` to the sum over runs."""

    def jacobian(self, points: Points, found: Floats) -> Floats:
        """(n, P) derivatives of the weighted residuals in the form's coordinates at (P,)."""


@dataclass(frozen=True)
class HuberSolver:
    """Huber's loss of log L̂ - log L, square up to `delta` (Hoffmann et al. 2022, approach 3)."""

    form: Form
    delta: float

    def starts(self, points: Points, size: int) -> Floats:
        """A grid of exponents, with the optimal coefficients for each."""
        return starting_points(self.form, points, size)

    def solve(self, points: Points, counts: Floats, starts: Floats) -> Found:
        """Minimises each problem from its start; see `Solver`."""
        objective = HuberObjective(self.form, points, self.delta, counts, self._scales(points))
        minima = minimize(objective.evaluate, starts, *self.form.bounds(points))
        return Found(minima, minima.points)

    def objective(self, value: float) -> float:
        """The sum of Huber's loss, which is delta² times the minimised value."""
        return value * self.delta**2

    def jacobian(self, points: Points, found: Floats) -> Floats:
        """See `Solver`."""
        once = np.ones((1, len(points.loss)))
        logs = HuberObjective(self.form, points, self.delta, once).jacobian(found[None])[0]
        return self._scales(points)[:, None] * logs

    def _scales(self, points: Points) -> Floats:
        """The factors of the residuals: log L's standard error is that of L over L."""
        if points.standard_error is None:
            return np.ones_like(points.loss)
        return even(points.loss / points.standard_error)


@dataclass(frozen=True)
class ProjectionSolver:
    """Squared error, absolute or relative, of the loss, by variable projection."""

    form: Form
    relative: bool

    def starts(self, points: Points, size: int) -> Floats:
        """A grid of exponents; the coefficients follow from them."""
        return starting_points(self.form, points, size)

    def solve(self, points: Points, counts: Floats, starts: Floats) -> Found:
        """Minimises each problem from the exponents of its start; see `Solver`."""
        objective = ProjectedObjective(self.form, points, self._scales(points), counts)
        first = self.form.num_terms
        low, high = self.form.bounds(points)
        minima = minimize(objective.evaluate, starts[:, first:], low[first:], high[first:])
        return Found(minima, objective.points_at(minima.points))

    def objective(self, value: float) -> float:
        """The sum of squares, which is twice the minimised value."""
        return 2 * value

    def jacobian(self, points: Points, found: Floats) -> Floats:
        """See `Solver`."""
        once = np.ones((1, len(points.loss)))
        logs = HuberObjective(self.form, points, 1.0, once)
        # d (s·L̂) = s·L̂ · d log L̂
        sizes = np.exp(logs.predicted(found[None])[0]) * self._scales(points)
        return sizes[:, None] * logs.jacobian(found[None])[0]

    def _scales(self, points: Points) -> Floats:
        """The factors of the residuals; known standard errors take the place of any rule."""
        if points.standard_error is not None:
            return even(1 / points.standard_error)
        return 1 / points.loss if self.relative else np.ones_like(points.loss)


def coefficients(solver: Solver, found: Floats, points: Points) -> Mapping[str, Floats]:
    """The law's coefficients (S,) for points (S, P)."""
    with np.errstate(over="ignore"):
        return solver.form.coefficients(found, points)
