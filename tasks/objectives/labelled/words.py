"""The words of a text as one row for an encoder, with their tags."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.masked_lm import Boundaries
from tasks.objectives.objective import Example, VocabularySpecs, feature_length
from tasks.objectives.special_tokens import find_boundary_ids

WORDS, TAGS, PLACES = "inputs", "tags", "word_places"


@dataclasses.dataclass(frozen=True)
class TaggedWords:
    """`[CLS] words [SEP]`, and where each word begins (Devlin et al. 2019, figure 4d).

    A row that is too long loses its last tokens. Words whose first token is lost, and words of
    which the vocabulary makes no token, have no place.
    """

    output_features: ClassVar[tuple[str, ...]] = (WORDS,)
    adds_eos: ClassVar[bool] = False
    writes: ClassVar[tuple[str, ...]] = (WORDS, "token_types", TAGS, PLACES)

    def bind(self, specs: VocabularySpecs) -> "BoundTaggedWords":
        """With the special tokens of the vocabulary of `inputs`.

        Raises:
          TaskError: it has none that could begin and end a row.
        """
        spec = specs[WORDS]
        ids = find_boundary_ids(spec, type(self).__name__)
        return BoundTaggedWords(Boundaries(*ids, spec["eos_id"]))


@dataclasses.dataclass(frozen=True, eq=False)
class BoundTaggedWords:
    """Rows with ids; made by `TaggedWords.bind`.

    Attributes:
      boundaries: stand around the text.
      length: most tokens of a row; None for any number.
    """

    boundaries: Boundaries
    length: int | None = None

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
        length = feature_length(task_feature_lengths, WORDS)
        if length < 3:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['{WORDS}'] is {length}: 3 or more is needed, with what "
                "stands around the text."
            )
        return dataclasses.replace(self, length=length)

    @property
    def room(self) -> int | None:
        """Most tokens of the text; None for any number."""
        return None if self.length is None else self.length - 2

    def excess(self, example: Example) -> int:
        """How many tokens of the text a row has no room for."""
        return 0 if self.room is None else max(0, example[WORDS].size - self.room)

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
        ids = np.asarray(example[WORDS], np.int32)[: self.room]
        sizes = np.asarray(example[f"{WORDS}_sizes"], np.int32)
        begins = np.cumsum(sizes, dtype=np.int32) - sizes
        row, types = self.boundaries.row(ids)
        return {
            WORDS: row,
            "token_types": types,
            TAGS: np.asarray(example.get(TAGS, np.full_like(sizes, -1)), np.int32),
            # After [CLS].
            PLACES: np.where((sizes > 0) & (begins < ids.size), begins + 1, -1).astype(np.int32),
        }
