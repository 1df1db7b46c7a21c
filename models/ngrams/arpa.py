"""ARPA's text format of n-gram models, which KenLM and SRILM read and write.

Tokens are written as their numbers, the one that stands before every text as `<s>` and the end of
a text as `</s>`: the characters of a vocabulary's own tokens may be spaces. Logarithms are to base
10.
"""

import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from models.ngrams.table import Table, level_name

BEGIN, END = "<s>", "</s>"
# What a probability of 0 is written as; that of the start token, which is never predicted, too.
_NEVER = -99.0
_LINES = 100_000
_VALUES = ("probability", "backoff")


def write_arpa(path: str | Path, table: Table, *, start_id: int, end_id: int) -> None:
    """Writes a table of probabilities; the file is gzipped if its name ends with `.gz`.

    Tokens that have probability 0, such as the padding, are left out.

    Args:
      path: is made.
      table: see `table.estimated_table`, of a smoothing that backs off.
      start_id: the token that stands before every text.
      end_id: the token that ends one.
    """
    order = len(table)
    words = np.array([str(i) for i in range(table[level_name(1)]["probability"].size)], object)
    words[end_id] = END
    words[start_id] = BEGIN
    may = (table[level_name(1)]["probability"] > 0) | (np.arange(words.size) == start_id)
    file: IO[str]
    with gzip.open(path, "wt") if str(path).endswith(".gz") else open(path, "w") as file:
        file.write("\\data\\\n")
        for size in range(1, order + 1):
            count = int(may.sum()) if size == 1 else table[level_name(size)]["token"].size
            file.write(f"ngram {size}={count}\n")
        for size in range(1, order + 1):
            level = table[level_name(size)]
            if size == 1:
                grams = words
            else:
                contexts = np.repeat(np.arange(level["first"].size - 1), np.diff(level["first"]))
                grams = grams[contexts] + " " + words[level["token"]]
            file.write(f"\n\\{size}-grams:\n")
            chosen = np.flatnonzero(may) if size == 1 else np.arange(grams.size)
            for first in range(0, chosen.size, _LINES):
                own = chosen[first : first + _LINES]
                file.writelines(
                    _lines(
                        grams[own], {name: level[name][own] for name in _VALUES if name in level}
                    )
                )
        file.write("\n\\end\\\n")


def _lines(grams: np.ndarray, level: Mapping[str, np.ndarray]) -> Iterator[str]:
    logs = [_log10(level[name]) for name in _VALUES if name in level]
    if len(logs) == 1:
        yield from (f"{p:.7g}\t{gram}\n" for gram, p in zip(grams, *logs, strict=True))
    else:
        rows = zip(grams, *logs, strict=True)
        yield from (f"{p:.7g}\t{gram}\t{b:.7g}\n" for gram, p, b in rows)


def _log10(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.where(values > 0, np.log10(values.astype(np.float64)), _NEVER)
