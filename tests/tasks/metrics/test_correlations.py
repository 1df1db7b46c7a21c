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


@pytest.mark.parametrize("found", [[1.0, 2.0, np.nan, np.nan], [np.nan] * 4])
def test_what_is_no_number_has_no_correlation(found):
    for targets in ([1.0, 2.0, 3.0, 4.0], [1.0] * 4):
        assert np.isnan(metrics.pearson_corrcoef(targets, found)["pearson_corrcoef"])
        assert np.isnan(metrics.spearman_corrcoef(targets, found)["spearman_corrcoef"])


def test_infinity_has_a_rank_and_no_linear_correlation():
    targets, found = [1, 2, 3], [1.0, 2.0, np.inf]
    assert metrics.spearman_corrcoef(targets, found)["spearman_corrcoef"] == pytest.approx(100)
    assert np.isnan(metrics.pearson_corrcoef(targets, found)["pearson_corrcoef"])
