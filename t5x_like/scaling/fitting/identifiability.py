"""What runs determine of a law: distinct sizes and lengths, and directions without curvature."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from t5x_like.errors import UserError
from t5x_like.scaling.fitting.diagnostics import SAME_SIZE, Warnings, warning
from t5x_like.scaling.fitting.forms import Points
from t5x_like.scaling.fitting.numerics.solvers import Solver, coefficients
from t5x_like.scaling.fitting.result import is_coefficient

Floats = NDArray[np.float64]

# An exponent needs three values: two fix it, with whatever noise they have.
DISTINCT = 3
# A direction is flat if a unit of it (an exponent by 1, a coefficient by a factor e) changes the
# log losses of the runs by less than this, as a root mean square: no loss is known that well.
FLAT = 1e-5
STEP = 1e-3
# Logarithm of a factor that makes any term vanish.
VANISHED = 50.0


def levels(values: Floats) -> NDArray[np.intp]:
    """Numbers values so that those within 2% of the smallest of their group share a number."""
    order = np.argsort(values, kind="stable")
    found = np.empty(len(values), dtype=np.intp)
    group, first = -1, -np.inf
    for place in order:
        value = float(np.log(values[place]))
        if value > first + SAME_SIZE:
            group, first = group + 1, value
        found[place] = group
    return found


def num_levels(values: Floats) -> int:
    """How many different values there are; those within 2% count as one."""
    return len(np.unique(levels(values)))


def require_distinct(method: str, points: Points) -> None:
    """Checks that a law of N and D can be fitted.

    Raises:
      UserError: N or D has fewer than three different values.
    """
    for letter, values in (("N", points.parameters), ("D", points.tokens)):
        count = num_levels(values)
        if count < DISTINCT:
            raise UserError(
                f"{method} needs at least {DISTINCT} different values of {letter}, and these "
                f"{len(values)} runs have {count} (values within {SAME_SIZE:.0%} count as one): "
                f"the exponent of {letter} is not determined. Add runs of other {letter}."
            )


def distinct_enough(points: Points, counts: Floats) -> NDArray[np.bool_]:
    """(S,) whether each resample (S, n) has three different N and three different D."""
    enough = np.ones(len(counts), dtype=bool)
    for values in (points.parameters, points.tokens):
        level = levels(values)
        there = [(counts[:, level == each] > 0).any(axis=1) for each in range(level.max() + 1)]
        enough &= np.sum(there, axis=0) >= DISTINCT
    return enough


def undetermined(solver: Solver, points: Points, optimum: Floats) -> tuple[str, ...]:
    """The law's parameters, and exponents a and b, that the runs do not determine at the optimum.

    They change along a direction in which no predicted loss of the runs does. Where D is a power
    of N in all runs, the terms of N and D can be interchanged, so that neither is determined.

    Args:
      solver: the method's.
      points: the runs.
      optimum: (P,) in the form's coordinates.
    """
    form = solver.form
    if form.interchangeable and _move_together(points):
        return *(name for name in form.names if name != "E"), "a", "b"
    zero = optimum <= form.bounds(points)[0] + 1e-9
    zero[form.num_terms :] = False  # exponents
    free = np.flatnonzero(~zero)
    # Terms of the smallest size count as zero, however large their exponents make them somewhere.
    at = np.where(zero, optimum - VANISHED, optimum)
    jacobian = solver.jacobian(points, at)[:, free] / np.sqrt(len(points.loss))
    _, sizes, directions = np.linalg.svd(jacobian, full_matrices=True)
    flat = np.concatenate([sizes, np.zeros(len(free) - len(sizes))]) < FLAT
    moved = np.zeros((flat.sum(), len(optimum)))
    moved[:, free] = STEP * directions[flat]
    if not len(moved):
        return ()
    before, after = (_quantities(solver, optimum + sign * moved, points) for sign in (-1, 1))
    return tuple(name for name in before if np.abs(after[name] - before[name]).max() > 1e-3 * STEP)


def of_directions(names: Sequence[str]) -> Warnings:
    """Warns of parameters that the runs do not determine."""
    if not names:
        return []
    return [
        warning(
            "not_determined",
            f"{', '.join(names)}: other values give the same losses for these runs, which do not "
            "determine them; their intervals are infinite. Vary N and D independently, and over "
            "a wider range.",
        )
    ]


def _move_together(points: Points) -> bool:
    x, y = points.centred
    return bool(np.std(y - np.polyval(np.polyfit(x, y, 1), x)) < SAME_SIZE)


def _quantities(solver: Solver, found: Floats, points: Points) -> dict[str, Floats]:
    """The law's parameters, coefficients in logarithms, and its exponents a and b, (S,) each."""
    values = dict(coefficients(solver, found, points))
    law = solver.form.law_class(**values)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = {n: np.log(v) if is_coefficient(n) else v for n, v in values.items()}
    return {**logs, "a": law.a, "b": law.b}  # type: ignore[attr-defined]
