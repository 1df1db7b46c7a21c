"""Approach 2: a parabola in log N for each budget, and a power law through the minima.

Hoffmann et al. 2022, section 3.2.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from t5x_like.errors import UserError
from t5x_like.scaling.fitting import diagnostics, grids
from t5x_like.scaling.fitting.forms import even
from t5x_like.scaling.fitting.identifiability import num_levels
from t5x_like.scaling.fitting.options import Options
from t5x_like.scaling.fitting.power_law import fit_allocation, power_law
from t5x_like.scaling.fitting.resampling import counts_within_groups, of_repeats, settings
from t5x_like.scaling.fitting.result import Fit, interval
from t5x_like.scaling.laws import AllocationLaw
from t5x_like.scaling.runs_table import RunsTable

Floats = NDArray[np.float64]

METHOD = "approach2"
SMALLEST_GROUP = 3
# The window depends on the minimum and vice versa; usually 3 iterations converge.
WINDOW_ROUNDS = 10


@dataclass(frozen=True)
class _Parabolas:
    """The minima of one budget's parabola in log10 N for all problems, (S,) each.

    NaN where there is no minimum: the parabola opens downwards, or there are fewer than 3 sizes.
    """

    log_n: Floats
    loss: Floats
    curvature: Floats


def fit_isoflop(table: RunsTable, options: Options) -> Fit:
    """Fits N = coefficient · C^exponent to the minima of the budgets.

    Minima outside the range of sizes are left out, in each resample too. The bootstrap resamples
    runs within each budget.

    Raises:
      UserError: fewer than two budgets have a minimum among their runs.
    """
    named = bool(options.budgets) or "budget" in table.frame
    table, groups, budgets = grids.grouped(table, options.budgets, SMALLEST_GROUP)
    if options.window is not None:
        table, groups = _windowed(table, groups, len(budgets), options)
    frame = table.frame
    log_n, loss = np.log10(frame["parameters"].to_numpy()), frame["loss"].to_numpy()
    rows = [np.flatnonzero(groups == group) for group in range(len(budgets))]

    weights = _weights(frame, options)
    found = [_parabolas(log_n[part], loss[part], weights[None, part]) for part in rows]
    minima = pd.DataFrame(
        {
            "budget": budgets,
            "runs": [len(part) for part in rows],
            "parameters": [10 ** one.log_n[0] for one in found],
            "tokens": [
                budget / 6 / 10 ** one.log_n[0] for budget, one in zip(budgets, found, strict=True)
            ],
            "loss": [one.loss[0] for one in found],
            "curvature": [one.curvature[0] for one in found],
            "smallest": [10 ** log_n[part].min() for part in rows],
            "largest": [10 ** log_n[part].max() for part in rows],
            "inside": [_inside(log_n[part], one)[0] for part, one in zip(rows, found, strict=True)],
        }
    )
    minima["used"] = minima["inside"]
    if num_levels(minima.loc[minima["used"], "budget"].to_numpy()) < 2:
        raise UserError(
            f"{METHOD} needs two budgets whose best size lies among the sizes tried; of "
            f"{len(minima)} budgets {minima['used'].sum()} have one. Add smaller or larger models, "
            "or fit the same runs with approach3."
        )
    used = minima[minima["used"]]
    coefficient, exponent = power_law(
        np.log(used["budget"].to_numpy())[None], np.log(used["parameters"].to_numpy())[None]
    )
    law = AllocationLaw(
        coefficient=float(coefficient[0]),
        exponent=float(exponent[0]),
        name=METHOD,
        source=options.source,
        parameters_kind=table.parameters_kind,
    )
    samples: dict[str, Floats] = {}
    setting = settings(frame)
    if options.bootstrap:
        counts = counts_within_groups(groups, setting, options.bootstrap, options.seed)
        resampled = [
            _parabolas(log_n[part], loss[part], counts[:, part] * weights[part]) for part in rows
        ]
        samples = _samples(minima, budgets, rows, log_n, resampled)
    residuals = _residuals(frame, groups, minima)
    squares = float((residuals["residual"] ** 2).sum())
    warnings = [
        *diagnostics.few(len(np.unique(setting)), 3 * len(budgets), "runs"),
        *diagnostics.of_table(table),
        *of_repeats(frame),
        *_few_minima(int(minima["used"].sum())),
        *([] if named else grids.of_gaps(table.frame, groups)),
        *grids.of_minima(minima),
        *grids.of_centres(minima, frame, groups),
        *grids.of_widths(minima, frame, groups),
    ]
    return fit_allocation(
        METHOD, law, table, options, samples, warnings, residuals, squares, minima=minima,
        resampled=len(np.unique(setting)), influence=_influence(minima, law.exponent),
    )  # fmt: skip


def _weights(frame: pd.DataFrame, options: Options) -> Floats:
    """How much each run weighs in its parabola: 1, or 1 / standard error²."""
    if not options.weigh:
        return np.ones(len(frame))
    return even(1 / frame["loss_standard_error"].to_numpy()) ** 2


def _few_minima(count: int) -> diagnostics.Warnings:
    """Warns of a law through two points."""
    if count > 2:
        return []
    return [
        diagnostics.warning(
            "two_minima",
            "two minima give an exponent that nothing checks: the law passes through both, "
            "whatever their noise. Add a third budget.",
        )
    ]


def _parabolas(log_n: Floats, loss: Floats, counts: Floats) -> _Parabolas:
    """The minima of weighted parabolas, by QR of powers of the centred log10 N."""
    x = log_n - log_n.mean()
    powers = np.stack([np.ones_like(x), x, x**2], axis=1)
    roots = np.sqrt(counts)
    q, r = np.linalg.qr(powers * roots[..., None])
    diagonal = np.abs(np.einsum("spp->sp", r))
    # With runs of only (or nearly) two sizes a parabola is undetermined.
    distinct = diagonal.min(axis=1) > 1e-4 * diagonal.max(axis=1)
    found = np.full((len(counts), 3), np.nan)
    wanted = (q.swapaxes(1, 2) @ (roots * loss)[..., None])[distinct]
    found[distinct] = np.linalg.solve(r[distinct], wanted)[..., 0]
    level, slope, curvature = found.T
    with np.errstate(invalid="ignore", divide="ignore"):
        at = np.where(curvature > 0, -slope / (2 * curvature), np.nan)
    return _Parabolas(at + log_n.mean(), level + slope * at / 2, curvature)


def _inside(log_n: Floats, found: _Parabolas) -> NDArray[np.bool_]:
    return (found.log_n > log_n.min()) & (found.log_n < log_n.max())


def _samples(
    minima: pd.DataFrame,
    budgets: Floats,
    rows: list[NDArray[np.intp]],
    log_n: Floats,
    resampled: list[_Parabolas],
) -> dict[str, Floats]:
    """Computes the bootstrap's laws; writes the intervals of the minima into `minima`."""
    logs = []
    for place, (part, found) in enumerate(zip(rows, resampled, strict=True)):
        inside = _inside(log_n[part], found)
        log_parameters = np.where(inside, found.log_n, np.nan) * np.log(10)
        logs.append(log_parameters if minima["used"][place] else np.full_like(found.loss, np.nan))
        n_low, n_high = interval(np.exp(log_parameters))
        loss_low, loss_high = interval(np.where(inside, found.loss, np.nan))
        minima.loc[place, ["parameters_low", "parameters_high"]] = n_low, n_high
        scale = budgets[place] / 6
        minima.loc[place, ["tokens_low", "tokens_high"]] = scale / n_high, scale / n_low
        minima.loc[place, ["loss_low", "loss_high"]] = loss_low, loss_high
        minima.loc[place, "resamples_inside"] = inside.mean()
    budget = np.broadcast_to(np.log(budgets), (len(logs[0]), len(logs)))
    coefficient, exponent = power_law(budget, np.stack(logs, axis=1))
    return {
        "coefficient": coefficient,
        "exponent": exponent,
        "a": exponent,
        "b": 1 - exponent,
    }


def _windowed(
    table: RunsTable, groups: NDArray[np.intp], num_groups: int, options: Options
) -> tuple[RunsTable, NDArray[np.intp]]:
    """The rows within the window of their budget's minimum, iterated to convergence.

    A budget keeps all rows if its minimum is not interior, or if fewer than three sizes would
    remain.
    """
    frame, window, weights = table.frame, options.window, _weights(table.frame, options)
    log_n, loss = np.log10(frame["parameters"].to_numpy()), frame["loss"].to_numpy()
    kept = np.ones(len(frame), dtype=bool)
    for group in range(num_groups):
        part = np.flatnonzero(groups == group)
        near = np.ones(len(part), dtype=bool)
        for _ in range(WINDOW_ROUNDS):
            found = _parabolas(log_n[part], loss[part], (near * weights[part])[None])
            if not _inside(log_n[part], found)[0]:
                near[:] = True
                break
            closer = np.abs(log_n[part] - found.log_n[0]) <= window
            if len(np.unique(log_n[part][closer])) < SMALLEST_GROUP:
                near[:] = True
                break
            if (closer == near).all():
                break
            near = closer
        kept[part] = near
    rows = [int(row) for row in frame.index[~kept]]
    reason = f"more than {window:g} decades from its budget's minimum (--window)"
    return table.without(rows, reason), groups[kept]


def _residuals(frame: pd.DataFrame, groups: NDArray[np.intp], minima: pd.DataFrame) -> pd.DataFrame:
    """Residuals of the runs from their budget's parabola; NaN where it has no minimum."""
    of_group = minima.iloc[groups]
    away = np.log10(frame["parameters"].to_numpy() / of_group["parameters"].to_numpy())
    predicted = of_group["loss"].to_numpy() + of_group["curvature"].to_numpy() * away**2
    columns = ["name", "parameters", "tokens", "flops", "loss"]
    return pd.DataFrame(
        {
            "row": frame.index.to_numpy(),
            **{name: frame[name].to_numpy() for name in columns},
            "budget": of_group["budget"].to_numpy(),
            "predicted": predicted,
            "residual": np.log(frame["loss"].to_numpy()) - np.log(predicted),
        }
    )


def _influence(minima: pd.DataFrame, exponent: float) -> pd.DataFrame:
    """The change of the exponent without each of the minima."""
    used = minima[minima["used"]]
    if len(used) < 3:
        return pd.DataFrame()
    log_c, log_n = np.log(used["budget"].to_numpy()), np.log(used["parameters"].to_numpy())
    without = np.where(np.eye(len(used), dtype=bool), np.nan, log_n)
    _, exponents = power_law(np.broadcast_to(log_c, without.shape), without)
    return pd.DataFrame(
        {
            "budget": used["budget"].to_numpy(),
            "a_without": exponents,
            "change": exponents - exponent,
        }
    )
