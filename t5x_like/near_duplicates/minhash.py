"""MinHash signatures of documents, and the keys of their bands.

Two documents have the same value at one place of their signatures with the probability of their
Jaccard similarity (Broder 1997). A signature is cut into bands of some rows; documents that agree
in a whole band are candidates (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4).
Shapes: `g` shingles, `k` permutations, `b` bands.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from t5x_like.errors import UserError
from t5x_like.overlap import words

Array = np.ndarray

_LARGEST = 0xFFFFFFFF
# Odd, and so invertible modulo 2^64; drawn once.
_STEP, _FIRST = 0xD6E8FEB86659FD93, 0xA0761D6478BD642F


@dataclasses.dataclass(frozen=True)
class Permutations:
    """Permutations `a h + b mod 2^32` of 32-bit hashes, a odd: datasketch's scheme `affine32`.

    Attributes:
      count: of permutations, k.
      seed: of the generator that draws them; the same as datasketch's draws the same.
    """

    count: int
    seed: int = 1

    @functools.cached_property
    def _factors_and_shifts(self) -> tuple[Array, Array]:
        # An old generator, because it is the one that datasketch draws of.
        draw = np.random.RandomState(self.seed)
        halves = draw.randint(0, 1 << 31, self.count, dtype=np.uint32)
        shifts = draw.randint(0, 1 << 32, self.count, dtype=np.uint32)
        return (halves * np.uint32(2) + np.uint32(1))[:, None], shifts[:, None]

    def signature(self, shingles_g: Array) -> Array:
        """The least value of each permutation, uint32 `[k]`; the largest of no shingles.

        Args:
          shingles_g: uint32 hashes.
        """
        factors, shifts = self._factors_and_shifts
        mixed_g = _mixed(shingles_g)
        least_k = np.full(self.count, _LARGEST, np.uint32)
        for begin in range(0, len(mixed_g), 1 << 12):  # a matrix that fits the processor's cache
            values = factors * mixed_g[begin : begin + (1 << 12)]
            values += shifts
            np.minimum(least_k, values.min(axis=1), out=least_k)
        return least_k


def _mixed(hashes: Array) -> Array:
    """MurmurHash3's finalizer of 32 bits."""
    hashes = hashes ^ (hashes >> np.uint32(16))
    hashes = hashes * np.uint32(0x85EBCA6B)
    hashes = hashes ^ (hashes >> np.uint32(13))
    hashes = hashes * np.uint32(0xC2B2AE35)
    return hashes ^ (hashes >> np.uint32(16))


def shingles(texts: Sequence[str], n: int) -> list[Array]:
    """The n-grams of words of each text, as uint32 hashes `[g]`, each once.

    Words are in lower case and without punctuation. A text of fewer words is one shingle, and one
    without words has none.
    """
    hashes, counts = words.words_of(texts)
    ends = np.cumsum(counts)
    found = []
    for count, end in zip(counts.tolist(), ends.tolist(), strict=True):
        if not count:
            found.append(np.zeros(0, np.uint32))
            continue
        ((_, grams),) = words.ngrams(hashes[end - count : end], (min(n, count),))
        found.append(np.unique((grams >> np.uint64(32)).astype(np.uint32)))
    return found


@dataclasses.dataclass(frozen=True)
class Bands:
    """How a signature is cut into bands.

    Attributes:
      bands: how many.
      rows: values of each.

    Raises:
      UserError: one of them is below 1.
    """

    bands: int = 14
    rows: int = 8

    def __post_init__(self) -> None:
        if self.bands < 1 or self.rows < 1:
            raise UserError(
                f"--bands={self.bands} --rows={self.rows}: give whole numbers of 1 or more."
            )

    def candidate_probability(self, jaccard: float) -> float:
        """With which probability documents of a Jaccard similarity agree in a band or more."""
        return float(1 - (1 - jaccard**self.rows) ** self.bands)

    def keys(self, signature_k: Array) -> Array:
        """A hash of each band, uint64 `[b]`, of which equal ones mean equal bands."""
        values = signature_k[: self.bands * self.rows].reshape(self.bands, self.rows)
        keys = np.full(self.bands, _FIRST, np.uint64)
        for column in values.T:
            keys = (keys ^ column) * np.uint64(_STEP)
            keys ^= keys >> np.uint64(32)
        return keys


def bands_for(jaccard: float, permutations: int) -> Bands:
    """The bands with the least errors below and above a similarity, as datasketch chooses them.

    Errors are the mean probabilities of a candidate below the threshold and of none above it, for
    similarities that are all as frequent.

    Args:
      jaccard: the threshold, between 0 and 1.
      permutations: at most so many are used.

    Raises:
      UserError: the threshold is not between 0 and 1, or there is no permutation.
    """
    if not 0 < jaccard < 1:
        raise UserError(f"--jaccard={jaccard}: give a similarity between 0 and 1, such as 0.8.")
    if permutations < 1:
        raise UserError(f"--permutations={permutations}: give a whole number of 1 or more.")
    # Gauss and Legendre's places on either side: exact for polynomials of a degree of 255.
    places, weights = np.polynomial.legendre.leggauss(128)
    below, above = (places + 1) / 2 * jaccard, jaccard + (places + 1) / 2 * (1 - jaccard)
    least, best = np.inf, Bands(1, 1)
    for bands in range(1, permutations + 1):
        for rows in range(1, permutations // bands + 1):
            found = 1 - (1 - below**rows) ** bands
            missed = (1 - above**rows) ** bands
            error = float(weights @ found) * jaccard + float(weights @ missed) * (1 - jaccard)
            # By more than rounding: datasketch keeps the first of equals.
            if error < least - 1e-12:
                least, best = error, Bands(bands, rows)
    return best
