"""The report's tables, as CSV and Parquet."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from t5x_like.scaling.fitting import Fit
from t5x_like.scaling.report import series
from t5x_like.scaling.report.analysis import Analysis

Tables = Mapping[str, pd.DataFrame]
NAMES = (
    "runs",
    "minima",
    "laws",
    "variants",
    "curves",
    "shapes",
    "rates",
    "sizes",
    "efficiency",
    "downstream",
    "comparison",
)
FORMATS = ("csv", "parquet")
FILES = tuple(f"{name}.{extension}" for name in NAMES for extension in FORMATS)
"""The names of all tables that a report may have."""

LAW_COLUMNS = (
    *("variant", "method", "quantity", "flops", "value", "low", "high"),
    *("objective", "rows_used", "rows_left_out", "starts", "starts_agreeing"),
)
MULTIPLIER_COLUMNS = (
    *("variant", "baseline", "flops", "multiplier", "low", "high"),
    *("loss", "baseline_loss", "budgets", "headline"),
)


def all_tables(analysis: Analysis) -> Tables:
    """Makes the tables by name; one without rows keeps its columns.

    Returns:
      `runs` (a row a cell), `minima` (a row a variant and budget, of approach 2), `laws` (a row
      a variant, method and quantity: coefficients, and N, D and loss at the budgets of the fit),
      `variants` (compute multipliers), `curves` (a row a record of training), and `shapes`,
      `rates`, `sizes`, `efficiency` (a row a run and loss that it reached), `downstream` (a row a
      value that was measured on a task) and `comparison` (a row a metric and setting, over seeds)
      where there are any.
    """
    minima = [
        found.minima.assign(variant=variant)
        for (variant, _), found in analysis.fits.items()
        if found.minima is not None
    ]
    laws = [
        {"variant": variant, "method": method, **row}
        for (variant, method), found in analysis.fits.items()
        for row in _law_rows(found)
    ]
    compared = analysis.multipliers
    variants = pd.DataFrame() if compared is None else compared.table
    tables = {
        "runs": _flat(analysis.sweep.cells),
        "minima": _columned(
            pd.concat(minima) if minima else pd.DataFrame(), ("variant", *series.MINIMA)
        ),
        "laws": _columned(pd.DataFrame(laws), LAW_COLUMNS),
        "variants": _columned(variants, MULTIPLIER_COLUMNS),
        "curves": analysis.sweep.curves,
    }
    studies = {
        "shapes": analysis.shapes,
        "rates": analysis.rates,
        "sizes": analysis.sizes,
        "efficiency": analysis.efficiency,
        "downstream": analysis.downstream,
        "comparison": analysis.comparison,
    }
    return {**tables, **{name: rows for name, rows in studies.items() if not rows.empty}}


def _law_rows(found: Fit) -> list[dict[str, Any]]:
    """The coefficients with intervals, then the predictions for each budget."""
    shared = {
        "objective": found.objective,
        "rows_used": found.rows_used,
        "rows_left_out": len(found.rows_left_out),
        "starts": found.starts,
        "starts_agreeing": found.starts_agreeing,
    }
    rows = []
    intervals = found.intervals
    for name, value in found.parameters.items():
        low, high = intervals.get(name, (None, None))
        rows.append({"quantity": name, "value": value, "low": low, "high": high, **shared})
    for flops in found.at_flops:
        best = found.optimum(flops)
        for name in ("parameters", "tokens", "loss"):
            if best[name] is None:
                continue
            low, high = best[f"{name}_interval"] or (None, None)
            bounds = {"value": best[name], "low": low, "high": high}
            rows.append({"quantity": f"optimal_{name}", "flops": flops, **bounds, **shared})
    return rows


def _flat(cells: pd.DataFrame) -> pd.DataFrame:
    """Converts nested values, which CSV cannot hold, to JSON, such as where a run branched off."""
    nested = [
        name for name in cells if cells[name].map(lambda value: isinstance(value, dict)).any()
    ]
    written = {name: cells[name].map(lambda v: json.dumps(v) if v else "") for name in nested}
    return cells.assign(**written)


def _columned(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """The frame with these columns first, whether it has rows or not."""
    rest = [name for name in frame.columns if name not in columns]
    return frame.reindex(columns=[*columns, *rest])


def write_tables(tables: Tables, folder: Path) -> list[Path]:
    """Writes NAME.csv and NAME.parquet; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, frame in tables.items():
        plain = frame.reset_index(drop=True)
        csv, parquet = folder / f"{name}.csv", folder / f"{name}.parquet"
        plain.to_csv(csv, index=False)
        plain.to_parquet(parquet, index=False)
        written += [csv, parquet]
    return written
