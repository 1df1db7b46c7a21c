"""Draws the residuals of a fit."""

import os
from pathlib import Path

import numpy as np

from t5x_like.errors import UserError
from t5x_like.scaling.fitting.result import Fit

SUFFIXES = (".png", ".svg", ".pdf")
LABELS = {"parameters": "N", "tokens": "D", "flops": "C (FLOPs)"}


def save_residuals(fit: Fit, path: str | os.PathLike[str]) -> None:
    """Plots log loss - log predicted against N, D and C, in percent; a good fit shows no trend.

    For approach 1, plots log N - log of the predicted optimal N.

    Raises:
      UserError: the file cannot be written.
    """
    import matplotlib.figure

    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise UserError(f"--plot={target}: a figure is one of {', '.join(SUFFIXES)}.")
    figure = matplotlib.figure.Figure(figsize=(9, 2.8), layout="constrained")
    axes = figure.subplots(1, len(LABELS), sharey=True)
    percent = 100 * fit.residuals["residual"].to_numpy()
    for place, (column, label) in zip(axes, LABELS.items(), strict=True):
        place.axhline(0, color="black", linewidth=0.8)
        place.plot(
            fit.residuals[column], percent, "o", color="#0072b2", markersize=3.5, alpha=0.7,
            markeredgewidth=0,
        )  # fmt: skip
        place.set_xscale("log")
        place.set_xlabel(label)
    what = "log N" if fit.envelope is not None else "log loss"
    axes[0].set_ylabel(f"{what} − log predicted (%)")
    spread = float(np.sqrt(np.nanmean(percent**2)))
    axes[0].set_title(f"{fit.method}, root mean square {spread:.2g}%", loc="left", fontsize=9)
    try:
        figure.savefig(target, dpi=200)
    except OSError as error:
        raise UserError(f"--plot={target} cannot be written: {error.strerror}.") from error
