"""Bootstrap resamples, as counts of each row, and runs that repeat others."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from t5x_like.scaling.fitting.diagnostics import Warnings, warning

Floats = NDArray[np.float64]


def settings(frame: pd.DataFrame) -> NDArray[np.intp]:
    """Numbers the settings of N and D: rows of equal N and D, to nine digits, are repeats of one.

    Repeats share whatever the law gets wrong at their setting, so that resamples draw them
    together: a table that is given twice has the intervals of the table.
    """
    pairs = zip(frame["parameters"], frame["tokens"], strict=True)
    return _numbered([f"{n:.9g} {d:.9g}" for n, d in pairs])


def of_repeats(frame: pd.DataFrame) -> Warnings:
    """Warns of rows that have another's N, D and loss, which are one run given twice."""
    setting = settings(frame)
    keys = [f"{each} {loss!r}" for each, loss in zip(setting, frame["loss"], strict=True)]
    copies = len(keys) - len(set(keys))
    if not copies:
        return []
    return [
        warning(
            "repeated_rows",
            f"{copies} of {len(frame)} rows have the N, D and loss of another. Each row weighs in "
            f"the fit, and intervals are those of the {len(np.unique(setting))} different "
            "settings of N and D. Leave out the copies if they are one run.",
        )
    ]


def counts_of_runs(
    names: Sequence[str], setting: NDArray[np.intp], resamples: int, seed: int
) -> tuple[Floats, int]:
    """Resamples runs with replacement: how often each row counts in each resample.

    Rows of one name are checkpoints of one run, rows of one setting repeat a run: both are
    correlated, and are drawn together.

    Returns:
      (R, n) counts, and how many groups of rows there are to draw.
    """
    run_of_row = _numbered(names)
    while True:  # joins the runs that share a setting, until none does
        lowest = np.full(setting.max() + 1, len(names))
        np.minimum.at(lowest, setting, run_of_row)
        of_run = np.arange(run_of_row.max() + 1)
        np.minimum.at(of_run, run_of_row, lowest[setting])
        if (of_run[run_of_row] == run_of_row).all():
            break
        run_of_row = of_run[run_of_row]
    return _drawn(run_of_row, np.random.default_rng(seed), resamples)


def counts_within_groups(
    groups: NDArray[np.intp], setting: NDArray[np.intp], resamples: int, seed: int
) -> Floats:
    """Resamples settings within each group, as many as it has: counts (R, n) of the rows."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((resamples, len(groups)))
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        # In the order of their rows.
        _, first, place = np.unique(setting[rows], return_index=True, return_inverse=True)
        counts[:, rows], _ = _drawn(first[place], rng, resamples)
    return counts


def _drawn(
    of_row: NDArray[np.intp], rng: np.random.Generator, resamples: int
) -> tuple[Floats, int]:
    """Draws as many groups of rows as there are, numbered in any way: counts (R, n)."""
    found, place = np.unique(of_row, return_inverse=True)
    drawn = rng.multinomial(len(found), np.full(len(found), 1 / len(found)), size=resamples)
    return drawn[:, place].astype(np.float64), len(found)


def _numbered(keys: Sequence[str]) -> NDArray[np.intp]:
    return np.unique(np.asarray(keys, dtype=object).astype(str), return_inverse=True)[1]
