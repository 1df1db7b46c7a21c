"""Variable projection: solves for the coefficients linearly within a search over exponents.

Golub and Pereyra 1973. For given exponents a law is linear in E, A and B, whose best nonnegative
values a small least-squares problem gives. The remaining function of one or two exponents is
minimised by Newton's method; its Hessian is the Schur complement of the full one.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t5x_like.scaling.fitting.forms import Form, Points

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ProjectedObjective:
    """Σ w·(s·(L̂ - L))², half of it, as a function of the exponents.

    Attributes:
      form: a law's form, without a power.
      points: the runs.
      scales: (n,) s: 1 for squared error, 1 / L for relative error, or over standard errors.
      counts: (S, n), how often each run counts in each problem of the batch.
    """

    form: Form
    points: Points
    scales: Floats
    counts: Floats

    def evaluate(
        self, exponents: Floats, problems: NDArray[np.intp]
    ) -> tuple[Floats, Floats, Floats]:
        """Values (S,), gradients (S, Q) and Hessians (S, Q, Q) at exponents (S, Q)."""
        weights = self.counts[problems] * self.scales**2
        design = self.form.design(self.points)
        slopes = design[:, :, self.form.num_terms :]
        bases = _bases(design, exponents, self.form.num_terms)
        found = nonnegative(bases, self.points.loss, weights)
        terms = bases * found[:, None, :]
        residuals = terms.sum(axis=2) - self.points.loss
        values = 0.5 * (weights * residuals**2).sum(axis=1)
        # d L̂ / d exponent, the coefficients held.
        moved = np.einsum("sik,kiq->siq", terms, slopes)
        weighted = weights * residuals
        gradients = np.einsum("si,siq->sq", weighted, moved)
        outer = np.einsum("kiq,kir->kiqr", slopes, slopes)
        hessians = np.einsum("siq,si,sir->sqr", moved, weights, moved)
        hessians += np.einsum("si,sik,kiqr->sqr", weighted, terms, outer, optimize=True)
        # The coefficients follow the exponents, those at 0 excepted.
        kept = found > 0
        basis = bases * kept[:, None, :]
        inner = np.einsum("sik,si,sil->skl", basis, weights, basis)
        diagonal = np.arange(inner.shape[1])
        inner[:, diagonal, diagonal] += ~kept
        crossed = np.einsum("sik,si,siq->skq", basis, weights, moved)
        crossed += np.einsum("si,sik,kiq->skq", weighted, basis, slopes, optimize=True)
        hessians -= crossed.swapaxes(1, 2) @ np.linalg.solve(inner, crossed)
        return values, gradients, hessians

    def points_at(self, exponents: Floats) -> Floats:
        """The form's points (S, P) with the optimal coefficients for exponents (S, Q)."""
        weights = self.counts * self.scales**2
        bases = _bases(self.form.design(self.points), exponents, self.form.num_terms)
        found = nonnegative(bases, self.points.loss, weights)
        low, _ = self.form.bounds(self.points)
        with np.errstate(divide="ignore"):
            return np.maximum(np.concatenate([np.log(found), exponents], axis=1), low)


def starting_points(form: Form, points: Points, size: int) -> Floats:
    """Points (S, P) over a grid of exponents, with coefficients by least relative squares."""
    grid = form.grid(size)
    design = form.design(points)
    if form.has_power:
        power = grid[:, -1:]
        inner = np.concatenate([grid[:, :-1], np.ones_like(power)], axis=1)
        targets = np.exp(np.log(points.loss) / power)
    else:
        inner, targets = grid, np.broadcast_to(points.loss, (len(grid), len(points.loss)))
    bases = _bases(design, inner, form.num_terms)
    found = nonnegative(bases, targets, 1 / targets**2)
    # A term of 0 has no logarithm: start it small, so that it can grow.
    floor = 1e-3 * targets.min(axis=1, keepdims=True)
    low, high = form.bounds(points)
    return np.clip(np.concatenate([np.log(np.maximum(found, floor)), grid], axis=1), low, high)


def nonnegative(bases: Floats, targets: Floats, weights: Floats) -> Floats:
    """The nonnegative least-squares coefficients (S, K).

    Args:
      bases: (S, n, K), K at most 3: every subset of nonzero coefficients is tried.
      targets: (n,) or (S, n).
      weights: (S, n).
    """
    roots = np.sqrt(weights)
    scaled = bases * roots[..., None]
    wanted = np.broadcast_to(targets, weights.shape) * roots
    found = _least_squares(scaled, wanted)
    bad = np.flatnonzero((found < 0).any(axis=1))
    if len(bad):
        found[bad] = _best_subset(scaled[bad], wanted[bad])
    return found


def _best_subset(scaled: Floats, wanted: Floats) -> Floats:
    num_problems, _, num_terms = scaled.shape
    best = np.zeros((num_problems, num_terms))
    lowest = np.full(num_problems, np.inf)
    for size in range(1, num_terms):
        for kept in itertools.combinations(range(num_terms), size):
            columns = scaled[:, :, kept]
            part = _least_squares(columns, wanted)
            error = ((np.einsum("sik,sk->si", columns, part) - wanted) ** 2).sum(axis=1)
            better = (part >= 0).all(axis=1) & (error < lowest)
            whole = np.zeros((num_problems, num_terms))
            whole[:, kept] = part
            best[better], lowest[better] = whole[better], error[better]
    return best


def _least_squares(scaled: Floats, wanted: Floats) -> Floats:
    """Least squares by QR, whose error grows with the condition number, not its square."""
    lengths = np.linalg.norm(scaled, axis=1)
    lengths[lengths == 0] = 1.0
    q, r = np.linalg.qr(scaled / lengths[:, None, :])
    size = r.shape[-1]
    # Collinear columns (an exponent near 0) share their coefficient.
    diagonal = np.arange(size)
    r[:, diagonal, diagonal] += np.where(np.abs(r[:, diagonal, diagonal]) < 1e-13, 1e-13, 0.0)
    found = np.linalg.solve(r, (q.swapaxes(1, 2) @ wanted[..., None]))[..., 0]
    return found / lengths


def _bases(design: Floats, exponents: Floats, num_terms: int) -> Floats:
    """(S, n, K): each term without its coefficient."""
    with np.errstate(over="ignore"):
        return np.exp(np.einsum("sq,kiq->sik", exponents, design[:, :, num_terms:]))
