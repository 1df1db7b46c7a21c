"""Masked language modelling with shuffled words and pairs of three kinds (StructBERT)."""

import dataclasses
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.masked_lm import Masker
from tasks.objectives.objective import Example, VocabularySpecs
from tasks.objectives.sentence_pairs import NextSentenceMaker, SentencePairs

NEXT, PREVIOUS, RANDOM = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class SentenceStructure(SentencePairs):
    """BERT's pre-training with both structural objectives (Wang et al. 2020, section 2).

    *Words*: of the tokens that are not hidden some runs of three are put in a random order, each
    order as likely as any, the right one too; the loss counts there as for hidden tokens. Runs do
    not overlap, and stay in a segment; their number is rounded up or down at random, so that it is
    right in the mean. *Sentences*: the second segment follows the first (`pair_label` 0), comes
    before it (1), or is of another place (2), a third of the rows each. A text of a single sentence
    has no other: its label is 2.

    Attributes:
      random_next_share: share of the rows whose second segment is of another place.
      swapped_share: share of the others whose segments are swapped.
      shuffled_share: share of a row's tokens that stand in shuffled runs.
      shuffled_length: tokens of a run.
    """

    random_next_share: float = 1 / 3
    swapped_share: float = 0.5
    shuffled_share: float = 0.05
    shuffled_length: int = 3

    shares: ClassVar[tuple[str, ...]] = (*SentencePairs.shares, "swapped_share", "shuffled_share")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shuffled_length < 2:
            raise TaskError(
                f"SentenceStructure.shuffled_length is {self.shuffled_length}: 2 or more is needed."
            )

    def bind(self, specs: VocabularySpecs) -> "SentenceStructureMaker":
        """With the special tokens and full stops of the vocabulary of `targets`.

        Raises:
          TaskError: it lacks some of them.
        """
        mask, boundaries, cut, short = self._parts(specs)
        shuffler = WordShuffler(mask, self.shuffled_share, self.shuffled_length)
        return SentenceStructureMaker(
            shuffler, boundaries, cut, short,
            self.random_next_share, self.single_sentences, self.swapped_share,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class WordShuffler:
    """Hides tokens, and shuffles runs of others.

    Attributes:
      mask: hides tokens.
      share: see `SentenceStructure.shuffled_share`.
      length: see `SentenceStructure.shuffled_length`.
    """

    mask: Masker
    share: float
    length: int

    def runs(self, free: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Places of runs that do not overlap, as many as there is room for.

        Args:
          free: bool `[n]`, which tokens of the row may be shuffled.
          rng: of which are.
        """
        free = free.copy()
        count = int(free.size * self.share / self.length + rng.random())
        found: list[np.ndarray] = []
        for first in rng.permutation(max(0, free.size - self.length + 1)):
            if len(found) == count:
                break
            run = np.arange(first, first + self.length)
            if free[run].all():
                free[run] = False
                found.append(run)
        return found

    def shuffle(self, made: Example, runs: list[np.ndarray], rng: np.random.Generator) -> Example:
        """What the mask gives of a row, with runs in a random order, which the loss counts."""
        inputs, weights = made["inputs"].copy(), made["loss_weights"].copy()
        for run in runs:
            inputs[run] = made["targets"][rng.permutation(run)]
            weights[run] = 1
        return {**made, "inputs": inputs, "loss_weights": weights}

    def __call__(self, row: np.ndarray, rng: np.random.Generator) -> Example:
        """`inputs`, `targets` and `loss_weights` of a row, int32 of its length."""
        made = self.mask(row, rng)
        free = ~np.isin(row, self.mask.kept) & (made["loss_weights"] == 0)
        return self.shuffle(made, self.runs(free, rng), rng)


@dataclasses.dataclass(frozen=True, eq=False)
class SentenceStructureMaker(NextSentenceMaker):
    """Pairs of three kinds with ids; made by `SentenceStructure.bind`.

    Attributes:
      swapped_share: see `SentenceStructure`.
    """

    swapped_share: float = 0.5

    objective: ClassVar[str] = "SentenceStructure"

    def segments(
        self, example: Example, longest: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """What follows (0), what comes before (1), or what is of another place (2)."""
        first, second, is_random = super().segments(example, longest, rng)
        if is_random:
            return first, second, RANDOM
        if rng.random() < self.swapped_share:
            return second, first, PREVIOUS
        return first, second, NEXT
