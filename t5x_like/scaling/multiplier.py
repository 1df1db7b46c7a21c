"""Compute multipliers: the compute that a baseline needs for a variant's loss, relative to its.

For each variant v and each IsoFLOP budget C, a parabola of loss in log N has its minimum `L*_v(C)`.
Over the budgets, `L*_v(C) = E_v + k_v C^-g_v` is fitted by least squares on log loss (E_v = 0 with
fewer than four budgets, which cannot separate a floor from a slope). The multiplier is

    m_v(C) = L*_base^-1(L*_v(C)) / C.

Above 1 the variant saves compute. Its interval is the percentile interval of a residual bootstrap:
the sizes of a sweep were chosen, so they stay fixed, and the residuals of the parabolas, corrected
for their degrees of freedom, are resampled.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from t5x_like.errors import UserError
from t5x_like.scaling.fitting.identifiability import num_levels

# With fewer budgets the floor E of the loss cannot be separated from the slope.
BUDGETS_FOR_A_FLOOR = 4
# Floors to try, as fractions of the lowest loss.
FLOORS = np.linspace(0.0, 0.995, 200)
INTERVAL = (2.5, 97.5)

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class LossCurve:
    """Loss at the optimum against compute, `L*(C) = floor + exp(intercept + slope log C)`.

    Row 0 is the fit of all runs, the others those of the bootstrap, `[1 + bootstrap]` float64.

    Attributes:
      floor: nats; 0 with fewer than `BUDGETS_FOR_A_FLOOR` budgets.
      intercept: log nats at one FLOP.
      slope: negative where more compute helps.
    """

    floor: Array
    intercept: Array
    slope: Array

    def loss(self, flops: float | Array) -> Array:
        """The optimal loss in nats of `flops` `[points]` or a scalar: `[1 + bootstrap, points]`."""
        logs = np.log(np.atleast_1d(np.asarray(flops, np.float64)))
        power = self.intercept[:, None] + self.slope[:, None] * logs
        return self.floor[:, None] + np.exp(power)

    def flops(self, loss: Array) -> Array:
        """The compute that reaches `loss` `[1 + bootstrap, points]`; infinite below the floor."""
        above = loss - self.floor[:, None]
        falling = self.slope[:, None] < 0
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            logs = (np.log(above) - self.intercept[:, None]) / self.slope[:, None]
            found = np.where(above > 0, np.exp(logs), np.inf)
        return np.where(falling & ~np.isnan(loss), found, np.nan)


@dataclasses.dataclass(frozen=True)
class Multipliers:
    """The compute multipliers of variants relative to a baseline.

    Attributes:
      baseline: the variant that the others are compared with.
      table: a row for each other variant and compute: `variant`, `baseline`, `flops`,
        `multiplier`, `low`, `high` (95%), `loss`, `baseline_loss` (nats), `budgets` (shared),
        `headline` (True at the geometric mean of the shared budgets).
      minima: a row for each variant and budget: `variant`, `budget`, `parameters`, `tokens`,
        `loss`, `loss_low`, `loss_high`, `runs`, `inside`.
      curves: `L*(C)` of each variant that has one.
      notes: sentences on what could not be computed, and why.
    """

    baseline: str
    table: pd.DataFrame
    minima: pd.DataFrame
    curves: Mapping[str, LossCurve]
    notes: tuple[str, ...]


def compute_multipliers(
    runs: pd.DataFrame, baseline: str, *, bootstrap: int = 1000, seed: int = 0
) -> Multipliers:
    """Computes the compute multiplier of every variant of an IsoFLOP sweep.

    Args:
      runs: finished runs with `variant`, `budget` (FLOPs), `parameters` and `loss` (nats).
      baseline: a value of `variant`.
      bootstrap: number of resamples.
      seed: of the resamples.

    Raises:
      UserError: the baseline has no run.
    """
    runs = runs[np.isfinite(runs["loss"]) & np.isfinite(runs["budget"])]
    variants = list(dict.fromkeys(runs["variant"]))
    if baseline not in variants:
        there = ", ".join(map(repr, variants)) or "none"
        raise UserError(f"the baseline '{baseline}' has no finished run with a budget: {there}.")
    rng = np.random.default_rng(seed)
    notes: list[str] = []
    minima: list[dict[str, object]] = []
    curves: dict[str, LossCurve] = {}
    budgets: dict[str, list[float]] = {}
    parabolas = {name: _parabolas(runs[runs["variant"] == name], name, notes) for name in variants}
    residuals = np.concatenate(
        [one.residuals() for found in parabolas.values() for one in found] or [np.zeros(0)]
    )
    if not len(residuals):
        notes.append("no intervals: parabolas through three sizes have no residuals to resample.")
    for variant in variants:
        found = [_minimum(one, variant, residuals, bootstrap, rng) for one in parabolas[variant]]
        minima += [row for row, _ in found]
        used = [(row, losses) for row, losses in found if row["inside"]]
        budgets[variant] = [float(row["budget"]) for row, _ in used]  # type: ignore[arg-type]
        if len(used) < 2:
            notes.append(
                f"{_called(variant)}: no loss against compute, because {len(used)} of its budgets "
                "has a minimum inside its grid and two are needed."
            )
            continue
        losses = np.stack([losses for _, losses in used], axis=1)
        curves[variant] = _fit_curve(np.array(budgets[variant]), losses)
    rows = []
    for variant in variants:
        if variant == baseline or not {variant, baseline} <= curves.keys():
            continue
        shared = sorted(set(budgets[variant]) & set(budgets[baseline]))
        if not shared:
            notes.append(f"{_called(variant)}: no multiplier: no budget shared with the baseline.")
            continue
        rows += _compare(variant, baseline, curves, shared)
    return Multipliers(baseline, pd.DataFrame(rows), pd.DataFrame(minima), curves, tuple(notes))


def _called(variant: str) -> str:
    return f"variant '{variant}'" if variant else "the sweep"


@dataclasses.dataclass(frozen=True)
class _Parabola:
    """The runs of one variant and budget, and the parabola through them.

    Attributes:
      budget: FLOPs.
      logs: of the different numbers of parameters, `[sizes]`.
      losses: nats, `[sizes]`; means over the runs of one size, which are no further sizes.
      runs: how many there are.
    """

    budget: float
    logs: Array
    losses: Array
    runs: int

    def fitted(self) -> Array:
        """The parabola's losses at the sizes, `[sizes]`."""
        unit = self.logs - self.logs.mean()
        return np.polyval(np.polyfit(unit, self.losses, 2), unit)

    def residuals(self) -> Array:
        """The residuals of the sizes, corrected for the parabola's degrees of freedom.

        Empty with three sizes, or if the minimum is not among the runs.
        """
        free = len(self.logs) - 3
        if not free or np.isnan(parabola_minimum(self.logs, self.losses)[0][0]):
            return np.zeros(0)
        return (self.losses - self.fitted()) * np.sqrt(len(self.logs) / free)


def _parabolas(runs: pd.DataFrame, variant: str, notes: list[str]) -> list[_Parabola]:
    found = []
    for budget, group in runs.groupby("budget"):
        flops = float(budget)  # type: ignore[arg-type]
        losses = group.groupby("parameters")["loss"].mean()
        sizes = num_levels(losses.index.to_numpy(np.float64))
        if sizes < 3:
            notes.append(
                f"{_called(variant)}, {flops:.3g} FLOPs: no minimum, because a parabola "
                f"needs three sizes and there are {sizes}."
            )
            continue
        logs = np.log(losses.index.to_numpy(np.float64))
        found.append(_Parabola(flops, logs, losses.to_numpy(np.float64), len(group)))
    return found


def _minimum(
    parabola: _Parabola,
    variant: str,
    residuals: Array,
    bootstrap: int,
    rng: np.random.Generator,
) -> tuple[dict[str, object], Array]:
    """The minima, and the losses there, of the fit (row 0) and of each resample."""
    losses = parabola.losses[None]
    if len(residuals):
        drawn = rng.choice(residuals, (bootstrap, len(parabola.logs)))
        losses = np.concatenate([losses, parabola.fitted() + drawn])
    at, lowest = parabola_minimum(parabola.logs, losses)
    inside = bool(np.isfinite(at[0]))
    low, high = _interval(lowest[1:]) if inside else (np.nan, np.nan)
    row: dict[str, object] = {
        "variant": variant,
        "budget": parabola.budget,
        "parameters": float(np.exp(at[0])),
        "tokens": parabola.budget / (6 * float(np.exp(at[0]))),
        "loss": float(lowest[0]),
        "loss_low": low,
        "loss_high": high,
        "runs": parabola.runs,
        "inside": inside,
    }
    return row, lowest


def parabola_minimum(x: Array, y: Array) -> tuple[Array, Array]:
    """The minima of least-squares parabolas `y = a + b x + c x^2`.

    Args:
      x: at least three different, `[points]`.
      y: `[fits, points]`.

    Returns:
      x and y of the minima, `[fits]` float64 each; NaN where the parabola opens downwards, or
      the minimum is outside the range of x.
    """
    centre, scale = x.mean(), float(np.ptp(x)) / 2
    unit = (x - centre) / scale
    c, b, a = np.polyfit(unit, np.atleast_2d(y).T, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        at = -b / (2 * c)
        inside = (c > 0) & (at >= unit.min()) & (at <= unit.max())
        lowest = a + b * at / 2
    return np.where(inside, centre + scale * at, np.nan), np.where(inside, lowest, np.nan)


def _fit_curve(budgets: Array, losses: Array) -> LossCurve:
    """Fits `L*(C)` to each row of losses `[fits, budgets]`, where NaN means no minimum."""
    logs = np.log(budgets)
    centre = logs.mean()
    weights = np.isfinite(losses).astype(np.float64)
    known = np.where(weights > 0, losses, 1.0)
    lowest = np.where(weights > 0, losses, np.inf).min(1)
    floors = FLOORS if len(budgets) >= BUDGETS_FOR_A_FLOOR else FLOORS[:1]
    best = np.full(len(losses), np.inf)
    chosen = np.full((3, len(losses)), np.nan)
    for share in floors:
        floor = share * np.where(np.isfinite(lowest), lowest, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            above = np.log(np.where(weights > 0, known - floor[:, None], 1.0))
        # The weights turn errors of the loss into errors of log loss.
        relative = (weights * (known - floor[:, None]) / known) ** 2
        intercept, slope = _line(logs - centre, above, relative)
        predicted = np.exp(intercept[:, None] + slope[:, None] * (logs - centre))
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = np.log((floor[:, None] + predicted) / known)
        squares = (weights * errors**2).sum(1)
        # Rows with fewer budgets than a floor needs keep the straight line.
        allowed = (weights.sum(1) >= BUDGETS_FOR_A_FLOOR) | (share == 0)
        better = allowed & (weights.sum(1) >= 2) & (squares < best)
        best = np.where(better, squares, best)
        chosen = np.where(better, np.stack([floor, intercept, slope]), chosen)
    floor, intercept, slope = chosen
    return LossCurve(floor, intercept - slope * centre, slope)


def _line(x: Array, y: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted least-squares lines of each row: intercepts and slopes `[fits]`."""
    total = weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle_x, middle_y = (weights * x).sum(1) / total, (weights * y).sum(1) / total
        apart = x - middle_x[:, None]
        slope = (weights * apart * (y - middle_y[:, None])).sum(1) / (weights * apart**2).sum(1)
    return middle_y - slope * middle_x, slope


def _compare(
    variant: str, baseline: str, curves: Mapping[str, LossCurve], shared: list[float]
) -> list[dict[str, object]]:
    """Makes rows of the table: at the geometric mean of the shared budgets, then at each."""
    middle = float(np.exp(np.mean(np.log(shared))))
    points = np.array([middle, *(b for b in shared if not np.isclose(b, middle, rtol=1e-6))])
    ours, theirs = curves[variant].loss(points), curves[baseline].loss(points)
    rows = min(len(ours), len(theirs))
    alone = LossCurve(*(part[:rows] for part in dataclasses.astuple(curves[baseline])))
    multipliers = alone.flops(ours[:rows]) / points
    found = []
    for i, flops in enumerate(points):
        low, high = _interval(multipliers[1:, i])
        found.append(
            {
                "variant": variant,
                "baseline": baseline,
                "flops": float(flops),
                "multiplier": float(multipliers[0, i]),
                "low": low,
                "high": high,
                "loss": float(ours[0, i]),
                "baseline_loss": float(theirs[0, i]),
                "budgets": len(shared),
                "headline": i == 0,
            }
        )
    return found


def _interval(samples: Array) -> tuple[float, float]:
    """The 95% percentile interval; NaN if more than half of the samples are NaN."""
    usable = samples[~np.isnan(samples)]
    if not len(usable) or 2 * len(usable) < len(samples):
        return np.nan, np.nan
    # Not interpolated, because samples may be infinite.
    low, high = np.percentile(usable, INTERVAL, method="nearest")
    return float(low), float(high)
