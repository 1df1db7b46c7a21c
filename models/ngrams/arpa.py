"""ARPA's text format of n-gram models, which KenLM and SRILM read and write.

Tokens are written as their numbers, the one that stands before every text as `<s>` and the end of
a text as `</s>`: the characters of a vocabulary's own tokens may be spaces. Logarithms are to base
10.
"""

import gzip
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from models.errors import ModelError
from models.ngrams.counts import check_order
from models.ngrams.table import Table, level_name

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
# What a probability of 0 is written as; that of the start token, which is never predicted, too.
_NEVER = -99.0
_LINES = 100_000
_VALUES = ("probability", "backoff")

# The logarithms of an n-gram's probability and weight.
_Values = tuple[float, float]
_Levels = list[dict[tuple[int, ...], _Values]]


def write_arpa(path: str | Path, table: Table, *, start_id: int, end_id: int) -> None:
    """Writes a table of probabilities; the file is gzipped if its name ends with `.gz`.

    Tokens that have probability 0 and begin no longer n-gram, such as the padding, are left out.

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
    if order > 1:
        may |= np.diff(table[level_name(2)]["first"]) > 0
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


def read_arpa(path: str | Path, predictable: np.ndarray, *, start_id: int, end_id: int) -> Table:
    """Reads a table of probabilities; the file is gzipped if its name ends with `.gz`.

    What `<unk>` has is divided among the tokens that the file lacks: probabilities sum to 1.

    Args:
      path: as `write_arpa` writes it, or KenLM's lmplz of texts of numbers.
      predictable: which tokens may be predicted, bool `[vocab_size]`.
      start_id: what `<s>` stands for; it is not predicted, whatever the file says.
      end_id: what `</s>` stands for.

    Raises:
      ModelError: it cannot be read, is no such file, or is not whole; the message names the line.
        Or the vocabulary has one token for both ends of a text, where the file has two.
    """
    if start_id == end_id:
        raise ModelError(
            f"'{path}' has two tokens, <s> and </s>, but the vocabulary has one, {end_id}, that "
            "begins a text and ends it: count the n-grams of the task instead."
        )
    try:
        with gzip.open(path, "rt") if str(path).endswith(".gz") else open(path) as file:
            levels, unknown = _parsed(file, str(path), predictable.size, start_id, end_id)
    except FileNotFoundError:
        raise ModelError(f"file '{path}' not found.") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ModelError(f"'{path}' cannot be read: {error}.") from None
    if not levels or not levels[0]:
        raise ModelError(f"'{path}' is no ARPA file: it has no line \\1-grams: with n-grams below.")
    probability = np.zeros(predictable.size, np.float32)
    backoff = np.ones(predictable.size, np.float32)
    for (token,), (p, weight) in levels[0].items():
        probability[token], backoff[token] = _power(p), _power(weight)
    lacking = predictable.copy()
    lacking[[token for (token,) in levels[0]]] = False
    probability[lacking] = unknown / max(1, lacking.sum())
    probability[start_id] = 0.0
    table = {level_name(1): {"probability": probability}}
    places: dict[tuple[int, ...], int] = {(token,): token for token in range(predictable.size)}
    for size, level in enumerate(levels[1:], 2):
        if not level:
            raise ModelError(f"'{path}' has no n-gram of order {size}: leave the order out.")
        table[level_name(size - 1)]["backoff"] = backoff
        table[level_name(size)], backoff, places = _level(level, places, str(path))
    return table


def _parsed(
    lines: Iterable[str], path: str, vocab_size: int, start_id: int, end_id: int
) -> tuple[_Levels, float]:
    """The n-grams of each order, and the probability of `<unk>`."""
    ids = {BEGIN: start_id, END: end_id}
    levels: _Levels = []
    counts: dict[int, int] = {}  # by the file's head
    unknown: float | None = None
    ended = False
    for number, line in enumerate(lines, 1):
        fields = line.split()
        size = len(levels)
        if not levels and (head := re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", line.strip())):
            counts[int(head[1])] = int(head[2])
        elif len(fields) == 1 and re.fullmatch(r"\\\d+-grams:", fields[0]):
            check_order(size + 1)
            if fields[0] != f"\\{size + 1}-grams:":
                raise ModelError(
                    f"'{path}', line {number} is {fields[0]!r}, where \\{size + 1}-grams: is next."
                )
            levels.append({})
        elif fields == ["\\end\\"]:
            ended = True
            break
        elif fields and levels:
            try:
                p, *weight = (float(field) for field in (fields[0], *fields[size + 1 :]))
                if not p <= 0 or not all(map(math.isfinite, weight)):
                    raise ValueError
                if fields[1:2] == [UNKNOWN] and size == 1 and unknown is None:
                    unknown = 10.0**p
                    continue
                gram = tuple(ids[f] if f in ids else int(f) for f in fields[1 : size + 1])
                if len(gram) < size or len(weight) > 1 or not _within(gram, vocab_size):
                    raise ValueError
            except ValueError:
                raise ModelError(
                    f"'{path}', line {number} is no n-gram of {size} tokens, numbers below "
                    f"{vocab_size}, <s> or </s>, with its logarithms, of a probability 0 at most: "
                    f"{line.strip()[:60]!r}."
                ) from None
            if gram in levels[-1]:
                raise ModelError(
                    f"'{path}', line {number} has an n-gram for the second time: "
                    f"{line.strip()[:60]!r}."
                )
            levels[-1][gram] = (p, weight[0] if weight else 0.0)
    if levels:
        _check_whole(levels, counts, path, more=unknown is not None, ended=ended)
    return levels, unknown or 0.0


def _check_whole(
    levels: _Levels, counts: Mapping[int, int], path: str, *, more: bool, ended: bool
) -> None:
    """Compares what was read with the numbers in the file's head, of `more` 1-grams by one."""
    found = {size: len(level) + (more and size == 1) for size, level in enumerate(levels, 1)}
    for size in sorted({*found, *counts}):
        if found.get(size) != counts.get(size):
            raise ModelError(
                f"'{path}' has {found.get(size, 0)} n-grams of order {size}, where its head says "
                f"{counts.get(size, 'nothing')}: it is not whole."
            )
    if not ended:
        raise ModelError(f"'{path}' does not end with \\end\\: it is not whole.")


def _within(gram: tuple[int, ...], vocab_size: int) -> bool:
    return all(0 <= token < vocab_size for token in gram)


def _level(
    level: Mapping[tuple[int, ...], _Values], contexts: Mapping[tuple[int, ...], int], path: str
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[tuple[int, ...], int]]:
    """The arrays of an order but for its weights, these, and the place of each n-gram."""
    found = sorted((contexts.get(gram[:-1], -1), gram[-1], gram) for gram in level)
    if found[0][0] < 0:
        gram = " ".join(map(str, found[0][2]))
        raise ModelError(
            f"'{path}' has the n-gram '{gram}', but not the one without its last token."
        )
    sizes = np.bincount([context for context, _, _ in found], minlength=len(contexts))
    values = np.array([level[gram] for _, _, gram in found])
    arrays = {
        "probability": _power(values[:, 0]).astype(np.float32),
        "token": np.array([token for _, token, _ in found], np.int32),
        "first": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
    }
    places = {gram: place for place, (_, _, gram) in enumerate(found)}
    return arrays, _power(values[:, 1]).astype(np.float32), places


def _power(log10: float | np.ndarray) -> np.ndarray:
    values = np.asarray(log10, np.float64)
    return np.where(values <= _NEVER, 0.0, 10.0**values)
