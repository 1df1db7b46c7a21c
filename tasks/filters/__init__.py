"""Filters of documents, by published rules and by one's own: `sources.Filtered` applies them."""

from tasks.filters.bad_words import BadWords
from tasks.filters.c4 import C4
from tasks.filters.gopher import GopherQuality, GopherRepetition
from tasks.filters.language import Language
from tasks.filters.perplexity import Perplexity
from tasks.filters.quality import MinScore, ParetoKept
from tasks.filters.simple import Function, Length, Pattern

__all__ = [
    "C4",
    "BadWords",
    "Function",
    "GopherQuality",
    "GopherRepetition",
    "Language",
    "Length",
    "MinScore",
    "ParetoKept",
    "Pattern",
    "Perplexity",
]
