"""Huber's loss of the residuals of log loss, with gradients and Hessians, batched over fits.

Hoffmann et al. 2022, equation 3, with the residual log L̂ - log L. The objective is divided by
delta², so that its curvature is of the order of the number of runs for any delta.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t5x_like.scaling.fitting.forms import Form, Points

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HuberObjective:
    """Σ w·huber(s·(log L̂ - log L)) / delta²; huber(r) is r²/2 up to delta and linear beyond.

    Attributes:
      form: the law's form.
      points: the runs.
      scales: (n,) s: 1, or L over the loss's standard error, as even factors.
      delta: where the square ends.
      counts: (S, n), how often each run counts in each problem of the batch.
    """

    form: Form
    points: Points
    delta: float
    counts: Floats
    scales: Floats | float = 1.0

    def evaluate(self, found: Floats, problems: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        """Values (S,), gradients (S, P) and Hessians (S, P, P) at points (S, P)."""
        counts = self.counts[problems]
        logs, shares, design = self._terms(found)
        power = found[:, -1:] if self.form.has_power else 1.0
        residuals = power * logs - np.log(self.points.loss)
        values, slopes, bends = _huber(self.scales * residuals, self.delta)
        values = (counts * values).sum(axis=1)
        slopes, bends = counts * self.scales * slopes, counts * self.scales**2 * bends

        num_problems, size = found.shape
        # Derivatives of the log-sum-exp: the mean of the design's rows, and their covariance.
        inner = _mean(shares, design)
        weights = slopes * power
        outer = np.einsum("kip,kiq->kipq", design, design).reshape(-1, design.shape[2] ** 2)
        spread = (weights[:, None] * shares).reshape(num_problems, -1) @ outer
        spread = spread.reshape(num_problems, design.shape[2], design.shape[2])
        spread -= inner.swapaxes(1, 2) @ (weights[..., None] * inner)
        if not self.form.has_power:
            gradients = (slopes[:, None] @ inner)[:, 0]
            return values, gradients, spread + inner.swapaxes(1, 2) @ (bends[..., None] * inner)

        # The design's last column is a constant, and is replaced by the power.
        whole = self._with_power(found, inner, logs)
        gradients = (slopes[:, None] @ whole)[:, 0]
        hessians = whole.swapaxes(1, 2) @ (bends[..., None] * whole)
        hessians[:, :-1, :-1] += spread[:, :-1, :-1]
        crossed = (slopes[:, None] @ inner[..., : size - 1])[:, 0]
        hessians[:, :-1, -1] += crossed
        hessians[:, -1, :-1] += crossed
        return values, gradients, hessians

    def predicted(self, found: Floats) -> Floats:
        """Log L̂ (S, n) at points (S, P)."""
        logs, _, _ = self._terms(found)
        return logs * (found[:, -1:] if self.form.has_power else 1.0)

    def jacobian(self, found: Floats) -> Floats:
        """The derivatives (S, n, P) of log L̂ at points (S, P)."""
        logs, shares, design = self._terms(found)
        inner = _mean(shares, design)
        return self._with_power(found, inner, logs) if self.form.has_power else inner

    def _with_power(self, found: Floats, inner: Floats, logs: Floats) -> Floats:
        power = found[:, -1, None, None]
        return np.concatenate([power * inner[..., :-1], logs[..., None]], axis=-1)

    def _terms(self, found: Floats) -> tuple[Floats, Floats, Floats]:
        """The log of the sum (S, n), each term's share of it (S, K, n), and the design."""
        design = self.form.design(self.points)
        inner = found.copy()
        if self.form.has_power:
            inner[:, -1] = 1.0
        terms = np.stack([inner @ design[k].T for k in range(len(design))], axis=1)
        largest = terms.max(axis=1, keepdims=True)
        shares = np.exp(terms - largest)
        total = shares.sum(axis=1, keepdims=True)
        return (largest + np.log(total))[:, 0], shares / total, design


def _mean(shares: Floats, design: Floats) -> Floats:
    """(S, n, P): the design's rows, weighed by their terms' shares."""
    return sum(shares[:, k, :, None] * design[k] for k in range(len(design)))


def _huber(residuals: Floats, delta: float) -> tuple[Floats, Floats, Floats]:
    """The loss over delta², and its two derivatives."""
    size = np.abs(residuals)
    near = size <= delta
    values = np.where(near, 0.5 * residuals**2, delta * (size - 0.5 * delta)) / delta**2
    return values, np.clip(residuals, -delta, delta) / delta**2, near / delta**2
