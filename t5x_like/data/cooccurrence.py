"""How often words stand near one another in a split, counted once in a sparse matrix.

A meeting at distance d may count 1 / d. Sums are of whole numbers, in parts of the least common
multiple of all distances: they are exact, in whatever order the text is counted.
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import grain
import numpy as np

from t5x_like.data.cache import index_file, layout
from t5x_like.data.cache.token_stream import TokenStream
from t5x_like.errors import UserError
from t5x_like.protocols import Example

_AT_ONCE = 2**20  # tokens, with pairs of some 500 MB at a window of 10
_SLOW = 2 * 10**7  # tokens, from which on the user is told


class Counting(Protocol):
    """Which pairs of words are counted, and how.

    Attributes:
      window: how many words to each side are met.
      weighting: what a meeting at distance d counts: "harmonic" 1 / d, "ramp" window + 1 - d,
        "flat" 1.
      symmetric: whether words on both sides are met, or only those before.
      vocab_size: ids are below it.
      eos_id: what ends a document, which no window passes.
      no_words: ids that are left out before words are counted.
    """

    @property
    def window(self) -> int:
        """See above."""

    @property
    def weighting(self) -> str:
        """See above."""

    @property
    def symmetric(self) -> bool:
        """See above."""

    @property
    def vocab_size(self) -> int:
        """See above."""

    @property
    def eos_id(self) -> int:
        """See above."""

    @property
    def no_words(self) -> Sequence[int]:
        """See above."""


@dataclasses.dataclass(frozen=True)
class PairCounts:
    """The pairs of words that meet at all, in ascending order.

    Attributes:
      pairs: `word * vocab_size + context`, int64 `[n]`.
      parts: how often they meet, in units of `1 / unit`, int64 `[n]`.
      unit: see `parts`.
      vocab_size: of the matrix that they are the cells of.
    """

    pairs: np.ndarray
    parts: np.ndarray
    unit: int
    vocab_size: int

    def cells(self, places: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Words and contexts, int32, and their counts, float64, at these places of the list."""
        words, contexts = np.divmod(self.pairs[places], self.vocab_size)
        counts = self.parts[places] / self.unit
        return words.astype(np.int32), contexts.astype(np.int32), counts

    def matrix(self) -> Any:
        """`scipy.sparse.csr_matrix` `[vocab_size, vocab_size]`, float64: words by contexts."""
        from scipy import sparse

        words, contexts, counts = self.cells(slice(None))
        shape = self.vocab_size, self.vocab_size
        return sparse.csr_matrix((counts, (words, contexts)), shape=shape)


def distance_parts(window: int, weighting: str) -> tuple[list[int], int]:
    """What meetings at distances 1, 2, … count, in parts of a unit, and the unit."""
    distances = range(1, window + 1)
    if weighting == "harmonic":
        unit = math.lcm(*distances)
        return [unit // d for d in distances], unit
    if weighting == "ramp":
        return [window + 1 - d for d in distances], 1
    return [1] * window, 1


def count_pairs(stream: TokenStream, counting: Counting) -> PairCounts:
    """Counts the pairs of a stream of documents in one pass.

    Args:
      stream: has `counting.eos_id` after each document.
      counting: what is counted.
    """
    from scipy import sparse

    shape = counting.vocab_size, counting.vocab_size
    parts, unit = distance_parts(counting.window, counting.weighting)
    total = sparse.csr_matrix(shape, dtype=np.int64)
    no_words = np.asarray(counting.no_words, np.int32)
    # The last words before, which those to come may meet, and their documents.
    words, documents = np.zeros(0, np.int32), np.zeros(0, np.int64)
    document = 0
    for begin in range(0, len(stream), _AT_ONCE):
        ids = stream.read(begin, min(begin + _AT_ONCE, len(stream)))
        numbers = document + np.cumsum(ids == counting.eos_id)
        document = int(numbers[-1])
        kept = ~np.isin(ids, no_words)
        known = words.size
        words = np.concatenate([words, ids[kept]])
        documents = np.concatenate([documents, numbers[kept]])
        rows, columns, counts = [], [], []
        for distance, part in enumerate(parts, 1):
            first = max(known, distance)
            later = np.arange(first, words.size)
            later = later[documents[later] == documents[later - distance]]
            rows.append(words[later])
            columns.append(words[later - distance])
            counts.append(np.full(later.size, part, np.int64))
        where = np.concatenate(rows), np.concatenate(columns)
        total = total + sparse.csr_matrix((np.concatenate(counts), where), shape=shape)
        words, documents = words[-counting.window :], documents[-counting.window :]
    if counting.symmetric:
        total = (total + total.T).tocsr()
    total.sort_indices()
    of_rows = np.repeat(np.arange(shape[0], dtype=np.int64), np.diff(total.indptr))
    pairs = of_rows * shape[1] + total.indices
    return PairCounts(pairs, total.data, unit, shape[0])


def pair_counts(folder: Path, split: str, stream: TokenStream, counting: Counting) -> PairCounts:
    """`count_pairs` of a cached split, kept beside it for the next time.

    Raises:
      UserError: no two words meet.
    """
    sides = "both" if counting.symmetric else "before"
    kind = f"pairs-{counting.window}-{counting.weighting}-{sides}"
    path = layout.index_path(folder, split, kind, 0, 1)
    # Written once: `COMPLETED` is touched by every start.
    stamp = layout.stats_path(folder, split)
    found = index_file.load(path, stamp)
    if found is not None:
        unit = distance_parts(counting.window, counting.weighting)[1]
        return PairCounts(found["pairs"], found["parts"], unit, counting.vocab_size)
    if len(stream) > _SLOW:
        print(f"counting pairs of words in {len(stream):,} tokens", file=sys.stderr, flush=True)
    counted = count_pairs(stream, counting)
    if not counted.pairs.size:
        raise UserError(
            f"no two words of split {split!r} in {folder} stand in one document: text with two "
            "words of the vocabulary is needed."
        )
    index_file.save(path, stamp, {"pairs": counted.pairs, "parts": counted.parts})
    return counted


class Cells(grain.MapDataset):
    """Counted pairs as examples of equal length, in an order that the seed decides."""

    def __init__(self, counts: PairCounts, length: int, seed: int | None):
        """Divides the pairs into examples.

        Args:
          counts: the pairs.
          length: pairs of an example; the last one may have fewer.
          seed: of the order; None leaves it as it is.
        """
        super().__init__()
        self._counts, self._length = counts, length
        size = counts.pairs.size
        self._order = (
            np.arange(size) if seed is None else np.random.default_rng(seed).permutation(size)
        )

    def __len__(self) -> int:
        return -(-self._order.size // self._length)

    def __getitem__(self, index: int) -> Example:
        """`targets` and `contexts`, int32, and `cooccurrences`, float32, `[length]` each."""
        start = index % len(self) * self._length
        words, contexts, counts = self._counts.cells(self._order[start : start + self._length])
        return {
            "targets": words,
            "contexts": contexts,
            "cooccurrences": counts.astype(np.float32),
        }
