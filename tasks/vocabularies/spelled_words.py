"""Whole words as tokens, and the bytes of those words that the vocabulary does not have."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tasks.vocabularies.vocabulary import Offsets, until_eos
from tasks.vocabularies.word_vocabulary import WordVocabulary

_BYTES = 256


@dataclasses.dataclass(frozen=True)
class SpelledWordVocabulary(WordVocabulary):
    """A `WordVocabulary` in which no word is lost, for models that read words by their characters.

    Ids are those of the words; after the last word come 256 ids of bytes. Any other word is id 2
    and then the bytes of its UTF-8.
    """

    @property
    def vocab_size(self) -> int:
        """The number of ids: 3 special ones, the words, 256 bytes and the sentinels."""
        return super().vocab_size + _BYTES

    @property
    def first_byte_id(self) -> int:
        """The id of byte 0."""
        return super().vocab_size - self.extra_ids

    @property
    def tag(self) -> str:
        """Short name for folders."""
        return f"spelled-{super().tag}"

    def encode(self, text: str) -> list[int]:
        """The ids of a text's words, unknown ones spelled, without EOS."""
        return [i for word in self.splitter(text) for i in self._spelled(word)]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Offsets]]:
        """The same ids, and the characters of the word that each is of."""
        words = self.splitter.places(text)
        found = [(i, place) for word, place in words for i in self._spelled(word)]
        return [i for i, _ in found], [place for _, place in found]

    def _spelled(self, word: str) -> Sequence[int]:
        known = self._ids.get(word)
        if known is not None:
            return (known,)
        first = self.first_byte_id
        # What UTF-8 cannot write is a question mark, as in other vocabularies of bytes.
        return (self.unk_id, *(first + byte for byte in word.encode("utf-8", "replace")))

    def decode(self, ids: Sequence[int]) -> str:
        """The words of ids up to the first EOS, a space between them."""
        first, words = self.first_byte_id, self.words
        first_word = first - len(words)
        pieces: list[bytearray] = []
        spells = False
        for i in until_eos(ids, self.eos_id):
            if spells and first <= i < first + _BYTES:
                pieces[-1].append(i - first)
                continue
            spells = i == self.unk_id
            if spells:
                pieces.append(bytearray())
            elif first_word <= i < first:
                pieces.append(bytearray(words[i - first_word].encode()))
        return " ".join(piece.decode("utf-8", "replace") or "<unk>" for piece in pieces)

    def spec(self) -> dict[str, Any]:
        """As of a `WordVocabulary`, with the `words` themselves and the id of byte 0."""
        spec = super().spec()
        return spec | {
            "kind": "spelled_words",
            "words": list(self.words),
            "first_byte_id": self.first_byte_id,
        }
