"""Gopher's rules for MassiveText (Rae et al. 2021, appendix A.1): quality, and repetition."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

from tasks.dropped import drop

_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_ELLIPSES = ("...", "…")
_BULLETS = ("•", "‣", "◦", "▪", "-", "*")


@dataclasses.dataclass(frozen=True)
class GopherQuality:
    """Drops documents whose words and lines are unlike prose. Words are parted by white space.

    Attributes:
      min_words: fewest words.
      max_words: most.
      min_word_length: least mean length of a word, in characters.
      max_word_length: largest.
      max_symbols: most `#`, and most ellipses, a word.
      max_bullets: largest share of lines that begin with a bullet.
      max_ellipsis_lines: largest share of lines that end in an ellipsis.
      min_alphabetic: least share of words with a letter.
      min_stop_words: fewest different ones of the, be, to, of, and, that, have, with.
    """

    min_words: int = 50
    max_words: int = 100_000
    min_word_length: float = 3.0
    max_word_length: float = 10.0
    max_symbols: float = 0.1
    max_bullets: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_alphabetic: float = 0.8
    min_stop_words: int = 2

    def __call__(self, text: str, reasons: Counter[str]) -> str | None:
        """The text as it is, or None."""
        reason = self._reason(text)
        if reason is None:
            return text
        drop(reasons, f"document: {reason}", text)
        return None

    def _reason(self, text: str) -> str | None:
        words = text.split()
        count = len(words)
        if not self.min_words <= count <= self.max_words:
            return "too few words" if count < self.min_words else "too many words"
        if not count:
            return None
        length = sum(map(len, words)) / count
        if not self.min_word_length <= length <= self.max_word_length:
            return "words too short" if length < self.min_word_length else "words too long"
        if text.count("#") > self.max_symbols * count:
            return "too many hash signs"
        if sum(map(text.count, _ELLIPSES)) > self.max_symbols * count:
            return "too many ellipses"
        lines = text.splitlines()
        if sum(x.lstrip().startswith(_BULLETS) for x in lines) > self.max_bullets * len(lines):
            return "too many bullets"
        ends = sum(line.rstrip().endswith(_ELLIPSES) for line in lines)
        if ends > self.max_ellipsis_lines * len(lines):
            return "too many lines end in an ellipsis"
        if sum(any(map(str.isalpha, word)) for word in words) < self.min_alphabetic * count:
            return "too few words with a letter"
        if len(_STOP_WORDS.intersection(words)) < self.min_stop_words:
            return "too few stop words"
        return None


@dataclasses.dataclass(frozen=True)
class GopherRepetition:
    """Drops documents that repeat themselves (table A1). Words are parted by white space.

    Attributes:
      max_lines: largest share of lines that are copies of an earlier one.
      max_paragraphs: of paragraphs.
      max_line_characters: largest share of the text's characters in such lines.
      max_paragraph_characters: in such paragraphs.
      max_top: largest shares of characters in all places of the most frequent sequence of 2, 3
        and 4 words.
      max_repeated: largest shares of characters in copies of sequences of 5, 6 … 10 words; copies
        that overlap count once.
    """

    max_lines: float = 0.30
    max_paragraphs: float = 0.30
    max_line_characters: float = 0.20
    max_paragraph_characters: float = 0.20
    max_top: tuple[float, ...] = (0.20, 0.18, 0.16)
    max_repeated: tuple[float, ...] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)

    def __call__(self, text: str, reasons: Counter[str]) -> str | None:
        """The text as it is, or None."""
        reason = self._reason(text)
        if reason is None:
            return text
        drop(reasons, f"document: {reason}", text)
        return None

    def _reason(self, text: str) -> str | None:
        text = text.replace("\r\n", "\n")  # as JSON and Parquet keep it
        size = len(text)
        if not text.strip():
            return None
        parts = (
            ("paragraphs", r"\n{2,}", self.max_paragraphs, self.max_paragraph_characters),
            ("lines", r"\n+", self.max_lines, self.max_line_characters),
        )
        for name, end, most, most_characters in parts:
            found = re.split(end, text.strip())
            copies, characters = copies_among(found)
            if copies > most * len(found) or characters > most_characters * size:
                return f"{name} repeat"
        words = text.split()
        for n, share in enumerate(self.max_top, start=2):
            if top_sequence_characters(words, n) > share * size:
                return f"{n} words repeat"
        for n, share in enumerate(self.max_repeated, start=5):
            if repeated_characters(words, n) > share * size:
                return f"{n} words repeat"
        return None


def copies_among(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts are copies of an earlier one, and their characters."""
    seen: set[str] = set()
    copies = characters = 0
    for part in parts:
        if part in seen:
            copies, characters = copies + 1, characters + len(part)
        seen.add(part)
    return copies, characters


def top_sequence_characters(words: Sequence[str], n: int) -> int:
    """The characters of the most frequent sequence of n words, in all its places.

    Places that overlap all count, and so do the spaces between its words; of two that are as
    frequent the first. 0 where none is repeated.
    """
    counts = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    if not counts:
        return 0
    sequence, count = counts.most_common(1)[0]
    return count * len(" ".join(sequence)) if count > 1 else 0


def repeated_characters(words: Sequence[str], n: int) -> int:
    """The characters of sequences of n words that stood before, without spaces between them.

    Copies do not overlap: the next one is looked for behind the last.
    """
    seen: set[tuple[str, ...]] = set()
    at = characters = 0
    while at + n <= len(words):
        sequence = tuple(words[at : at + n])
        if sequence in seen:
            characters += sum(map(len, sequence))
            at += n
        else:
            seen.add(sequence)
            at += 1
    return characters
