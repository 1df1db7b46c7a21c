"""Correlations, against SciPy."""

import numpy as np
import pytest

from tasks import metrics


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_those_of_scipy(seed):
    from scipy import stats

    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 26, 40) / 5, rng.integers(0, 26, 40) / 5
    pearson, spearman = stats.pearsonr(x, y)[0], stats.spearmanr(x, y)[0]
    assert metrics.pearson_corrcoef(x, y)["pearson_corrcoef"] == pytest.approx(100 * pearson)
    assert metrics.spearman_corrcoef(x, y)["spearman_corrcoef"] == pytest.approx(100 * spearman)


def test_a_constant_prediction_has_no_correlation():
    assert metrics.pearson_corrcoef([1, 2, 3], [2, 2, 2]) == {"pearson_corrcoef": 0}
    assert metrics.spearman_corrcoef([1, 2, 3], [2, 2, 2]) == {"spearman_corrcoef": 0}
