"""CCNet's filter: documents that an n-gram model finds likely (Wenzek et al. 2020, section 4)."""

import dataclasses
import functools
import gzip
import hashlib
import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.dropped import drop
from tasks.errors import TaskError
from tasks.sources.reading import unavailable
from tasks.vocabularies.vocabulary import Vocabulary

_BEGIN, _END, _UNKNOWN = "<s>", "</s>", "<unk>"


@dataclasses.dataclass(frozen=True)
class NGrams:
    """An n-gram model with weights of shorter contexts, as ARPA's format has it.

    Attributes:
      order: words of the longest n-grams.
      values: log10 of the probability and of the weight of each n-gram, its words between spaces.
      checksum: of the file.
    """

    order: int
    values: Mapping[str, tuple[float, float]]
    checksum: str = ""

    @functools.cached_property
    def begin(self) -> str:
        """What stands before a text.

        Where texts were joined and then cut into rows, as `tasks/causal_lm.gin` does, that is the
        end of another text: `<s>` begins each row, wherever in a text.
        """
        is_joined = any(gram.startswith(f"{_END} ") for gram in self.values)
        return _END if is_joined else _BEGIN

    def perplexity(self, words: Sequence[str]) -> float:
        """Of a text, its end counted as a word."""
        context = [self.begin]
        total = 0.0
        for word in (*words, _END):
            if word not in self.values:
                word = _UNKNOWN
            total += self._log10(context, word)
            context = [*context, word][-(self.order - 1) :] if self.order > 1 else []
        return 10 ** (-total / (len(words) + 1))

    def _log10(self, context: Sequence[str], word: str) -> float:
        weight = 0.0
        for begin in range(len(context) + 1):
            found = self.values.get(" ".join((*context[begin:], word)))
            if found is not None:
                return weight + found[0]
            shorter = self.values.get(" ".join(context[begin:]))
            weight += shorter[1] if shorter is not None else 0.0
        raise TaskError(f"the n-gram model has no {_UNKNOWN}, and does not know '{word}'.")


@functools.cache
def read_arpa(path: str) -> NGrams:
    """Reads a model in ARPA's format, gzipped where its name ends in `.gz`.

    Raises:
      TaskError: the file is missing, is none, or is not whole.
    """
    try:
        data = Path(path).expanduser().read_bytes()
        text = (gzip.decompress(data) if path.endswith(".gz") else data).decode()
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TaskError(f"file '{path}' is no n-gram model in ARPA's format: {error}.") from None
    except OSError as error:
        raise unavailable(path, error) from None
    try:
        order, values = _parsed(text)
    except ValueError as error:
        raise TaskError(
            f"file '{path}' is no n-gram model in ARPA's format, or not whole: it {error}."
        ) from None
    return NGrams(order, values, hashlib.sha256(data).hexdigest())


def _parsed(text: str) -> tuple[int, dict[str, tuple[float, float]]]:
    """The order and the values; what `models/ngrams/arpa.py` refuses is refused here."""
    values: dict[str, tuple[float, float]] = {}
    stated: dict[int, int] = {}
    found: dict[int, int] = {}
    order = 0
    lines = (line.rstrip("\r") for line in text.split("\n"))  # words may hold other ends of lines
    for line in lines:
        if not order and (head := re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)\s*", line)):
            stated[int(head[1])] = int(head[2])
        elif line.rstrip() == f"\\{order + 1}-grams:":
            order += 1
            found[order] = 0
        elif line.rstrip() == "\\end\\":
            break
        elif order and line.strip():
            gram, value = _entry(line, order)
            if gram in values:
                raise ValueError(f"has {gram!r} twice")
            values[gram] = value
            found[order] += 1
    else:
        raise ValueError("does not end with \\end\\" if order else "has no n-grams")
    for size in sorted({*stated, *found}):
        if stated.get(size) != found.get(size):
            raise ValueError(
                f"has {found.get(size, 0)} n-grams of order {size}, where its head says "
                f"{stated.get(size, 'nothing')}"
            )
    if not values:
        raise ValueError("has no n-grams")
    return order, values


def _entry(line: str, order: int) -> tuple[str, tuple[float, float]]:
    """An n-gram and its values, of a line."""
    try:
        log10, gram, *weights = line.split("\t")
        log_probability, weight = map(float, (log10, *(weights or ("0",))))
        # NaN is not below 0 either.
        if gram.count(" ") + 1 == order and log_probability <= 0 and math.isfinite(weight):
            return gram, (log_probability, weight)
    except ValueError:
        pass
    raise ValueError(f"has the line {line[:40]!r}")


@dataclasses.dataclass(frozen=True, repr=False)
class Perplexity:
    """Drops documents that an n-gram model finds unlikely, or too likely.

    CCNet parts a language's documents in three at the 30th and 60th percentile of the perplexity
    under a 5-gram model of Wikipedia.

    Attributes:
      model: a file in ARPA's format: of `t5x-like ngram --arpa`, or of KenLM.
      max_perplexity: largest that is kept.
      vocabulary: makes tokens, by whose numbers `t5x-like ngram` knows them; None parts words at
        white space.
      min_perplexity: least that is kept.
      lines: whether each line is a text of its own, as in CCNet.
    """

    model: str
    max_perplexity: float
    vocabulary: Vocabulary | None = None
    min_perplexity: float = 0.0
    lines: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """What is read."""
        return (self.model,)

    def __call__(self, text: str, reasons: Counter[str]) -> str | None:
        """The text as it is, or None.

        Raises:
          TaskError: the file of the model is missing, or is none.
        """
        found = self.perplexity(text)
        if found > self.max_perplexity:
            drop(reasons, "document: too unlikely", text)
        elif found < self.min_perplexity:
            drop(reasons, "document: too likely", text)
        else:
            return text
        return None

    def perplexity(self, text: str) -> float:
        """Of the words or tokens, and the ends, of a document."""
        model = read_arpa(self.model)
        texts = [line for line in text.splitlines() if line.strip()] if self.lines else [text]
        nats = count = 0.0
        for part in texts:
            words = self._words(part)
            nats += math.log(model.perplexity(words)) * (len(words) + 1)
            count += len(words) + 1
        return math.exp(nats / count) if count else 1.0

    def _words(self, text: str) -> list[str]:
        if self.vocabulary is None:
            return text.split()
        return [str(token) for token in self.vocabulary.encode(text)]

    def __repr__(self) -> str:
        """By what stands in the file, so that another model is another filter."""
        spec: Any = None if self.vocabulary is None else self.vocabulary.spec()
        settings = self.max_perplexity, self.min_perplexity, self.lines, spec
        model = read_arpa(self.model)
        joined = ", of joined texts" if model.begin == _END else ""
        return f"Perplexity(sha256={model.checksum}, {settings}{joined})"
