"""Words of texts as 64-bit hashes, and n-grams of them.

Words are in lower case, without punctuation, and white space parts them (Brown et al. 2020,
appendix C).
Shapes: `w` words.
"""

import functools
import re
import string
import unicodedata
from collections.abc import Collection, Iterator, Sequence

import numpy as np

Array = np.ndarray

_CHARACTERS = 1 << 16  # that have a place in the tables; those beyond are letters of no case
_PIECE = 1 << 19  # characters that are hashed at once
_END, _SPACE, _DROPPED = 0, 32, 0xFFFFFFFF  # of the text, between words, punctuation
_WHITE_SPACE = re.compile(r"\s")
# Odd, and so invertible modulo 2^64; drawn once.
_BASE, _STEP, _FIRST = 0x9E6C63D0876A9A4B, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_SEED = 20


def words_of(texts: Sequence[str]) -> tuple[Array, Array]:
    """The words of texts, one after the other.

    Returns:
      Their hashes, uint64 `[w]`, and how many words each text has, int64 `[texts]`.
    """
    hashes = []
    counts = np.zeros(len(texts), np.int64)
    for numbers, parts in _pieces(texts):
        found, sizes = _hashed("\0".join(parts))
        hashes.append(found)
        np.add.at(counts, numbers, sizes)
    return np.concatenate(hashes) if hashes else np.zeros(0, np.uint64), counts


def ngrams(words_w: Array, lengths: Collection[int]) -> Iterator[tuple[int, Array]]:
    """For each n of `lengths`, ascending, the hashes of n words from each place on.

    Whether they are of one text is for the caller to see. Other n, other hashes.

    Returns:
      Pairs of n and uint64 `[w - n + 1]`; none where there are fewer words.
    """
    sums = np.full(len(words_w), _FIRST, np.uint64)
    for n in range(1, min(max(lengths, default=0), len(words_w)) + 1):
        sums = sums[: len(words_w) - n + 1] * np.uint64(_STEP) + words_w[n - 1 :]
        if n in lengths:
            yield n, _mixed(sums)


def words_left(counts: Array) -> Array:
    """At each word, how many its text has from there on, itself among them, int64 `[w]`."""
    return np.repeat(np.cumsum(counts), counts) - np.arange(int(counts.sum()))


def _pieces(texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Texts, or parts of long ones cut between words, in amounts to be hashed at once."""
    numbers: list[int] = []
    parts: list[str] = []
    room = _PIECE
    for number, text in enumerate(texts):
        begin = 0
        while begin < len(text):
            cut = _WHITE_SPACE.search(text, begin + _PIECE)
            end = len(text) if cut is None else cut.start()
            part = text[begin:end]
            numbers.append(number)
            parts.append(part.replace("\0", " ") if "\0" in part else part)
            begin, room = end, room - len(part)
            if room <= 0:
                yield numbers, parts
                numbers, parts, room = [], [], _PIECE
    if parts:
        yield numbers, parts


def _hashed(text: str) -> tuple[Array, Array]:
    """The hashes of the words of texts joined by NUL, and how many words each has.

    A word is a polynomial of values drawn for its characters; a running sum gives all of them.
    """
    lower, values = _tables()
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kept = lower.take(codes, mode="clip")
    far = codes >= _CHARACTERS
    if far.any():
        kept[far] = codes[far]
    kept = kept[kept != _DROPPED]
    is_letter = kept > _SPACE
    edges = np.flatnonzero(np.diff(is_letter.view(np.int8), prepend=0, append=0))
    begins, ends = edges[::2], edges[1::2]
    powers, inverses = _powers(len(kept))
    drawn = values.take(kept, mode="clip")
    if far.any():
        beyond = kept >= _CHARACTERS
        drawn[beyond] = _mixed(kept[beyond].astype(np.uint64))
    sums = np.zeros(len(kept) + 1, np.uint64)
    np.cumsum(drawn * powers, out=sums[1:])
    hashes = _mixed((sums[ends] - sums[begins]) * inverses[begins])
    places = np.searchsorted(begins, np.flatnonzero(kept == _END))
    return hashes, np.diff(places, prepend=0, append=len(begins))


@functools.cache
def _tables() -> tuple[Array, Array]:
    """Of each character: what it becomes, uint32, and the value that it is hashed by, uint64."""
    lower = np.empty(_CHARACTERS, np.uint32)
    for code in range(_CHARACTERS):
        character = chr(code)
        category = unicodedata.category(character)
        if character.isspace() or category == "Cc":
            lower[code] = _SPACE
        elif character in string.punctuation or category.startswith("P"):
            lower[code] = _DROPPED
        else:
            lower[code] = ord(character.lower()[0])
    lower[0] = _END
    values = np.random.default_rng(_SEED).integers(1 << 63, size=_CHARACTERS, dtype=np.uint64)
    values[: _SPACE + 1] = 0
    return lower, values


@functools.lru_cache(maxsize=1)
def _powers_up_to(count: int) -> tuple[Array, Array]:
    bases = (_BASE, pow(_BASE, -1, 1 << 64))
    ones = (np.full(count, base, np.uint64) for base in bases)
    powers = []
    for one in ones:
        one[0] = 1
        powers.append(np.multiply.accumulate(one))
    return powers[0], powers[1]


def _powers(count: int) -> tuple[Array, Array]:
    """The powers of the base, and of its inverse, of so many places."""
    room = max(2 * _PIECE, 1 << count.bit_length())
    powers, inverses = _powers_up_to(room)
    return powers[:count], inverses


def _mixed(x: Array) -> Array:
    """Every bit of the result depends on every bit (Steele et al. 2014, splitmix64's end)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
