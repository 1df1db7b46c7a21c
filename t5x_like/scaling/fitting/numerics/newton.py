"""Newton's method with a trust region and bounds, batched over many small problems.

The problems of a batch share their form but not their data: the starts of one fit, or the resamples
of a bootstrap. One step of all costs little more than one step of one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# (points (S, P), which problems of the batch they belong to (S,)) → value (S,), gradient (S, P)
# and Hessian (S, P, P).
Evaluate = Callable[[Floats, NDArray[np.intp]], tuple[Floats, Floats, Floats]]

MAX_STEPS = 600
# A predicted gain below this share of the value is rounding error.
GAIN = 1e-15
SMALLEST_RADIUS = 1e-13
POLISHING_STEPS = 8
# Iterations until the length of a step equals its radius, to more than the accuracy needed.
SHIFT_STEPS = 6


@dataclass(frozen=True)
class Minima:
    """The minimum found for each problem.

    Attributes:
      points: (S, P).
      values: (S,).
      gradients: (S,), the largest component by size of each gradient, bounds that hold left out,
        in units of the square root of the matching curvature.
      curvatures: (S,), the smallest eigenvalue of each Hessian; above 0 at a strict minimum.
      steps: (S,) steps taken.
    """

    points: Floats
    values: Floats
    gradients: Floats
    curvatures: Floats
    steps: NDArray[np.intp]


def minimize(evaluate: Evaluate, starts: Floats, low: Floats, high: Floats) -> Minima:
    """Minimises each problem of a batch from its start, within bounds.

    Steps solve the trust-region problem exactly (Moré and Sorensen 1983), in the eigenvectors of
    the Hessian. A component on a bound that would leave it stays. The last steps only reduce the
    gradient, where values differ by no more than rounding.

    Args:
      evaluate: values, gradients and Hessians.
      starts: (S, P).
      low: (P,) lower bounds.
      high: (P,) upper bounds.
    """
    points = np.clip(starts, low, high)
    every = np.arange(len(points))
    values, gradients, hessians = evaluate(points, every)
    radii = np.ones(len(points))
    steps = np.zeros(len(points), dtype=np.intp)
    active = every[np.isfinite(values)]
    for _ in range(MAX_STEPS):
        if not len(active):
            break
        here, slope, bend = points[active], gradients[active], hessians[active]
        step = _trust_step(*_freed(here, slope, bend, low, high), radii[active])
        step = np.clip(here + step, low, high) - here
        gain = -_dot(slope, step) - 0.5 * _dot(step, np.einsum("spq,sq->sp", bend, step))
        value, new_slope, new_bend = evaluate(here + step, active)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(gain > 0, (values[active] - value) / gain, -1.0)
        better = (value < values[active]) & np.isfinite(value)
        length = np.linalg.norm(step, axis=1)
        radius = radii[active]
        radius = np.where(~better | (ratio < 0.25), 0.25 * np.minimum(length, radius), radius)
        at_edge = length > 0.9 * radii[active]
        radii[active] = np.where(better & (ratio > 0.75) & at_edge, 2 * radius, radius)
        taken = active[better]
        points[taken] += step[better]
        values[taken], gradients[taken] = value[better], new_slope[better]
        hessians[taken] = new_bend[better]
        steps[active] += 1
        # A step truncated by a bound may predict an increase; a shorter one does not.
        promising = np.abs(gain) > GAIN * np.abs(values[active])
        going = promising & (radii[active] > SMALLEST_RADIUS)
        active = active[going]
    points, values = _polish(evaluate, points, values, gradients, hessians, low, high)
    return _minima(points, values, gradients, hessians, low, high, steps)


def _freed(
    points: Floats, gradients: Floats, hessians: Floats, low: Floats, high: Floats
) -> tuple[Floats, Floats]:
    """Gradients and Hessians in which components on a bound are fixed and uncoupled."""
    held = ((points <= low) & (gradients > 0)) | ((points >= high) & (gradients < 0))
    if not held.any():
        return gradients, hessians
    free = ~held
    slope = np.where(free, gradients, 0.0)
    bend = hessians * free[:, :, None] * free[:, None, :]
    diagonal = np.arange(points.shape[1])
    # As large as the other curvatures, so that it is never the smallest.
    scale = np.abs(hessians).max(axis=(1, 2))
    bend[:, diagonal, diagonal] += held * scale[:, None]
    return slope, bend


def _trust_step(gradients: Floats, hessians: Floats, radii: Floats) -> Floats:
    """The steps that minimise the quadratic models within their radii."""
    curvatures, vectors = np.linalg.eigh(hessians)
    slopes = np.einsum("spq,sp->sq", vectors, gradients)
    tiny = 1e-14 * np.abs(curvatures).max(axis=1) + 1e-300
    lowest = np.maximum(tiny - curvatures[:, 0], 0.0)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        whole = np.linalg.norm(slopes / (curvatures + lowest[:, None]), axis=1)
        inside = whole <= radii
        # No component of the step may be longer than the radius: this gives a lower bound of the
        # shift, from which Newton's steps on 1 / length - 1 / radius increase to the solution.
        shifts = np.maximum(lowest, (np.abs(slopes) / radii[:, None] - curvatures).max(axis=1))
        for _ in range(SHIFT_STEPS):
            squares = (slopes / (curvatures + shifts[:, None])) ** 2
            square = squares.sum(axis=1)
            bend = (squares / (curvatures + shifts[:, None])).sum(axis=1)
            risen = shifts + (np.sqrt(square) / radii - 1) * square / bend
            shifts = np.where(np.isfinite(risen), np.maximum(risen, lowest), shifts)
        shifts = np.where(inside, lowest, shifts)
        return -np.einsum("spq,sq->sp", vectors, slopes / (curvatures + shifts[:, None]))


def _polish(
    evaluate: Evaluate,
    points: Floats,
    values: Floats,
    gradients: Floats,
    hessians: Floats,
    low: Floats,
    high: Floats,
) -> tuple[Floats, Floats]:
    """Takes Newton steps while they reduce the gradient; updates `gradients` and `hessians`."""
    every = np.arange(len(points))
    for _ in range(POLISHING_STEPS):
        slope, bend = _freed(points, gradients, hessians, low, high)
        curvatures = np.linalg.eigvalsh(bend)
        # An eigenvalue within rounding of the largest counts as zero, whatever its sign.
        rounding = bend.shape[-1] * np.finfo(np.float64).eps
        convex = curvatures[:, 0] > rounding * np.abs(curvatures).max(axis=1)
        step = np.zeros_like(points)
        step[convex] = -np.linalg.solve(bend[convex], slope[convex][..., None])[..., 0]
        moved = np.clip(points + step, low, high)
        value, new_slope, new_bend = evaluate(moved, every)
        freed, _ = _freed(moved, new_slope, new_bend, low, high)
        smaller = np.linalg.norm(freed, axis=1) < 0.5 * np.linalg.norm(slope, axis=1)
        # Near a sum of squares of 0, values are rounding error.
        taken = smaller & (value <= values * (1 + 1e-9) + 1e-18)
        if not taken.any():
            break
        points = np.where(taken[:, None], moved, points)
        values = np.where(taken, value, values)
        gradients[taken], hessians[taken] = new_slope[taken], new_bend[taken]
    return points, values


def _minima(
    points: Floats,
    values: Floats,
    gradients: Floats,
    hessians: Floats,
    low: Floats,
    high: Floats,
    steps: NDArray[np.intp],
) -> Minima:
    slope, bend = _freed(points, gradients, hessians, low, high)
    diagonal = np.abs(np.einsum("spp->sp", bend))
    scaled = np.abs(slope) / np.sqrt(np.maximum(diagonal, 1e-300))
    lowest = np.asarray(np.linalg.eigvalsh(bend)[:, 0], dtype=np.float64)
    return Minima(points, values, scaled.max(axis=1), lowest, steps)


def _dot(left: Floats, right: Floats) -> Floats:
    return np.einsum("sp,sp->s", left, right)
