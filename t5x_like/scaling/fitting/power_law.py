"""Fits power laws between budgets and sizes."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from t5x_like.scaling.fitting.diagnostics import of_lost
from t5x_like.scaling.fitting.options import Options
from t5x_like.scaling.fitting.resampling import settings
from t5x_like.scaling.fitting.result import Fit, correlation
from t5x_like.scaling.laws import AllocationLaw
from t5x_like.scaling.runs_table import RunsTable

Floats = NDArray[np.float64]


def power_law(log_flops: Floats, log_parameters: Floats) -> tuple[Floats, Floats]:
    """Fits N = coefficient · C^exponent by least squares of logarithms; (S,) each.

    Args:
      log_flops: (S, n).
      log_parameters: (S, n); NaN where there is none.

    Returns:
      NaN for a problem with fewer than two different budgets.
    """
    there = ~np.isnan(log_parameters)
    with np.errstate(invalid="ignore", divide="ignore"):
        count = there.sum(axis=1, keepdims=True)
        x_mean = np.where(there, log_flops, 0).sum(axis=1, keepdims=True) / count
        y_mean = np.where(there, log_parameters, 0).sum(axis=1, keepdims=True) / count
        x = np.where(there, log_flops - x_mean, 0)
        y = np.where(there, log_parameters - y_mean, 0)
        spread = (x**2).sum(axis=1)
        exponent = np.where(spread > 1e-12, (x * y).sum(axis=1) / spread, np.nan)
    return np.exp(y_mean[:, 0] - exponent * x_mean[:, 0]), exponent


def fit_allocation(
    method: str,
    law: AllocationLaw,
    table: RunsTable,
    options: Options,
    samples: dict[str, Floats],
    warnings: list[dict[str, str]],
    residuals: pd.DataFrame,
    objective: float,
    resampled: int,
    **found: Any,
) -> Fit:
    """Makes the result of approach 1 or 2, which are linear, so that one start suffices."""
    if samples:
        lost = int(np.isnan(samples["exponent"]).sum())
        warnings = [*warnings, *of_lost(lost, len(samples["exponent"]))]
    return Fit(
        method=method,
        law=law,
        parameters={
            "coefficient": law.coefficient,
            "exponent": law.exponent,
            "a": law.a,
            "b": law.b,
        },
        objective=objective,
        rows_used=len(table.frame),
        settings=len(np.unique(settings(table.frame))),
        rows_left_out=table.left_out,
        weighed=options.weigh,
        at_flops=options.at_flops,
        resampled=resampled if samples else 0,
        samples=samples,
        warnings=warnings,
        residuals=residuals,
        correlation=(
            correlation(samples, ("coefficient", "exponent")) if samples else pd.DataFrame()
        ),
        **found,
    )
