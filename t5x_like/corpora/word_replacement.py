"""TinyBERT's augmentation of a task's texts: words give way to others that could stand there."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from t5x_like.errors import UserError

Candidates = Callable[[Sequence[str]], Sequence[Sequence[str]]]
"""From the words of a text to what may stand in the place of each; nothing where it stays."""


@dataclasses.dataclass(frozen=True)
class WordReplacement:
    """Texts in which some words are replaced by likely or similar ones.

    Jiao et al. 2020, algorithm 1. A word gives way with a certain probability to one of its
    candidates, each as likely as the others. As in the released code, and unlike the algorithm, the
    candidates are those of the text as it is, and not asked for again after each replacement; and a
    text that has come out before is left out.

    Attributes:
      candidates: see `Candidates`.
      threshold: p_t, the probability with which a word that has candidates gives way.
      samples: N_a, how many texts are drawn of one.

    Raises:
      UserError: a threshold that is no probability, or fewer than one sample.
    """

    candidates: Candidates
    threshold: float = 0.4
    samples: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UserError(
                f"the threshold is {self.threshold}: a probability, from 0 to 1, is needed."
            )
        if self.samples < 1:
            raise UserError(f"the number of samples is {self.samples}: 1 or more is needed.")

    def __call__(self, texts: Sequence[str], rng: np.random.Generator) -> list[tuple[str, ...]]:
        """The texts of one row as they are, and after them those that are drawn.

        Words are what stands between white space; of texts that are drawn one space is between
        them.

        Args:
          texts: one, or the two of a pair, whose words are drawn together.
          rng: of the draws.
        """
        words = [text.split() for text in texts]
        candidates = [self.candidates(one) for one in words]
        found = [tuple(texts)]
        # A text in which no word gave way is not another one for having lost a space.
        known = {tuple(map(" ".join, words))}
        for _ in range(self.samples):
            drawn = tuple(
                " ".join(self._drawn(one, of_each, rng))
                for one, of_each in zip(words, candidates, strict=True)
            )
            if drawn not in known:
                known.add(drawn)
                found.append(drawn)
        return found

    def _drawn(
        self, words: Sequence[str], candidates: Sequence[Sequence[str]], rng: np.random.Generator
    ) -> list[str]:
        drawn = []
        for word, others in zip(words, candidates, strict=True):
            gives_way = bool(others) and rng.random() < self.threshold
            drawn.append(others[int(rng.integers(len(others)))] if gives_way else word)
        return drawn
