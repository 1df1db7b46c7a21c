"""The compute multiplier: what a variant of a model is worth in the baseline's compute.

For each variant v and each IsoFLOP budget C, a parabola of loss in log N has its lowest point at
`L*_v(C)`. Over the budgets, `L*_v(C) = E_v + k_v C^-g_v` is fitted by least squares on log loss
(E_v = 0 with fewer than four budgets, which cannot tell a floor from a slope). The multiplier is

    m_v(C) = L*_base^-1(L*_v(C)) / C,

the compute that the baseline would need for the variant's loss, in units of the variant's. Above 1
the variant saves compute. Its interval is the percentile interval of a bootstrap that draws runs
anew within each variant and budget, and goes the whole way again.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from t5x_like.errors import UserError

# With fewer budgets the floor E of the loss cannot be told from the slope.
BUDGETS_FOR_A_FLOOR = 4
# A parabola through three sizes leaves nothing over to draw anew.
SIZES_FOR_AN_INTERVAL = 4
# Floors tried, as shares of the lowest loss.
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
        """Nats at the optimum of `flops` `[points]` (or one number): `[1 + bootstrap, points]`."""
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
    """Variants against a baseline.

    Attributes:
      baseline: the variant that the others are measured in.
      table: a row for each other variant and compute: `variant`, `baseline`, `flops`,
        `multiplier`, `low`, `high` (95%), `loss`, `baseline_loss` (nats), `budgets` (shared),
        `headline` (True at the geometric mean of the shared budgets).
      minima: a row for each variant and budget: `variant`, `budget`, `parameters`, `tokens`,
        `loss`, `loss_low`, `loss_high`, `runs`, `inside`.
      curves: `L*(C)` of each variant that has one.
      notes: in words, what could not be computed and why.
    """

    baseline: str
    table: pd.DataFrame
    minima: pd.DataFrame
    curves: Mapping[str, LossCurve]
    notes: tuple[str, ...]


def compute_multipliers(
    runs: pd.DataFrame, baseline: str, *, bootstrap: int = 1000, seed: int = 0
) -> Multipliers:
    """Measures every variant of an IsoFLOP sweep in the baseline's compute.

    Args:
      runs: finished runs with `variant`, `budget` (FLOPs), `parameters` and `loss` (nats).
      baseline: a value of `variant`.
      bootstrap: times that the runs are drawn anew.
      seed: of the draws.

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
    for variant in variants:
        found = _variant_minima(runs[runs["variant"] == variant], variant, bootstrap, rng, notes)
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
        if not all(row["interval"] for row, _ in used):
            losses = losses[:1]
        curves[variant] = _fit_curve(np.array(budgets[variant]), losses)
    for row in minima:
        row.pop("interval")
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


def _variant_minima(
    runs: pd.DataFrame, variant: str, bootstrap: int, rng: np.random.Generator, notes: list[str]
) -> list[tuple[dict[str, object], Array]]:
    """The lowest point of each budget: its row, and its loss `[1 + bootstrap]`."""
    found = []
    for budget, group in runs.groupby("budget"):
        logs = np.log(group["parameters"].to_numpy(np.float64))
        losses = group["loss"].to_numpy(np.float64)
        sizes = len(np.unique(logs))
        if sizes < 3:
            notes.append(
                f"{_called(variant)}, {float(budget):.3g} FLOPs: no minimum, because a parabola "  # type: ignore[arg-type]
                f"needs three sizes and there are {sizes}."
            )
            continue
        enough = sizes >= SIZES_FOR_AN_INTERVAL
        if not enough:
            notes.append(
                f"{_called(variant)}, {float(budget):.3g} FLOPs: no interval, because three sizes "  # type: ignore[arg-type]
                "leave nothing over to draw anew."
            )
        draws = rng.multinomial(len(logs), np.full(len(logs), 1 / len(logs)), bootstrap)
        weights = np.concatenate([np.ones((1, len(logs))), draws])
        at, lowest = parabola_minimum(logs, losses, weights)
        inside = bool(np.isfinite(at[0]))
        low, high = _interval(lowest[1:]) if enough and inside else (np.nan, np.nan)
        row: dict[str, object] = {
            "variant": variant,
            "budget": float(budget),  # type: ignore[arg-type]
            "parameters": float(np.exp(at[0])),
            "tokens": float(budget) / (6 * float(np.exp(at[0]))),  # type: ignore[arg-type]
            "loss": float(lowest[0]),
            "loss_low": low,
            "loss_high": high,
            "runs": len(logs),
            "inside": inside,
            "interval": enough,
        }
        found.append((row, lowest))
    return found


def parabola_minimum(x: Array, y: Array, weights: Array) -> tuple[Array, Array]:
    """Where weighted parabolas `y = a + b x + c x^2` are lowest.

    Args:
      x: `[points]`.
      y: `[points]`.
      weights: `[fits, points]`, not negative.

    Returns:
      x and y of the lowest points, `[fits]` float64 each; NaN where the weights leave fewer than
      three different x, the parabola opens downwards, or the point is outside of all x.
    """
    centre, scale, level = x.mean(), max(float(np.ptp(x)) / 2, 1e-300), y.mean()
    unit, values = (x - centre) / scale, y - level
    moments = [weights @ unit**power for power in range(5)]
    matrix = np.stack([np.stack(moments[i : i + 3], axis=-1) for i in range(3)], axis=-2)
    right = np.stack([weights @ (unit**power * values) for power in range(3)], axis=-1)
    _, which = np.unique(x, return_inverse=True)
    present = np.stack([weights[:, which == i].sum(1) > 0 for i in range(which.max() + 1)])
    solvable = present.sum(0) >= 3
    solution = np.full((len(weights), 3), np.nan)
    solution[solvable] = np.linalg.solve(matrix[solvable], right[solvable][..., None])[..., 0]
    a, b, c = solution.T
    with np.errstate(invalid="ignore", divide="ignore"):
        at = -b / (2 * c)
        inside = (c > 0) & (at >= unit.min()) & (at <= unit.max())
        lowest = a + b * at / 2
    return (
        np.where(inside, centre + scale * at, np.nan),
        np.where(inside, level + lowest, np.nan),
    )


def _fit_curve(budgets: Array, losses: Array) -> LossCurve:
    """`L*(C)` of each row of losses `[fits, budgets]`; NaN is a budget without a minimum."""
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
        # Weighted so that the squares are those of errors of log loss.
        relative = (weights * (known - floor[:, None]) / known) ** 2
        intercept, slope = _line(logs - centre, above, relative)
        predicted = np.exp(intercept[:, None] + slope[:, None] * (logs - centre))
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = np.log((floor[:, None] + predicted) / known)
        squares = (weights * errors**2).sum(1)
        # Where fewer budgets are left than a floor needs, the straight line stays.
        allowed = (weights.sum(1) >= BUDGETS_FOR_A_FLOOR) | (share == 0)
        better = allowed & (weights.sum(1) >= 2) & (squares < best)
        best = np.where(better, squares, best)
        chosen = np.where(better, np.stack([floor, intercept, slope]), chosen)
    floor, intercept, slope = chosen
    return LossCurve(floor, intercept - slope * centre, slope)


def _line(x: Array, y: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted least squares of each row: intercepts and slopes `[fits]`."""
    total = weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle_x, middle_y = (weights * x).sum(1) / total, (weights * y).sum(1) / total
        apart = x - middle_x[:, None]
        slope = (weights * apart * (y - middle_y[:, None])).sum(1) / (weights * apart**2).sum(1)
    return middle_y - slope * middle_x, slope


def _compare(
    variant: str, baseline: str, curves: Mapping[str, LossCurve], shared: list[float]
) -> list[dict[str, object]]:
    """Rows of the table: at the geometric mean of the shared budgets, then at each."""
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
    """The 95% percentile interval; NaN where less than half of the samples are numbers."""
    usable = samples[~np.isnan(samples)]
    if not len(usable) or 2 * len(usable) < len(samples):
        return np.nan, np.nan
    # Not interpolated: between a number and infinity there is no number.
    low, high = np.percentile(usable, INTERVAL, method="nearest")
    return float(low), float(high)
