"""IsoFLOP grids: groups runs by budget, and warns of unreliable minima."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from t5x_like.errors import UserError
from t5x_like.scaling.fitting.diagnostics import Warnings, warning
from t5x_like.scaling.fitting.identifiability import num_levels
from t5x_like.scaling.runs_table import RunsTable

Floats = NDArray[np.float64]

# Runs whose C is further from every budget belong to none.
NEAR_BUDGET = 1.25
WIDEST = 0.7
# Drift of a grid's centre from its minimum, in decades of N per decade of C.
DRIFT = 0.05


def grouped(
    table: RunsTable, budgets: tuple[float, ...], smallest: int
) -> tuple[RunsTable, NDArray[np.intp], Floats]:
    """Assigns the runs of an IsoFLOP grid to budgets.

    Budgets are those given, otherwise the table's (`budget`), otherwise groups of runs whose C are
    within 25% of the smallest of them. Runs of a budget with fewer than `smallest` sizes are left
    out.

    Returns:
      the table, (n,) groups, and (G,) budgets in FLOPs, ascending.

    Raises:
      UserError: fewer than two budgets remain.
    """
    frame = table.frame
    if budgets:
        levels = np.unique(np.asarray(budgets, dtype=np.float64))
        away = np.abs(np.log(frame["flops"].to_numpy()[:, None]) - np.log(levels))
        of_row = pd.Series(levels[away.argmin(axis=1)], index=frame.index)
        far = away.min(axis=1) > np.log(NEAR_BUDGET)
        reason = f"C is not within {NEAR_BUDGET - 1:.0%} of a budget (--budgets)"
        table = table.without([int(row) for row in frame.index[far]], reason)
    elif "budget" in frame and frame["budget"].notna().any():
        of_row = frame["budget"]
        lacking = [int(row) for row in frame.index[of_row.isna()]]
        table = table.without(lacking, "it is of no budget")
    else:
        of_row = _found(frame["flops"])
    of_row = of_row.loc[table.frame.index]
    sizes = table.frame["parameters"].groupby(of_row).agg(lambda n: num_levels(n.to_numpy()))
    for budget in sizes.index[sizes < smallest]:
        rows = [int(row) for row in of_row.index[of_row == budget]]
        reason = (
            f"its budget of {budget:.3g} FLOPs has {sizes[budget]} sizes; "
            f"a parabola needs {smallest}"
        )
        table = table.without(rows, reason)
    of_row = of_row.loc[table.frame.index]
    found, groups = np.unique(of_row.to_numpy(dtype=np.float64), return_inverse=True)
    if len(found) < 2:
        raise UserError(
            f"approach2 needs two budgets of {smallest} sizes each, and {len(found)} have that. "
            "Name the budgets (--budgets 1e18,3e18), or fit the same runs with approach3."
        )
    return table, groups, found


def _found(flops: pd.Series) -> pd.Series:
    """Finds each run's budget: the geometric mean of the C of its group."""
    ordered = flops.sort_values()
    group, first, of_row = -1, 0.0, {}
    for row, value in ordered.items():
        if value > NEAR_BUDGET * first:
            group, first = group + 1, value
        of_row[row] = group
    groups = pd.Series(of_row).loc[flops.index]
    return np.exp(np.log(flops).groupby(groups).transform("mean"))


def of_gaps(frame: pd.DataFrame, groups: NDArray[np.intp]) -> Warnings:
    """Warns if budgets were found although C has no gaps between them."""
    flops = frame["flops"].to_numpy()
    lowest = [flops[groups == group].min() for group in range(groups.max() + 1)]
    highest = [flops[groups == group].max() for group in range(groups.max() + 1)]
    close = sum(
        low < NEAR_BUDGET * high for low, high in zip(lowest[1:], highest[:-1], strict=True)
    )
    if not close:
        return []
    return [
        warning(
            "budgets_run_together",
            f"C runs on from budget to budget in {close} of {len(lowest) - 1} places, so that the "
            f"{len(lowest)} budgets found are arbitrary. Name them (--budgets 1e18,3e18,...).",
        )
    ]


def of_minima(minima: pd.DataFrame) -> Warnings:
    """Warns of minima outside the range of sizes tried."""
    outside = minima[~minima["inside"]]
    if not len(outside):
        return []
    some = "; ".join(
        f"{row['budget']:.3g} FLOPs: "
        + (
            f"N = {row['parameters']:.3g} against {row['smallest']:.3g} to {row['largest']:.3g}"
            if np.isfinite(row["parameters"])
            else "the parabola has no minimum"
        )
        for _, row in outside.head(4).iterrows()
    )
    return [
        warning(
            "minimum_not_inside_grid",
            f"{len(outside)} of {len(minima)} IsoFLOP minima are not among the sizes tried and "
            f"are left out ({some}). Add sizes on the far side.",
        )
    ]


def of_centres(minima: pd.DataFrame, frame: pd.DataFrame, groups: NDArray[np.intp]) -> Warnings:
    """Warns of a grid whose centre drifts relative to the minimum from budget to budget.

    A parabola is only an approximation of the curve, so its minimum is biased towards or away from
    the grid's centre. A bias by the same factor at all budgets changes the coefficient; a growing
    one changes the exponent.
    """
    used = np.flatnonzero(minima["used"])
    if len(used) < 2:
        return []
    log_n = np.log10(frame["parameters"].to_numpy())
    offsets = np.array(
        [
            (log_n[groups == group].min() + log_n[groups == group].max()) / 2
            - np.log10(minima["parameters"].iloc[group])
            for group in used
        ]
    )
    log_c = np.log10(minima["budget"].to_numpy()[used])
    slope = float(np.polyfit(log_c, offsets, 1)[0])
    if abs(slope) <= DRIFT:
        return []
    return [
        warning(
            "grid_centre_drifts",
            f"the grid's centre moves by {slope:+.2f} decades of N against the minimum for each "
            f"decade of C (from {offsets[0]:+.2f} to {offsets[-1]:+.2f}): this biases the "
            "exponent, where a constant offset biases only the coefficient. Centre each budget's "
            "sizes on its minimum.",
        )
    ]


def of_widths(minima: pd.DataFrame, frame: pd.DataFrame, groups: NDArray[np.intp]) -> Warnings:
    """Warns of grids so wide that a parabola does not fit their curve."""
    of_group = minima["parameters"].to_numpy()[groups]
    inside = minima["used"].to_numpy()[groups]
    away = np.abs(np.log10(frame["parameters"].to_numpy() / of_group))
    # The tolerance admits sizes meant for the edge that rounding moved beyond it.
    wide = inside & (away > WIDEST * 1.01)
    if not wide.any():
        return []
    num_wide = len(np.unique(groups[wide]))
    return [
        warning(
            "grid_too_wide",
            f"in {num_wide} of {len(minima)} budgets sizes lie more than {WIDEST} decades from "
            f"the minimum, up to {away[wide].max():.2f}: the curve is no parabola there. "
            f"--window {WIDEST} leaves {wide.sum()} of {len(frame)} runs out.",
        )
    ]
