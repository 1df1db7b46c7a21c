"""Correlations of numbers."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.metrics.arguments import check_lengths


def pearson_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Pearson's linear correlation; 0 where targets or predictions are constant."""
    return {"pearson_corrcoef": _correlation(targets, predictions)}


def spearman_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Spearman's rank correlation; equal values share their mean rank."""
    check_lengths(targets, predictions)
    return {"spearman_corrcoef": _correlation(_ranks(targets), _ranks(predictions))}


def _correlation(targets: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    targets, predictions = np.asarray(targets), np.asarray(predictions)
    check_lengths(targets, predictions)
    if np.ptp(targets) == 0 or np.ptp(predictions) == 0:
        return 0.0
    return 100 * float(np.corrcoef(targets, predictions)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + last - 1) / 2)[codes]
