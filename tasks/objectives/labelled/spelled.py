"""Labelled texts and tagged words, word by word with their characters."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.objective import Example, VocabularySpecs, feature_length
from tasks.objectives.spelled_words import BoundSpelledWords, SpelledWords

TEXT, CHARACTERS = "inputs", "characters"
LABEL, TAGS, PLACES = "label", "tags", "word_places"
_LABELS = ("label", "number", "tags")


@dataclasses.dataclass(frozen=True)
class LabelledSpelledWords:
    """The words of a text between its two ends, and what it is to be labelled with.

    A row is made as ELMo reads a document, see `SpelledWords`; of a text that is too long it is the
    beginning. The vocabulary is a `SpelledWordVocabulary`.

    Attributes:
      labels: "label" or "number" of the text, or "tags", one of each word. A word of which the
        vocabulary makes several has its tag at the first; words without room have none.
    """

    labels: str = "label"

    output_features: ClassVar[tuple[str, ...]] = (TEXT,)
    adds_eos: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.labels not in _LABELS:
            raise TaskError(
                f"LabelledSpelledWords.labels is {self.labels!r}: {', '.join(_LABELS)}."
            )

    @property
    def writes(self) -> tuple[str, ...]:
        """The words, their characters, and the label, or the tags with their places."""
        return (TEXT, CHARACTERS, *((TAGS, PLACES) if self.labels == "tags" else (LABEL,)))

    def bind(self, specs: VocabularySpecs) -> "BoundLabelledSpelledWords":
        """With the words of the vocabulary of `inputs`.

        Raises:
          TaskError: it does not spell words.
        """
        words = SpelledWords(concatenate=False).bind({"targets": specs[TEXT]})
        return BoundLabelledSpelledWords(self, words)


@dataclasses.dataclass(frozen=True, eq=False)
class BoundLabelledSpelledWords:
    """Rows with ids; made by `LabelledSpelledWords.bind`.

    Attributes:
      settings: see there.
      words: makes the row.
    """

    settings: LabelledSpelledWords
    words: BoundSpelledWords

    tables: ClassVar[tuple[str, ...]] = (CHARACTERS,)
    document_eos: ClassVar[bool] = False
    counts_excess: ClassVar[bool] = True
    texts: ClassVar[tuple[str, ...]] = (TEXT,)

    @property
    def writes(self) -> tuple[str, ...]:
        """See `LabelledSpelledWords`."""
        return self.settings.writes

    @property
    def reads(self) -> tuple[str, ...]:
        """The words, and the label or tags."""
        of_tags = (f"{TEXT}_sizes", TAGS)
        return (TEXT, *(of_tags if self.settings.labels == "tags" else (LABEL,)))

    @property
    def scalars(self) -> Mapping[str, type[np.generic]]:
        """The label's dtype."""
        if self.settings.labels == "tags":
            return {}
        return {LABEL: np.float32 if self.settings.labels == "number" else np.int32}

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> None:
        """Texts stay whole."""

    def of_length(self, task_feature_lengths: Mapping[str, int]) -> "BoundLabelledSpelledWords":
        """The same for rows of the length that `inputs` has.

        Raises:
          TaskError: that leaves no room for a word.
        """
        row = feature_length(task_feature_lengths, TEXT)
        return dataclasses.replace(self, words=self.words.of_row(row, TEXT))

    @property
    def room(self) -> int | None:
        """Most words of a text; None for any number."""
        return self.words.room

    def excess(self, example: Example) -> int:
        """How many words of a text a row has no room for."""
        return self.words.excess({"targets": example[TEXT]})

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The row.

        Args:
          example: `inputs`, words and bytes, int `[t]`, and `label`, of rank 0 or of one number; or
            `inputs_sizes`, how many of them each tagged word has, and `tags`, int `[w]`. There is
            no label, and there are no tags, where texts are read to be labelled.
          rng: nothing is drawn.

        Returns:
          `inputs`, words, and EOS for either end, int32 `[n]`; `characters`, int32 `[n, 50]`; and
          `label`, int32 or float32 `[]`, -1 or NaN where there is none, or `tags`, -1 where there
          are none, and `word_places`, where each begins in the row or -1, int32 `[w]`.
        """
        ids = np.asarray(example[TEXT], np.int32)
        spelled = self.words({"targets": ids}, rng)
        made = {TEXT: spelled["targets"], CHARACTERS: spelled["characters"]}
        if self.settings.labels != "tags":
            none: float = np.nan if self.settings.labels == "number" else -1
            dtype = self.scalars[LABEL]
            return {**made, LABEL: np.asarray(example.get(LABEL, none), dtype).reshape(())}
        sizes = np.asarray(example[f"{TEXT}_sizes"], np.int32)
        begins = np.cumsum(sizes) - sizes
        # The number of the word that begins there; the text's beginning stands before the first.
        numbers = np.append(np.cumsum(self.words.begins_word(ids)), 0)[begins]
        there = (sizes > 0) & (numbers < made[TEXT].size)
        return {
            **made,
            TAGS: np.asarray(example.get(TAGS, np.full_like(sizes, -1)), np.int32),
            PLACES: np.where(there, numbers, -1).astype(np.int32),
        }
