"""What tokens are by their spelling: sentinels and full stops."""

import itertools
import re
from collections.abc import Sequence

# SentencePiece's own way to write a sentinel; the first character is its word boundary.
_SENTINEL_PIECE = re.compile("▁?<extra_id_([0-9]+)>")
# With a space before them as SentencePiece or byte-level BPE writes it.
_FULL_STOPS = re.compile("[▁Ġ]?[.]+")


def full_stops(pieces: Sequence[str]) -> list[int]:
    """The places of those pieces that are full stops and nothing else, but for a space."""
    return [i for i, piece in enumerate(pieces) if _FULL_STOPS.fullmatch(piece)]


def own_sentinels(pieces: Sequence[str]) -> int:
    """How many sentinels a list of pieces ends in."""
    return sum(1 for _ in itertools.takewhile(_SENTINEL_PIECE.fullmatch, reversed(pieces)))
