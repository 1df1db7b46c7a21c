"""What makes rows of a text's sentences."""

import abc
import collections
import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np

from tasks.errors import TaskError
from tasks.forms.form import text_of
from tasks.sources import source as source_lib
from tasks.sources.wrappers.hold_out import unit_hash
from tasks.sources.wrappers.wrapper import Wrapper

# Between sentences: white space after their end, before a capital, a bracket or a quote; a tab
# or a new line in any case.
_BETWEEN = re.compile(r"(?<=[.?!])\s+(?=[A-Z(\"'“])|\s*[\t\n]\s*")
_WORD = re.compile(r"\w+")
# Most texts that are kept for the words that they may lend.
_BEFORE = 1000


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case and without punctuation."""
    return [word.lower() for word in _WORD.findall(text)]


def sentence_places(text: str) -> list[tuple[int, int]]:
    """The characters from which and to before which each sentence of a text stands."""
    places, begin = [], 0
    for end, after in [*(found.span() for found in _BETWEEN.finditer(text)), (len(text),) * 2]:
        begin += len(text[begin:end]) - len(text[begin:end].lstrip())
        end -= len(text[begin:end]) - len(text[begin:end].rstrip())
        if begin < end:
            places.append((begin, end))
        begin = after
    return places


@dataclasses.dataclass(frozen=True)
class OfSentences(Wrapper):
    """Rows made of the sentences of a source's texts; a subclass makes them.

    What is drawn is a function of `seed` and of the texts so far. Rows come in the order of the
    source's.

    Attributes:
      source: has a column `text`.
      seed: of what is drawn.
      copies: how many rows are tried of each sentence.
    """

    source: source_lib.Source
    seed: int = 0
    copies: int = 2

    def __post_init__(self) -> None:
        if "text" not in self.source.columns:
            raise TaskError(
                f"{type(self).__name__}.source has {', '.join(self.source.columns)}: a column "
                "'text' is needed."
            )
        if not isinstance(self.copies, int) or self.copies < 1:
            raise TaskError(
                f"{type(self).__name__}.copies is {self.copies!r}: a whole number of 1 or more."
            )

    @property
    def only_trains(self) -> bool:
        """Whether the source holds nothing out."""
        return getattr(self.source, "only_trains", False)

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows of each text in turn."""
        if shards is not None and not shards:
            return
        before: collections.deque[str] = collections.deque(maxlen=_BEFORE)
        for row in self.source.rows(split):
            text = text_of(row["text"])
            rng = np.random.default_rng([self.seed, int(unit_hash(text) * 2**53)])
            yield from self.made(text, sentence_places(text), before, rng)
            before.append(text)

    @abc.abstractmethod
    def made(
        self,
        text: str,
        places: Sequence[tuple[int, int]],
        before: Sequence[str],
        rng: np.random.Generator,
    ) -> Iterator[source_lib.Row]:
        """The rows of one text.

        Args:
          text: of the source.
          places: of its sentences, as `sentence_places` gives them.
          before: some texts before it, none of the first.
          rng: of all that is drawn.
        """
