"""The words of a text as one row for an encoder, with their tags."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.objectives.labelled.segments import BoundLabelledSegments, LabelledSegments
from tasks.objectives.objective import Example, VocabularySpecs

WORDS, TAGS, PLACES = "inputs", "tags", "word_places"


@dataclasses.dataclass(frozen=True)
class TaggedWords:
    """`[CLS] words [SEP]`, and where each word begins (Devlin et al. 2019, figure 4d).

    A row is made as that of a text is, see `LabelledSegments`: one that is too long loses its last
    tokens. Words whose first token is lost, and words of which the vocabulary makes no token, have
    no place.
    """

    output_features: ClassVar[tuple[str, ...]] = (WORDS,)
    adds_eos: ClassVar[bool] = False
    writes: ClassVar[tuple[str, ...]] = (WORDS, "token_types", TAGS, PLACES)

    def bind(self, specs: VocabularySpecs) -> "BoundTaggedWords":
        """With the special tokens of the vocabulary of `inputs`.

        Raises:
          TaskError: it has none that could begin and end a row.
        """
        return BoundTaggedWords(LabelledSegments().bind(specs))


@dataclasses.dataclass(frozen=True, eq=False)
class BoundTaggedWords:
    """Rows with ids; made by `TaggedWords.bind`.

    Attributes:
      text: makes the row.
    """

    text: BoundLabelledSegments

    reads: ClassVar[tuple[str, ...]] = (WORDS, f"{WORDS}_sizes", TAGS)
    writes: ClassVar[tuple[str, ...]] = TaggedWords.writes
    document_eos: ClassVar[bool] = False
    texts: ClassVar[tuple[str, ...]] = (WORDS,)

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> None:
        """Texts stay whole."""

    def of_length(self, task_feature_lengths: Mapping[str, int]) -> "BoundTaggedWords":
        """The same for rows of the length that `inputs` has.

        Raises:
          TaskError: that leaves no room for a token of the text.
        """
        return dataclasses.replace(self, text=self.text.of_length(task_feature_lengths))

    @property
    def room(self) -> int | None:
        """Most tokens of the text; None for any number."""
        return self.text.room

    def excess(self, example: Example) -> int:
        """How many tokens of the text a row has no room for."""
        return self.text.excess(example)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The row.

        Args:
          example: the ids of all words, int `[t]`, how many of them each word has, int `[w]`, and
            the tags' numbers, int `[w]`; none where words are read to be tagged.
          rng: nothing is drawn.

        Returns:
          `inputs` and `token_types`, int32 `[n]`; `tags`, -1 where there are none, and
          `word_places`, where each word's first token stands in the row or -1, int32 `[w]`.
        """
        made = self.text({WORDS: example[WORDS]}, rng)
        sizes = np.asarray(example[f"{WORDS}_sizes"], np.int32)
        begins = np.cumsum(sizes, dtype=np.int32) - sizes
        there = (sizes > 0) & (begins < made[WORDS].size - 2)
        first = 0 if self.text.cls_at_end else 1  # after [CLS]
        return {
            WORDS: made[WORDS],
            "token_types": made["token_types"],
            TAGS: np.asarray(example.get(TAGS, np.full_like(sizes, -1)), np.int32),
            PLACES: np.where(there, begins + first, -1).astype(np.int32),
        }
