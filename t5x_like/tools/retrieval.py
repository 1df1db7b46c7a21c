"""Retrieval over files: the passages that a query's words fit best, by BM25."""

import collections
import dataclasses
import functools
import glob
import json
import math
import re
from collections.abc import Iterator, Sequence

from t5x_like.errors import UserError
from t5x_like.host import files

_WORD = re.compile(r"\w+")


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Finds passages of files: Okapi's BM25, with an idf that is never below 0.

    A passage's score is the sum over the words of the query, each as often as it stands there, of
    `idf · f (k1 + 1) / (f + k1 (1 - b + b l / l̄))`: f how often the passage has the word, l its
    words, l̄ those of a passage on average, and idf `ln(1 + (N - n + ½) / (n + ½))` of N passages
    with the word in n of them (Robertson and Zaragoza 2009, section 3.4). Words are letters and
    digits without regard to case. The files are read when something is first asked.

    Attributes:
      files: paths or globs. Of a text file each paragraph, the lines between empty ones, is a
        passage; of a `.jsonl` each line, an object with a `text`, whose `url`, if there is one,
        stands behind it.
      results: the most passages for a query, the best first; of equals the earlier one.
      most_words: of a passage; a longer one is cut into several.
      k1: how soon further occurrences of a word count less.
      b: how much the length of a passage counts, from 0 to 1.
    """

    files: str | Sequence[str]
    results: int = 3
    most_words: int = 100
    k1: float = 1.2
    b: float = 0.75

    def __post_init__(self) -> None:
        if isinstance(self.files, str):
            object.__setattr__(self, "files", (self.files,))
        object.__setattr__(self, "files", tuple(self.files))  # a list, from gin
        if not self.files:
            raise UserError("Retrieval.files is empty: give the files to look in, or globs.")
        for name, least in (("results", 1), ("most_words", 1), ("k1", 0), ("b", 0)):
            if getattr(self, name) < least:
                raise UserError(
                    f"Retrieval.{name} is {getattr(self, name)}: {least} is the least that it can "
                    "be."
                )

    def __call__(self, query: str) -> list[str]:
        """The best passages; an empty list where no word of the query is in any.

        Raises:
          UserError: a file cannot be read, or there is none.
        """
        found = self._index
        scores: dict[int, float] = collections.defaultdict(float)
        for word in _words(query):
            having = found.having.get(word, ())
            rarity = math.log(1 + (len(found.texts) - len(having) + 0.5) / (len(having) + 0.5))
            for passage, count in having:
                length = found.lengths[passage] / found.mean_length
                damped = count + self.k1 * (1 - self.b + self.b * length)
                scores[passage] += rarity * count * (self.k1 + 1) / damped
        best = sorted(scores, key=lambda passage: (-scores[passage], passage))
        return [found.texts[passage] for passage in best[: self.results]]

    @functools.cached_property
    def _index(self) -> "_Index":
        texts: list[str] = []
        lengths: list[int] = []
        having: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)
        for text, source in self._passages():
            words = _words(text)
            if not words:
                continue
            for word, count in collections.Counter(words).items():
                having[word].append((len(texts), count))
            texts.append(f"{text} {source}".rstrip())
            lengths.append(len(words))
        if not texts:
            raise UserError(f"Retrieval.files: no text in {', '.join(self.files)}.")
        return _Index(texts, lengths, sum(lengths) / len(lengths), having)

    def _passages(self) -> Iterator[tuple[str, str]]:
        """Every passage, and where it is from."""
        for path in self._paths():
            try:
                text = files.location(path).read_bytes().decode("utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"Retrieval.files: '{path}' cannot be read: {error}.") from error
            whole = _lines(text, path) if path.endswith(".jsonl") else _paragraphs(text)
            for passage, source in whole:
                words = passage.split()
                for first in range(0, len(words), self.most_words):
                    yield " ".join(words[first : first + self.most_words]), source

    def _paths(self) -> list[str]:
        found: list[str] = []
        for pattern in self.files:
            # A name with brackets is a name where there is such a file.
            exact = files.is_remote(pattern) or files.location(pattern).exists()
            matching = [pattern] if exact else sorted(glob.glob(pattern, recursive=True))
            if not matching:
                raise UserError(f"Retrieval.files: no file is called '{pattern}'.")
            found += matching
        return list(dict.fromkeys(found))


@dataclasses.dataclass(frozen=True)
class _Index:
    """Passages by their words.

    Attributes:
      texts: of each passage, as it is given out.
      lengths: words of each.
      mean_length: of all.
      having: of each word the passages that have it, with how often.
    """

    texts: list[str]
    lengths: list[int]
    mean_length: float
    having: dict[str, list[tuple[int, int]]]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _paragraphs(text: str) -> Iterator[tuple[str, str]]:
    for paragraph in re.split(r"\n\s*\n", text):
        yield paragraph, ""


def _lines(text: str, path: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise UserError(
                f"Retrieval.files: '{path}', line {number} is no JSON object with a text 'text'."
            )
        yield row["text"], str(row.get("url") or "")
