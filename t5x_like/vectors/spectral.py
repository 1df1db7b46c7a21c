"""Vectors of words from the singular values of a matrix of counts, the oldest way to make them."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from t5x_like.errors import UserError

Transform = Literal["none", "log", "ppmi", "correlation"]
_DENSE = 1000  # up to this size NumPy's own decomposition is as quick


def _logarithm(cells: Any, words: np.ndarray, contexts: np.ndarray, total: float) -> np.ndarray:
    return np.log1p(cells)


def _ppmi(cells: Any, words: np.ndarray, contexts: np.ndarray, total: float) -> np.ndarray:
    return np.maximum(np.log(cells * total / (words * contexts)), 0.0)


def _correlation(cells: Any, words: np.ndarray, contexts: np.ndarray, total: float) -> np.ndarray:
    spread = words * (total - words) * contexts * (total - contexts)
    found = (total * cells - words * contexts) / np.sqrt(np.where(spread > 0, spread, np.inf))
    return np.sqrt(np.maximum(found, 0.0))


_FORMULAS: Mapping[str, Callable[..., np.ndarray]] = {
    "log": _logarithm,
    "ppmi": _ppmi,
    "correlation": _correlation,
}
TRANSFORMS = ("none", *_FORMULAS)


def transformed(matrix: Any, transform: Transform) -> Any:
    """The cells of a matrix of counts, weighed against how frequent words are.

    Args:
      matrix: sparse, words by contexts, above 0 where there is a cell.
      transform: "none"; "log", of 1 + x; "ppmi", pointwise mutual information where it is above 0
        (Levy and Goldberg 2014, section 3.2); "correlation", the root of the correlation where it
        is above 0, as COALS (Rohde et al. 2006, table 4).

    Returns:
      `scipy.sparse.csr_matrix` of this shape, float64. Where there was no cell there is none: what
      a formula gives of 0 is 0, or below and left out.
    """
    from scipy import sparse

    if transform not in TRANSFORMS:
        raise UserError(f"transform is {transform!r}: one of {', '.join(TRANSFORMS)}.")
    matrix = sparse.csr_matrix(matrix, dtype=np.float64)
    if transform == "none":
        return matrix
    of_words = np.asarray(matrix.sum(axis=1)).ravel()
    of_contexts = np.asarray(matrix.sum(axis=0)).ravel()
    cells = matrix.tocoo()
    data = _FORMULAS[transform](
        cells.data, of_words[cells.row], of_contexts[cells.col], float(matrix.sum())
    )
    found = sparse.csr_matrix((data, (cells.row, cells.col)), shape=matrix.shape)
    found.eliminate_zeros()
    return found


def svd_vectors(matrix: Any, dimensions: int, power: float = 1.0) -> np.ndarray:
    """The rows of a matrix in as many dimensions as hold the most of it: `U Σ^power`.

    The product of these with each other approximates that of the matrix's rows (with power 1). Of
    the two signs that a dimension may have, it has that which makes its largest number positive.

    Args:
      matrix: sparse or dense, words by contexts.
      dimensions: how many are kept, those of the largest singular values, falling.
      power: of the singular values; 0.5 and 0 are often better (Levy et al. 2015, section 3.3).

    Returns:
      float32 `[words, dimensions]`.

    Raises:
      UserError: the matrix has not so many dimensions.
    """
    from scipy import sparse
    from scipy.sparse import linalg

    most = min(matrix.shape)
    if not 1 <= dimensions <= most:
        raise UserError(f"{dimensions} dimensions are asked for: 1 to {most} can be kept.")
    if most <= _DENSE or 2 * dimensions >= most:
        dense = matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)
        left, values, _ = np.linalg.svd(dense.astype(np.float64), full_matrices=False)
    else:
        # A start of its own, so that the same matrix gives the same vectors.
        start = np.random.default_rng(0).standard_normal(most)
        left, values, _ = linalg.svds(
            sparse.csr_matrix(matrix, dtype=np.float64), dimensions, v0=start
        )
        order = np.argsort(-values)
        left, values = left[:, order], values[order]
    left, values = left[:, :dimensions], values[:dimensions]
    largest = np.abs(left).argmax(axis=0)
    signs = np.where(left[largest, np.arange(dimensions)] < 0, -1.0, 1.0)
    return (left * signs * values**power).astype(np.float32)
