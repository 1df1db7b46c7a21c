"""Sentinels, full stops and pieces that continue a word, recognised by how they are spelt."""

import itertools
import re
from collections.abc import Sequence

# A sentinel as SentencePiece spells it; the first character marks the beginning of a word.
_SENTINEL_PIECE = re.compile("▁?<extra_id_([0-9]+)>")
# The first character is a space, as SentencePiece or byte-level BPE spells it.
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
