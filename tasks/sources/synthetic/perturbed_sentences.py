"""Sentences beside altered copies of themselves, and how much the two share."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from tasks.sources.source import Row
from tasks.sources.synthetic.sentences import OfSentences, words_of


@dataclasses.dataclass(frozen=True)
class PerturbedSentences(OfSentences):
    """Pairs of a sentence and what is made of it, with the similarity of the two.

    Pre-training for tasks on pairs that needs no labels, as BLEURT's (Sellam et al. 2020, section
    4): pairs made of plain text, whose target is computed. Here a copy keeps a share of the words
    that is drawn evenly from 0 to 1; in the place of each other word stands one of another text,
    or nothing; and a part of it, cut at random, moves from the end to the front. A sentence also
    stands beside the next one of its text. Which of the two is `first` is drawn. The target is
    Dice's coefficient of the two sets of words, in lower case and without punctuation:
    2 |A and B| / (|A| + |B|). The paper alters sentences with a masked language model and by
    translation to and fro, and computes several targets.

    Attributes:
      most: the similarity of a sentence to itself; 5 as in STS-B.
      fewest_words: shorter sentences, such as headings, are left out.
      most_words: longer ones too, as what a row has no room for would still count in its target.
    """

    most: float = 5.0
    fewest_words: int = 3
    most_words: int = 25

    @property
    def columns(self) -> tuple[str, ...]:
        """Two texts and their similarity."""
        return ("first", "second", "similarity")

    def made(
        self,
        text: str,
        places: Sequence[tuple[int, int]],
        before: Sequence[str],
        rng: np.random.Generator,
    ) -> Iterator[Row]:
        """See `OfSentences`."""
        sentences = [text[begin:end] for begin, end in places]
        least, most = self.fewest_words, self.most_words
        sentences = [s for s in sentences if least <= len(words_of(s)) <= most]
        for i, sentence in enumerate(sentences):
            others = [self._copy(sentence, before, rng) for _ in range(self.copies)]
            for other in others + sentences[i + 1 : i + 2]:
                first, second = (sentence, other) if rng.random() < 0.5 else (other, sentence)
                similarity = self.most * shared_words(sentence, other)
                yield {"first": first, "second": second, "similarity": f"{similarity:.3f}"}

    def _copy(self, sentence: str, before: Sequence[str], rng: np.random.Generator) -> str:
        other = before[int(rng.integers(len(before)))].split() if before else []
        return perturbed(sentence, other, rng)


def perturbed(sentence: str, others: Sequence[str], rng: np.random.Generator) -> str:
    """An altered copy; see `PerturbedSentences`.

    Args:
      sentence: of one word or more.
      others: words that take the place of others; without any, words are left out.
      rng: of all that is drawn.
    """
    kept, taken = rng.random(), [*others, ""]
    words = [
        word if rng.random() < kept else taken[rng.integers(len(taken))]
        for word in sentence.split()
    ]
    cut = int(rng.integers(len(words)))
    return " ".join(filter(None, words[cut:] + words[:cut])) or sentence.split()[0]


def shared_words(first: str, second: str) -> float:
    """Dice's coefficient of the words of two texts, 0 to 1; 1 of two without any."""
    left, right = set(words_of(first)), set(words_of(second))
    return 2 * len(left & right) / (len(left) + len(right)) if left or right else 1.0
