"""The n-grams of tests, small, in which those of training text are looked up.

Shapes: `e` examples, `g` n-grams of all examples, `h` different hashes.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from t5x_like.overlap.words import Array, ngrams, words_left, words_of

# Slots of the table for each hash: one slot in so many is taken by chance.
_SLOTS = 12
_FEWEST, _MOST = 1 << 16, 1 << 30


@dataclasses.dataclass(frozen=True)
class Grams:
    """The n-grams of examples; of an example of fewer than n words, all its words as one.

    Attributes:
      hashes: uint64 `[g]`, example by example.
      bounds: int64 `[e + 1]`, where each example's begin and end.
      lengths: the numbers of words that there are.
    """

    hashes: Array
    bounds: Array
    lengths: frozenset[int]

    def shares(self, found_g: Array) -> Array:
        """The share of each example's n-grams that are marked, float64 `[e]`; 0 of none."""
        sums = np.concatenate([[0], np.cumsum(found_g, dtype=np.int64)])
        counts = np.diff(self.bounds)
        return np.diff(sums[self.bounds]) / np.maximum(counts, 1)


def grams_of(words_w: Array, counts_e: Array, n: int) -> Grams:
    """The n-grams of examples, whose words and numbers of words `words_of` gives."""
    begins_e = np.cumsum(counts_e) - counts_e
    is_long = counts_e >= n
    sizes_e = np.where(is_long, counts_e - n + 1, counts_e > 0)
    bounds = np.concatenate([[0], np.cumsum(sizes_e)])
    short = set(counts_e[~is_long & (counts_e > 0)].tolist())
    lengths = short | ({n} if is_long.any() else set())
    hashes = np.zeros(bounds[-1], np.uint64)
    left_w = words_left(counts_e)
    for length, found in ngrams(words_w, lengths):
        if length == n:
            hashes[np.repeat(is_long, sizes_e)] = found[left_w[: len(found)] >= n]
        else:
            mine = counts_e == length
            hashes[bounds[:-1][mine]] = found[begins_e[mine]]
    return Grams(hashes, bounds, frozenset(lengths))


@dataclasses.dataclass(frozen=True)
class Index:
    """Hashes to be looked up.

    Attributes:
      hashes: uint64 `[h]`, ascending, each once.
      lengths: numbers of words of their n-grams, ascending.
      table: bool, a power of two; whether a hash may be there, by its first bits. What is not
        there is mostly found out by one look.
    """

    hashes: Array
    lengths: Sequence[int]
    table: Array

    @classmethod
    def of(cls, grams: Iterable[Grams]) -> "Index":
        """Of all n-grams of several tests."""
        every = list(grams)
        hashes = np.unique(np.concatenate([np.zeros(0, np.uint64), *(g.hashes for g in every)]))
        slots = min(max(_FEWEST, 1 << (_SLOTS * len(hashes)).bit_length()), _MOST)
        table = np.zeros(slots, bool)
        table[_slot(hashes, table)] = True
        return cls(hashes, sorted(set().union(*(g.lengths for g in every))), table)

    def places(self, hashes: Array) -> Array:
        """Where hashes stand that are there, int64."""
        return np.searchsorted(self.hashes, hashes)

    def documents(self, texts: Sequence[str]) -> Array:
        """The places of what is in these documents, int64, each as often as there are documents."""
        if not len(self.hashes):
            return np.zeros(0, np.int64)
        words_w, counts = words_of(texts)
        left_w, ends = words_left(counts), np.cumsum(counts)
        pairs = [np.zeros(0, np.int64)]
        for n, found in ngrams(words_w, self.lengths):
            at = np.flatnonzero(self.table[_slot(found, self.table)])
            at = at[left_w[at] >= n]  # all of one document
            place = np.minimum(self.places(found[at]), len(self.hashes) - 1)
            there = self.hashes[place] == found[at]
            document = np.searchsorted(ends, at[there], side="right")
            pairs.append(document * len(self.hashes) + place[there])
        return np.unique(np.concatenate(pairs)) % len(self.hashes)


def _slot(hashes: Array, table: Array) -> Array:
    return (hashes >> np.uint64(64 - (len(table).bit_length() - 1))).astype(np.int64)
