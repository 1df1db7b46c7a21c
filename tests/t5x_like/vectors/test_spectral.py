"""Vectors of singular values, against NumPy's own decomposition and formulas by hand."""

import numpy as np
import pytest
from scipy import sparse

from t5x_like.errors import UserError
from t5x_like.vectors import spectral, svd_vectors, transformed

COUNTS = np.array([[0, 3, 1], [3, 0, 0], [1, 0, 8]], float)


def test_all_dimensions_hold_all_of_the_matrix():
    vectors = svd_vectors(sparse.csr_matrix(COUNTS), 3)
    np.testing.assert_allclose(vectors @ vectors.T, COUNTS @ COUNTS.T, atol=1e-4)


@pytest.mark.parametrize("dense_up_to", [0, 1000])
def test_the_largest_singular_values_are_numpys(monkeypatch, dense_up_to):
    monkeypatch.setattr(spectral, "_DENSE", dense_up_to)
    matrix = sparse.random(60, 60, density=0.2, random_state=0, format="csr")
    found = svd_vectors(matrix, 5)
    left, values, _ = np.linalg.svd(matrix.toarray())
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), values[:5], rtol=1e-5)
    expected = left[:, :5] * values[:5]
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-5)
    # The largest number of each dimension is above 0, and a second call gives the same.
    assert (found[np.abs(found).argmax(axis=0), np.arange(5)] > 0).all()
    np.testing.assert_array_equal(found, svd_vectors(matrix, 5))
    rooted = svd_vectors(matrix, 5, power=0.5)
    np.testing.assert_allclose(np.linalg.norm(rooted, axis=0), values[:5] ** 0.5, rtol=1e-5)


def test_counts_are_weighed_against_how_frequent_words_are():
    # Rows and columns sum to 4, 3, 9, and all to 16.
    matrix = sparse.csr_matrix(COUNTS)
    np.testing.assert_allclose(transformed(matrix, "none").toarray(), COUNTS)
    np.testing.assert_allclose(transformed(matrix, "log").toarray(), np.log1p(COUNTS))
    ppmi = transformed(matrix, "ppmi").toarray()
    assert ppmi[0, 1] == pytest.approx(np.log(3 * 16 / (4 * 3)))
    assert ppmi[0, 2] == 0  # 1 · 16 < 4 · 9
    # (16 · 3 - 4 · 3) / sqrt(4 · 12 · 3 · 13) = 0.832050, and below 0 nothing.
    correlation = transformed(matrix, "correlation")
    assert correlation[0, 1] == pytest.approx(0.832050**0.5, abs=1e-6)
    assert correlation[0, 2] == 0 and correlation.nnz == 3


def test_what_a_matrix_has_not_is_told_in_a_line():
    with pytest.raises(UserError, match="4 dimensions are asked for: 1 to 3"):
        svd_vectors(COUNTS, 4)
    with pytest.raises(UserError, match="transform is 'tfidf': one of none, log"):
        transformed(COUNTS, "tfidf")
