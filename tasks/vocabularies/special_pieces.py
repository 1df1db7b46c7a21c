"""Sentinels, full stops and pieces that continue a word, recognised by how they are spelt."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

# A sentinel as SentencePiece spells it; the first character marks the beginning of a word.
_SENTINEL_PIECE = re.compile("▁?<extra_id_([0-9]+)>")
# The first character is a space, as SentencePiece or byte-level BPE spells it.
# Special tokens by their usual spellings: T5's, GPT's, BERT's and those of SentencePiece.
_SPECIAL = re.compile(
    r"▁?(<extra_id_[0-9]+>|<\|[^|<>]+\|>|</?(?:s|pad|unk|mask|sep|cls|bos|eos|eod|eop)>"
    r"|\[(?:PAD|UNK|MASK|SEP|CLS)\])"
)
_FULL_STOPS = re.compile("[▁Ġ]?[.]+")


def full_stops(pieces: Sequence[str]) -> list[int]:
    """The indices of the pieces that consist of full stops, with or without a space before."""
    return [i for i, piece in enumerate(pieces) if _FULL_STOPS.fullmatch(piece)]


def continuations(pieces: Sequence[str]) -> list[int]:
    """The places of WordPiece's pieces that continue a word (`##able`)."""
    return [i for i, piece in enumerate(pieces) if piece.startswith("##") and len(piece) > 2]


def own_sentinels(pieces: Sequence[str]) -> int:
    """The number of sentinels at the end of a list of pieces."""
    return sum(1 for _ in itertools.takewhile(_SENTINEL_PIECE.fullmatch, reversed(pieces)))


def is_special(piece: str) -> bool:
    """Whether a piece is spelled as special tokens are."""
    return _SPECIAL.fullmatch(piece) is not None


def spelled(tokens: Sequence[str]) -> re.Pattern[str] | None:
    """A pattern of these tokens as they stand in a text, or None where there are none."""
    if not tokens:
        return None
    plain = sorted({token.removeprefix("▁") for token in tokens}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, plain)))


def encode_counted(vocabulary: Any, text: str, special_tokens: str) -> tuple[list[int], int]:
    """The ids of a text, and how many special tokens it spells out.

    Args:
      vocabulary: of any kind.
      text: as it stands in a file.
      special_tokens: "ids" where these become the tokens themselves, "text" where they are text
        like any other.
    """
    count = _spelled_in(vocabulary, text)
    as_text = count and special_tokens == "text"
    return (vocabulary.encode_as_text if as_text else vocabulary.encode)(text), count


def encode_located(
    vocabulary: Any, text: str, special_tokens: str
) -> tuple[list[int], list[tuple[int, int]], int]:
    """`encode_counted`, with the characters from which and to before which each id stands."""
    count = _spelled_in(vocabulary, text)
    encode = vocabulary.encode_with_offsets
    if count and special_tokens == "text":
        encode = vocabulary.encode_as_text_with_offsets
    ids, offsets = encode(text)
    return ids, offsets, count


def _spelled_in(vocabulary: Any, text: str) -> int:
    """How many special tokens a text spells out."""
    known = getattr(vocabulary, "special_tokens", None)
    return len(known.findall(text)) if known else 0
