"""Files with a word a line, in the columns of CoNLL's shared tasks."""

import dataclasses
import json
from collections.abc import Iterator
from typing import ClassVar

from tasks.errors import TaskError
from tasks.sources import files, reading
from tasks.sources.source import PlacedRow, Row

_DOCUMENT = "-DOCSTART-"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConllColumns(files.FileSource):
    """Sentences, each a row with the columns `words` and `tags`, lists as JSON.

    A line has a word and what is said of it in columns, between tabs where it has any and else
    between spaces. An empty line ends a sentence, and so does one that begins with -DOCSTART-,
    which divides documents (Tjong Kim Sang and De Meulder 2003, section 2.2).

    Attributes:
      word_column: where the words are, from 0; -1 is the last column.
      tag_column: where the tags are.
      comment: how lines begin that are skipped, such as "#" in CoNLL-U; "" where there are none.
    """

    word_column: int = 0
    tag_column: int = -1
    comment: str = ""

    columns: ClassVar[tuple[str, ...]] = ("words", "tags")

    def read(self, path: str) -> Iterator[Row]:
        """The sentences of one file.

        Raises:
          TaskError: a line has not as many columns as the first, or fewer than are asked for.
        """
        words: list[str] = []
        tags: list[str] = []
        first, begin = None, 0
        for number, line in reading.lines(path, self.undecodable, self.limits):
            if self.comment and line.startswith(self.comment):
                continue
            if not line.strip() or line.startswith(_DOCUMENT):
                if words:
                    yield self._row(words, tags, f"file '{path}', line {begin}")
                words, tags = [], []
                continue
            begin = begin if words else number
            values = line.split("\t") if "\t" in line else line.split(" ")
            values = [value for value in map(str.strip, values) if value]
            first = first or (number, len(values))
            found = f"file '{path}', line {number} has {_counted(len(values))}"
            if len(values) != first[1]:
                raise TaskError(
                    f"{found}, but line {first[0]} has {first[1]}: give every word as many, and an "
                    "empty line after each sentence."
                )
            if len(values) < 2:
                raise TaskError(f"{found}: a word and its tag are needed.")
            try:
                word, tag = values[self.word_column], values[self.tag_column]
            except IndexError:
                raise TaskError(
                    f"{found}: word_column is {self.word_column} and tag_column {self.tag_column}, "
                    "counted from 0."
                ) from None
            words.append(word)
            tags.append(tag)
        if words:
            yield self._row(words, tags, f"file '{path}', line {begin}")

    def _row(self, words: list[str], tags: list[str], place: str) -> Row:
        values = (json.dumps(value, ensure_ascii=False) for value in (words, tags))
        return PlacedRow(dict(zip(self.columns, values, strict=True)), place)


def _counted(columns: int) -> str:
    return f"{columns} column{'' if columns == 1 else 's'}"
