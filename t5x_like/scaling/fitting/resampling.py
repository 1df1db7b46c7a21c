"""Bootstrap resamples, as counts of each row."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def counts_of_runs(names: Sequence[str], resamples: int, seed: int) -> tuple[Floats, int]:
    """Resamples runs with replacement: how often each row counts in each resample.

    Rows of one name are checkpoints of one run, are correlated, and are drawn together.

    Returns:
      (R, n) counts, and how many runs there are.
    """
    _, run_of_row = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)
    runs = int(run_of_row.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), size=resamples)
    return drawn[:, run_of_row].astype(np.float64), runs


def counts_within_groups(groups: NDArray[np.intp], resamples: int, seed: int) -> Floats:
    """Resamples rows within each group, as many as it has: counts (R, n)."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((resamples, len(groups)))
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        share = np.full(len(rows), 1 / len(rows))
        counts[:, rows] = rng.multinomial(len(rows), share, size=resamples)
    return counts
