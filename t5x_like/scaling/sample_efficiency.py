"""How many steps and tokens a loss takes: learning curves by size, and the critical batch.

After Kaplan et al. 2020, sections 5 and 5.2, and McCandlish et al. 2018.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from t5x_like.errors import UserError

Floats = NDArray[np.float64]

# The part of a run's steps that the law of steps is fitted to: after the warm-up, where the loss
# falls along no power law yet, and before the rate decays, where it falls faster.
FIRST, LAST = 0.1, 0.8
# Where the search of the exponents begins: Kaplan's alpha_N and alpha_S are .077 and .76.
_STARTS = [(a, b) for a in (0.05, 0.2, 0.6) for b in (0.2, 0.5, 1.0)]


@dataclasses.dataclass(frozen=True)
class CriticalBatch:
    """B_crit(L) = B* / L^(1/alpha_B), tokens (Kaplan et al. 2020, equation 1.4).

    Attributes:
      B_star: tokens; 2.1e8 there.
      alpha_B: 0.21 there.
    """

    B_star: float = 2.1e8
    alpha_B: float = 0.21

    def tokens(self, loss: ArrayLike) -> Floats:
        """The batch at which a step at this loss (nats) is half as useful a token as a small one's.

        It is the gradient noise scale there, as far as its simple form is one of it.
        """
        return self.B_star / np.asarray(loss, np.float64) ** (1 / self.alpha_B)


def minimum_steps(steps: ArrayLike, batch_tokens: ArrayLike, critical_tokens: ArrayLike) -> Floats:
    """Steps that a batch far above the critical one would take to the same loss.

    S_min = S / (1 + B_crit / B) (Kaplan et al. 2020, equation 5.4).

    Args:
      steps: S, with batches of `batch_tokens`.
      batch_tokens: B.
      critical_tokens: B_crit at the loss that is reached.
    """
    ratio = np.asarray(critical_tokens, np.float64) / np.asarray(batch_tokens, np.float64)
    return np.asarray(steps, np.float64) / (1 + ratio)


def minimum_flops(flops: ArrayLike, batch_tokens: ArrayLike, critical_tokens: ArrayLike) -> Floats:
    """Compute that a batch far below the critical one would take to the same loss.

    C_min = C / (1 + B / B_crit) (Kaplan et al. 2020, equation 5.5).

    Args:
      flops: C, with batches of `batch_tokens`.
      batch_tokens: B.
      critical_tokens: B_crit at the loss that is reached.
    """
    ratio = np.asarray(batch_tokens, np.float64) / np.asarray(critical_tokens, np.float64)
    return np.asarray(flops, np.float64) / (1 + ratio)


def fit_critical_batch(losses: ArrayLike, noise_scales: ArrayLike) -> CriticalBatch:
    """B* and alpha_B by least squares of logarithms.

    Args:
      losses: nats, at which the gradient noise scale was measured.
      noise_scales: tokens, above 0; those that are not are left out.

    Raises:
      UserError: fewer than three are left, they are of one loss, or the scale falls with progress.
    """
    loss, scale = (np.asarray(values, np.float64) for values in (losses, noise_scales))
    usable = np.isfinite(loss) & (loss > 0) & np.isfinite(scale) & (scale > 0)
    if usable.sum() < 3 or np.ptp(loss[usable]) == 0:
        raise UserError(
            "a law of the critical batch needs gradient noise scales above 0 at three losses or "
            f"more, and {int(usable.sum())} can be used."
        )
    slope, intercept = np.polyfit(np.log(loss[usable]), np.log(scale[usable]), 1)
    if slope >= 0:
        raise UserError(
            "the gradient noise scale does not grow as the loss falls: it has no law B* / "
            "L^(1/alpha_B). Measure more steps, or longer runs."
        )
    return CriticalBatch(float(np.exp(intercept)), float(-1 / slope))


@dataclasses.dataclass(frozen=True)
class StepsLaw:
    """L(N, S) = (N_c/N)^alpha_N + (S_c/S)^alpha_S (Kaplan et al. 2020, equation 1.6).

    Attributes:
      N_c: parameters.
      S_c: steps.
      alpha_N: the exponent of N.
      alpha_S: the exponent of steps.
    """

    N_c: float = 6.5e13
    S_c: float = 2.1e3
    alpha_N: float = 0.077
    alpha_S: float = 0.76

    def loss(self, parameters: ArrayLike, steps: ArrayLike) -> Floats:
        """Nats, after steps at the batch that the law was fitted for (`minimum_steps` there)."""
        n, s = (np.asarray(values, np.float64) for values in (parameters, steps))
        return (self.N_c / n) ** self.alpha_N + (self.S_c / s) ** self.alpha_S

    def steps(self, parameters: ArrayLike, loss: ArrayLike) -> Floats:
        """Steps to a loss; infinite where a model of this size never reaches it."""
        rest = (
            np.asarray(loss, np.float64)
            - (self.N_c / np.asarray(parameters, np.float64)) ** self.alpha_N
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(rest > 0, self.S_c * np.abs(rest) ** (-1 / self.alpha_S), np.inf)


@dataclasses.dataclass(frozen=True)
class StepsFit:
    """A fitted law of steps.

    Attributes:
      law: the law.
      intervals: parameter -> its 95% interval; empty without a bootstrap.
      critical: by which steps were converted to the least number of steps; None where they are
        steps at one batch.
    """

    law: StepsLaw
    intervals: Mapping[str, tuple[float, float]]
    critical: CriticalBatch | None = None


def fit_steps_law(curves: pd.DataFrame, critical: CriticalBatch | None = None) -> StepsLaw:
    """L(N, S) by least squares of log loss, each run weighing alike.

    Args:
      curves: rows with `name`, `parameters`, `step`, `loss` and `batch_tokens`; of each run those
        between `FIRST` and `LAST` of its steps count. Its learning rate should be constant there.
      critical: by which steps are converted to the least number of steps (equation 5.4); None takes
        steps as they are, which all runs must then have made with one batch.

    Raises:
      UserError: fewer than three sizes, or batches that differ without a critical batch.
    """
    data = _StepsData(curves, critical)
    half = float(np.log(data.loss.mean() / 2))
    starts = [(half, half, *exponents) for exponents in _STARTS]
    return data.law(data.best(np.ones(len(data.names)), starts))


def steps_law_interval(
    curves: pd.DataFrame, critical: CriticalBatch | None = None, *, resamples: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95% intervals of the law's parameters, by a bootstrap over runs.

    Resamples of fewer than three sizes are drawn again.

    Args:
      curves: see `fit_steps_law`.
      critical: see `fit_steps_law`.
      resamples: how many.
      seed: of them.

    Raises:
      UserError: see `fit_steps_law`.
    """
    if not resamples:
        return {}
    data = _StepsData(curves, critical)
    half = float(np.log(data.loss.mean() / 2))
    whole = data.best(np.ones(len(data.names)), [[half, half, *each] for each in _STARTS])
    rng = np.random.default_rng(seed)
    laws: list[StepsLaw] = []
    while len(laws) < resamples:
        drawn = rng.choice(len(data.names), len(data.names))
        counts = np.bincount(drawn, minlength=len(data.names)).astype(np.float64)
        if len(np.unique(data.sizes[counts > 0])) >= 3:
            laws.append(data.law(data.best(counts.astype(float), [whole.tolist()])))
    found = {}
    for field in dataclasses.fields(StepsLaw):
        low, high = np.percentile([getattr(law, field.name) for law in laws], [2.5, 97.5])
        found[field.name] = (float(low), float(high))
    return found


class _StepsData:
    """The points of a fit of `StepsLaw`: centred logarithms, and which run each is of.

    A point of the search is log of either term at the centres, and the exponents.
    """

    def __init__(self, curves: pd.DataFrame, critical: CriticalBatch | None) -> None:
        share = curves["step"] / curves.groupby("name")["step"].transform("max")
        rows = curves[(share >= FIRST) & (share <= LAST) & np.isfinite(curves["loss"])]
        if (sizes := rows["parameters"].nunique()) < 3:
            raise UserError(f"a law L(N, S) needs curves of three sizes, not of {sizes}.")
        if critical is None and rows["batch_tokens"].nunique() > 1:
            raise UserError(
                "steps of different batches are no measure of one another: give the critical batch."
            )
        n, self.loss = (rows[key].to_numpy(np.float64) for key in ("parameters", "loss"))
        steps = rows["step"].to_numpy(np.float64)
        if critical is not None:
            batch = rows["batch_tokens"].to_numpy(np.float64)
            steps = minimum_steps(steps, batch, critical.tokens(self.loss))
        self.centres = float(np.log(n).mean()), float(np.log(steps).mean())
        self.x, self.y = np.log(n) - self.centres[0], np.log(steps) - self.centres[1]
        self.names, self.run = np.unique(rows["name"].to_numpy(str), return_inverse=True)
        self.sizes = np.array([n[self.run == i][0] for i in range(len(self.names))])

    def best(self, counts: Floats, starts: Sequence[ArrayLike]) -> Floats:
        """The point of least squares; each run weighs as often as it is counted."""
        each = np.sqrt(counts / np.bincount(self.run))[self.run]

        def residuals(point: Floats) -> Floats:
            of_n, of_s, alpha_n, alpha_s = point
            predicted = np.logaddexp(of_n - alpha_n * self.x, of_s - alpha_s * self.y)
            return each * (predicted - np.log(self.loss))

        bounds = [-np.inf, -np.inf, 1e-3, 1e-3], [np.inf, np.inf, 3.0, 3.0]
        searches = [
            optimize.least_squares(residuals, start, bounds=bounds, x_scale=1.0, xtol=1e-12)
            for start in starts
        ]
        return min(searches, key=lambda one: one.cost).x

    def law(self, point: Floats) -> StepsLaw:
        """The law at a point."""
        of_n, of_s, alpha_n, alpha_s = map(float, point)
        return StepsLaw(
            N_c=float(np.exp(of_n / alpha_n + self.centres[0])),
            S_c=float(np.exp(of_s / alpha_s + self.centres[1])),
            alpha_N=alpha_n,
            alpha_S=alpha_s,
        )


def tokens_to_loss(curves: pd.DataFrame, losses: Sequence[float]) -> pd.DataFrame:
    """When each run's training loss first falls to given losses (Kaplan et al. 2020, figure 2).

    Between two records log loss is taken to be a line in log tokens.

    Args:
      curves: rows with `name`, `variant`, `parameters`, `step`, `tokens`, `flops` and `loss`.
      losses: nats.

    Returns:
      a row for each run and loss that it reaches: `name`, `variant`, `parameters`, `target`,
      `tokens`, `steps` and `flops`.
    """
    found = []
    known = curves[np.isfinite(curves["loss"].to_numpy(np.float64))]
    for name, rows in known.groupby("name", sort=False):
        ordered = rows.sort_values("tokens")
        lowest = np.minimum.accumulate(ordered["loss"].to_numpy(np.float64))
        for target in losses:
            below = np.flatnonzero(lowest <= target)
            if not len(below):
                continue
            last = int(below[0])
            share = 1.0
            if last:
                high, low = np.log(lowest[last - 1]), np.log(lowest[last])
                share = float((high - np.log(target)) / (high - low))
            values = {"tokens": "tokens", "step": "steps", "flops": "flops"}
            row = {"name": name, "target": float(target)}
            row |= {column: ordered[column].iloc[0] for column in ("variant", "parameters")}
            for column, called in values.items():
                logs = np.log(ordered[column].to_numpy(np.float64)[max(last - 1, 0) : last + 1])
                row[called] = float(np.exp(logs[0] + share * (logs[-1] - logs[0])))
            found.append(row)
    columns = ["name", "variant", "parameters", "target", "tokens", "steps", "flops"]
    return pd.DataFrame(found, columns=columns)
