"""Correlations of numbers."""

from collections.abc import Sequence

import numpy as np

from tasks.metrics.arguments import Numbers, check_lengths, numbers


def pearson_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Pearson's linear correlation; 0 where targets or predictions are constant, NaN of NaN."""
    check_lengths(targets, predictions)
    both = [numbers("pearson_corrcoef", values) for values in (targets, predictions)]
    return {"pearson_corrcoef": _correlation(*both)}


def spearman_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Spearman's rank correlation; equal values share their mean rank. NaN of NaN."""
    check_lengths(targets, predictions)
    ranks = [_ranks(numbers("spearman_corrcoef", values)) for values in (targets, predictions)]
    return {"spearman_corrcoef": _correlation(*ranks)}


def _correlation(targets: Numbers, predictions: Numbers) -> float:
    if not (np.isfinite(targets).all() and np.isfinite(predictions).all()):
        return float("nan")
    if np.ptp(targets) == 0 or np.ptp(predictions) == 0:
        return 0.0
    return 100 * float(np.corrcoef(targets, predictions)[0, 1])


def _ranks(values: Numbers) -> Numbers:
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.where(np.isnan(values).any(), np.nan, ((last - counts + last - 1) / 2)[codes])
