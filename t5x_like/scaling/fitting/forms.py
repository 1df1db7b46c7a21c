"""The forms of loss laws, all sums of terms c_k · exp(linear in the exponents).

With x = log N and y = log D, both less their means over the runs,

    parametric:  L = E + A·exp(-alpha·x) + B·exp(-beta·y)
    Gadre:       L = E + a·exp(-2·eta·x) + b·exp(-2·eta·y)
    Kaplan:      L = (U·exp(-r·x) + V·exp(-y))^alpha_D,    r = alpha_N / alpha_D

so that log L is a power times the log of a sum of exponentials, linear in the logarithms of the
coefficients and the exponents together. All forms share one implementation: values, gradients and
Hessians in `residuals`, linearly solved coefficients in `projection`. Logarithms are centred so
that exponents and coefficients are nearly independent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from t5x_like.scaling.laws import GadreLaw, KaplanLaw, Law, ParametricLaw

Floats = NDArray[np.float64]

# Bounds of the exponents; a fit that ends on one is reported.
SMALLEST_EXPONENT, LARGEST_EXPONENT = 1e-3, 3.0
# exp(-16) of a typical loss: such a small term counts as zero.
SMALLEST_TERM = 16.0
LARGEST_TERM = 5.0


@dataclass(frozen=True)
class Points:
    """The data of a fit, float64 arrays (n,).

    Attributes:
      parameters: N.
      tokens: D.
      loss: nats.
      standard_error: of each loss, by which residuals are divided; None if all weigh alike.
    """

    parameters: Floats
    tokens: Floats
    loss: Floats
    standard_error: Floats | None = None

    @property
    def centred(self) -> tuple[Floats, Floats]:
        """Log N and log D minus their means."""
        mean_n, mean_d = self.means
        return np.log(self.parameters) - mean_n, np.log(self.tokens) - mean_d

    @property
    def means(self) -> tuple[float, float]:
        """The means of log N and log D."""
        return float(np.log(self.parameters).mean()), float(np.log(self.tokens).mean())


def even(scales: Floats) -> Floats:
    """Factors of residuals whose mean square is 1, so that equal ones change no objective."""
    return scales / np.sqrt((scales**2).mean())


class Form(Protocol):
    """The form of a law, in the coordinates of the fit.

    A point is (log c_1 … log c_K, exponents …), and last the power where `has_power`.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the law's parameters."""

    @property
    def law_class(self) -> Callable[..., Law]:
        """The class of the law."""

    @property
    def num_terms(self) -> int:
        """The number of terms, K."""

    @property
    def interchangeable(self) -> bool:
        """Whether the terms of N and D are alike: runs of one D/N cannot tell them apart."""

    @property
    def has_power(self) -> bool:
        """Whether the last entry of a point is a power of the whole sum.

        The last column of the design, which then has no entry, is added as it is.
        """

    def design(self, points: Points) -> Floats:
        """(K, n, P): term k of run i is exp(design[k, i] · point), without the power."""

    def grid(self, size: int) -> Floats:
        """Initial values (S, Q) of the exponents (and the power), about `size` of them."""

    def bounds(self, points: Points) -> tuple[Floats, Floats]:
        """The lower and upper bounds of points, (P,) each."""

    def coefficients(self, found: Floats, points: Points) -> Mapping[str, Floats]:
        """The law's coefficients (S,) for points (S, P)."""


class ParametricForm:
    """E + A / N^alpha + B / D^beta; a point is (log E, log A', log B', alpha, beta)."""

    names = ("E", "A", "B", "alpha", "beta")
    law_class = ParametricLaw
    num_terms = 3
    interchangeable = True
    has_power = False

    def design(self, points: Points) -> Floats:
        """The design; see `Form`."""
        x, y = points.centred
        design = _constants(3, len(x), 5)
        design[1, :, 3], design[2, :, 4] = -x, -y
        return design

    def grid(self, size: int) -> Floats:
        """Pairs of exponents, evenly spaced in their logarithms."""
        return _pairs(np.geomspace(0.05, 1.5, round(size**0.5)))

    def bounds(self, points: Points) -> tuple[Floats, Floats]:
        """The bounds; see `Form`."""
        return _bounds(points, terms=3, exponents=2)

    def coefficients(self, found: Floats, points: Points) -> Mapping[str, Floats]:
        """The coefficients; see `Form`."""
        e, a, b, alpha, beta = found.T
        mean_n, mean_d = points.means
        return {
            "E": _term(e, self.bounds(points)[0][0]),
            "A": np.exp(a + alpha * mean_n),
            "B": np.exp(b + beta * mean_d),
            "alpha": alpha,
            "beta": beta,
        }


class GadreForm:
    """E + (a·M^eta + b·M^-eta) / C^eta; a point is (log E, log a', log b', eta)."""

    names = ("E", "a_M", "b_M", "eta")
    law_class = GadreLaw
    num_terms = 3
    interchangeable = False
    has_power = False

    def design(self, points: Points) -> Floats:
        """The design; see `Form`. M^eta / C^eta is a constant times N^(-2·eta)."""
        x, y = points.centred
        design = _constants(3, len(x), 4)
        design[1, :, 3], design[2, :, 3] = -2 * x, -2 * y
        return design

    def grid(self, size: int) -> Floats:
        """Values of eta, evenly spaced in their logarithms."""
        return np.geomspace(0.02, 0.8, size)[:, None]

    def bounds(self, points: Points) -> tuple[Floats, Floats]:
        """The bounds; see `Form`."""
        return _bounds(points, terms=3, exponents=1)

    def coefficients(self, found: Floats, points: Points) -> Mapping[str, Floats]:
        """The coefficients; see `Form`."""
        e, a, b, eta = found.T
        mean_n, mean_d = points.means
        return {
            "E": _term(e, self.bounds(points)[0][0]),
            "a_M": np.exp(a + eta * (2 * mean_n + np.log(6))),
            "b_M": np.exp(b + eta * (2 * mean_d + np.log(6))),
            "eta": eta,
        }


class KaplanForm:
    """((N_c/N)^r + D_c/D)^alpha_D; a point is (log U, log V, r, alpha_D), r = alpha_N/alpha_D."""

    names = ("N_c", "D_c", "alpha_N", "alpha_D")
    law_class = KaplanLaw
    num_terms = 2
    interchangeable = False
    has_power = True

    def design(self, points: Points) -> Floats:
        """The design; see `Form`. The exponent of D inside of the power is 1."""
        x, y = points.centred
        design = _constants(2, len(x), 4)
        design[0, :, 2] = -x
        design[1, :, 3] = -y
        return design

    def grid(self, size: int) -> Floats:
        """Pairs of r and alpha_D, evenly spaced in their logarithms."""
        side = round(size**0.5)
        r, power = np.meshgrid(np.geomspace(0.2, 3, side), np.geomspace(0.03, 0.6, side))
        return np.stack([r.ravel(), power.ravel()], axis=1)

    def bounds(self, points: Points) -> tuple[Floats, Floats]:
        """The bounds; see `Form`. Terms are of the size of L^(1/alpha_D)."""
        low = np.array([-1e3, -1e3, SMALLEST_EXPONENT, SMALLEST_EXPONENT])
        return low, np.array([1e3, 1e3, 30.0, LARGEST_EXPONENT])

    def coefficients(self, found: Floats, points: Points) -> Mapping[str, Floats]:
        """The coefficients; see `Form`."""
        u, v, r, power = found.T
        mean_n, mean_d = points.means
        return {
            "N_c": np.exp(u / r + mean_n),
            "D_c": np.exp(v + mean_d),
            "alpha_N": r * power,
            "alpha_D": power,
        }


def _constants(terms: int, runs: int, size: int) -> Floats:
    """A design in which term k is its coefficient only."""
    design = np.zeros((terms, runs, size))
    for term in range(terms):
        design[term, :, term] = 1.0
    return design


def _pairs(values: Floats) -> Floats:
    first, second = np.meshgrid(values, values)
    return np.stack([first.ravel(), second.ravel()], axis=1)


def _bounds(points: Points, terms: int, exponents: int) -> tuple[Floats, Floats]:
    size = np.log(points.loss.min())
    low = [size - SMALLEST_TERM] * terms + [SMALLEST_EXPONENT] * exponents
    high = [np.log(points.loss.max()) + LARGEST_TERM] * terms + [LARGEST_EXPONENT] * exponents
    return np.array(low), np.array(high)


def _term(logarithm: Floats, lowest: float) -> Floats:
    """A coefficient; 0 if its logarithm is on the lower bound."""
    return np.where(logarithm <= lowest, 0.0, np.exp(logarithm))
