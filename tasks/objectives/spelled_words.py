"""Words with their characters, and the words before and after each: what ELMo learns from."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.objective import Example, VocabularySpecs, feature_length

# Of the released code (bilm-tf), one higher than there, for 0 is padding of a row.
LONGEST_WORD = 50
TEXT_BEGINS, TEXT_ENDS, WORD_BEGINS, WORD_ENDS, NO_CHARACTER = range(257, 262)
_BYTES = 256


@dataclasses.dataclass(frozen=True)
class SpelledWords:
    """Each word as its characters, between a token that begins a text and one that ends it.

    Characters are the bytes of UTF-8, between marks of the word's beginning and end, 50 in all
    (Peters et al. 2018, released code); of longer words the first 48. The vocabulary is a
    `SpelledWordVocabulary`, which keeps the bytes of words that it does not have.

    Attributes:
      concatenate: whether documents are one stream that is cut into rows; what stands around the
        text where it was cut is then read, and not predicted. Otherwise a row is the beginning of
        one document, such as a sentence, and rows are packed.
      tokens_per_word: tokens of the text that are cut off for each word of a row, 1 or more: a
        word that the vocabulary does not have is one and one for each byte. More of them fill rows
        better; words without room in their row are lost.
    """

    concatenate: bool = True
    tokens_per_word: float = 1.0

    output_features: ClassVar[tuple[str, ...]] = ("targets",)
    adds_eos: ClassVar[bool] = False
    writes: ClassVar[tuple[str, ...]] = ("targets", "characters", "segments", "loss_weights")

    def __post_init__(self) -> None:
        if not 1 <= self.tokens_per_word <= LONGEST_WORD:
            raise TaskError(
                f"SpelledWords.tokens_per_word is {self.tokens_per_word}: 1 to {LONGEST_WORD} is "
                "needed."
            )

    def bind(self, specs: VocabularySpecs) -> "BoundSpelledWords":
        """With the words of the vocabulary of `targets`.

        Raises:
          TaskError: it does not spell words.
        """
        spec = specs["targets"]
        if spec.get("kind") != "spelled_words":
            raise TaskError(
                "SpelledWords reads words by their characters, which the vocabulary does not tell: "
                "make one by `t5x-like vocab --model_type=words`, and give "
                "--gin_file=tasks/vocabularies/spelled_words.gin and its VOCABULARY_PATH."
            )
        return BoundSpelledWords(self, _table(spec), spec["first_byte_id"], spec["eos_id"])


@dataclasses.dataclass(frozen=True, eq=False)
class BoundSpelledWords:
    """`SpelledWords` with a vocabulary's words.

    Attributes:
      settings: see there.
      characters: of each word by its id, and of EOS, int16 `[ids, 50]`.
      first_byte_id: the id of byte 0.
      eos_id: what ends a document.
      row: words of a row, with what stands around a text; None for any number.
    """

    settings: SpelledWords
    characters: np.ndarray
    first_byte_id: int
    eos_id: int
    row: int | None = None

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = SpelledWords.writes
    tables: ClassVar[tuple[str, ...]] = ("characters",)
    counts_excess: ClassVar[bool] = True
    # The end of a document, and the beginning of the next: a piece has room for all of them.
    document_ends: ClassVar[int] = 2
    texts: ClassVar[tuple[str, ...]] = ("targets",)

    @property
    def document_eos(self) -> bool:
        """Whether EOS ends each document of a stream: if documents are concatenated."""
        return self.settings.concatenate

    @property
    def room(self) -> int | None:
        """Most words of a text in a row; None for any number."""
        return None if self.row is None else self.row - 2

    def of_length(self, task_feature_lengths: Mapping[str, int]) -> "BoundSpelledWords":
        """The objective for rows of so many words.

        Raises:
          TaskError: that leaves no room for one.
        """
        return self.of_row(feature_length(task_feature_lengths, "targets"), "targets")

    def of_row(self, row: int, feature: str) -> "BoundSpelledWords":
        """The objective for rows of so many words, which is the length of a feature.

        Raises:
          TaskError: that leaves no room for one.
        """
        if row < 3:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['{feature}'] is {row}: 3 or more is needed, for a word and "
                "what stands around the text."
            )
        return dataclasses.replace(self, row=row)

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """Tokens of text for a row; None without `concatenate`."""
        if not self.settings.concatenate:
            return None
        room = self.of_length(task_feature_lengths).room
        assert room is not None
        return int(room * self.settings.tokens_per_word)

    def excess(self, example: Example) -> int:
        """How many words of a text a row has no room for."""
        words = int(self.begins_word(np.asarray(example["targets"])).sum())
        return 0 if self.room is None else max(0, words - self.room)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """`targets` int32 `[t]`, words and bytes, to words between the ends of their texts.

        Args:
          example: a document, or a piece of several, with one EOS or two between them.
          rng: nothing is drawn.

        Returns:
          int32 `[n]`, at most a row: `targets`, words, and EOS for either end of a text;
          `segments`, the number of each one's document from 1; `loss_weights`, 0 where an end is
          only that of the piece; and `characters` `[n, 50]`. Words have a weight of 1, and so does
          the beginning of a document before which the piece has the end of another one.
        """
        ids = np.asarray(example["targets"], np.int32)
        words, characters = self._words(ids)
        is_end = words == self.eos_id
        after_another = words.size > 0 and bool(is_end[0])
        # A document without words, or the end of one that the piece before had, is none.
        kept = ~(is_end & np.concatenate([[True], is_end])[:-1])
        words, characters, is_end = words[kept], characters[kept], is_end[kept]
        ends_itself = bool(is_end[-1:].any())
        if not ends_itself:
            words = np.append(words, np.int32(self.eos_id))
            characters = np.concatenate([characters, self.characters[[self.eos_id]]])
            is_end = np.append(is_end, True)
        begins = np.concatenate([[0], np.flatnonzero(is_end[:-1]) + 1])
        weights = np.ones(words.size, np.int32)
        weights[-1] = ends_itself or not self.settings.concatenate
        # Before each document; `insert` reckons with places before it inserted anything.
        words = np.insert(words, begins, self.eos_id)
        characters = np.insert(characters, begins, _boundary(TEXT_BEGINS), axis=0)
        weights = np.insert(weights, begins, 1)
        has_words = not is_end.all()
        weights[0] = not self.settings.concatenate or (after_another and has_words)
        starts = np.zeros(words.size, np.int32)
        starts[begins + np.arange(begins.size)] = 1
        made = {
            "targets": words,
            "characters": characters.astype(np.int32),
            "segments": np.cumsum(starts, dtype=np.int32),
            "loss_weights": weights,
        }
        return {name: array[: self.row] for name, array in made.items()}

    def begins_word(self, ids: np.ndarray) -> np.ndarray:
        """Which ids are words, known or not, and not the bytes of one, bool."""
        return ~self._is_byte(ids)

    def _is_byte(self, ids: np.ndarray) -> np.ndarray:
        return (ids >= self.first_byte_id) & (ids < self.first_byte_id + _BYTES)

    def _words(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids of words, and their characters; without a word that was cut through."""
        is_byte = self._is_byte(ids)
        begins, end = np.flatnonzero(~is_byte), ids.size
        # A piece that is as long as others are may end in the middle of a spelled word, and any
        # piece may begin there.
        chunk = None if self.row is None else self.chunk_length({"targets": self.row})
        if chunk is not None and ids.size >= chunk and begins.size and is_byte[-1]:
            begins, end = begins[:-1], begins[-1]
        first = begins[0] if begins.size else end
        words = ids[begins]
        characters = self.characters[words]
        places = np.flatnonzero(is_byte)
        places = places[(places >= first) & (places < end)]
        number = np.searchsorted(begins, places, "right") - 1
        within = places - begins[number]
        fits = within <= LONGEST_WORD - 2
        places, number, within = places[fits], number[fits], within[fits]
        characters[number, within] = ids[places] - self.first_byte_id + 1
        last = np.zeros(words.size, np.intp)
        np.maximum.at(last, number, within)
        spelled = np.flatnonzero(last)
        characters[spelled, last[spelled] + 1] = WORD_ENDS
        return words, characters


def _table(spec: Mapping[str, Any]) -> np.ndarray:
    """The characters of each id that is a word, and of EOS, int16 `[ids, 50]`.

    An unknown word's are those of a word without letters.
    """
    first = int(spec["first_word_id"])
    table = np.full((first + len(spec["words"]), LONGEST_WORD), NO_CHARACTER, np.int16)
    table[:, :2] = WORD_BEGINS, WORD_ENDS
    table[spec["eos_id"]] = _boundary(TEXT_ENDS)
    for characters, word in zip(table[first:], spec["words"], strict=True):
        spelled = np.frombuffer(word.encode(), np.uint8)[: LONGEST_WORD - 2]
        characters[1 : spelled.size + 1] = spelled + np.int16(1)
        characters[spelled.size + 1] = WORD_ENDS
    return table


def _boundary(character: int) -> np.ndarray:
    """A text's beginning or end as the one character of a word, int16 `[50]`."""
    characters = np.full(LONGEST_WORD, NO_CHARACTER, np.int16)
    characters[:3] = WORD_BEGINS, character, WORD_ENDS
    return characters
