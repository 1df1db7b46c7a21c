"""When an example counts as one that was in the training text, as papers defined it."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from t5x_like.errors import UserError
from t5x_like.overlap.index import Grams, Index, grams_of
from t5x_like.overlap.words import Array, words_of

RULES = ("gpt3", "palm")
# GPT-3's n is the examples' 5th percentile of words, within these (Brown et al. 2020, appendix C).
_PERCENTILE, _LEAST, _MOST = 5, 8, 13
# GPT-2 (Radford et al. 2019, section 4) and PaLM (Chowdhery et al. 2022, section 8).
_EIGHT, _PALM_SHARE = 8, 0.7


@dataclasses.dataclass(frozen=True)
class Found:
    """What of a test is in the training text. Shapes: `e` examples.

    Attributes:
      n: GPT-3's, of these examples.
      words: of each example, int64 `[e]`.
      gpt3: whether one of its n-grams is there, or all of it where it is shorter, bool `[e]`.
      gpt2: the share of its 8-grams that are there, float64 `[e]`.
      palm: whether that is 70% or more, bool `[e]`.
      gpt2_of_all: the share of the 8-grams of all examples.
    """

    n: int
    words: Array
    gpt3: Array
    gpt2: Array
    palm: Array
    gpt2_of_all: float


class ExampleGrams:
    """The examples of a test, ready for one pass over the training text.

    Args:
      texts: of the examples.
      n: in place of GPT-3's rule for it.

    Attributes:
      n: of GPT-3's rule.
    """

    def __init__(self, texts: Sequence[str], n: int | None = None) -> None:
        if n is not None and n < 1:
            raise UserError(f"n-grams of {n} words: give 1 or more.")
        words_w, self._counts = words_of(texts)
        self.n = gpt3_length(self._counts) if n is None else n
        self._eight = grams_of(words_w, self._counts, _EIGHT)
        self._own = self._eight if self.n == _EIGHT else grams_of(words_w, self._counts, self.n)

    @property
    def grams(self) -> list[Grams]:
        """All that is to be looked for."""
        return [self._own, self._eight]

    def found(self, index: Index, documents_h: Array, max_documents: int | None) -> Found:
        """What was found.

        Args:
          index: of these n-grams, and maybe of those of other tests.
          documents_h: how many training documents have each, as `scan.documents_with` counts.
          max_documents: n-grams in more of them are common phrases, and do not count; None for all.
        """
        there_h = documents_h > 0
        if max_documents is not None:
            there_h &= documents_h <= max_documents
        own, eight = (there_h[index.places(grams.hashes)] for grams in self.grams)
        shares = self._eight.shares(eight)
        return Found(
            n=self.n,
            words=self._counts,
            gpt3=self._own.shares(own) > 0,
            gpt2=shares,
            palm=shares >= _PALM_SHARE,
            gpt2_of_all=float(eight.mean()) if len(eight) else 0.0,
        )


def gpt3_length(counts_e: Array) -> int:
    """GPT-3's n for a test: the 5th percentile of its examples' words, between 8 and 13."""
    if not len(counts_e):
        return _LEAST
    return int(np.clip(np.percentile(counts_e, _PERCENTILE), _LEAST, _MOST))
