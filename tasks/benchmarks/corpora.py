"""Sources of text for language modelling: WikiText's articles, and parts of one large file."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from tasks.errors import TaskError
from tasks.sources import files, reading
from tasks.sources.source import Row, check_split

# ` = Title = `, and not ` = = Section = = `.
_TITLE = re.compile(r"^ = [^=].*[^=] = \n?$")
_DOCUMENT = 1_000_000  # bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Articles(files.FileSource):
    """The articles of WikiText's files (Merity et al. 2017), with the column `text`.

    An article begins with its title, ` = Title = ` in a line of its own after an empty one.
    """

    columns: ClassVar[tuple[str, ...]] = ("text",)

    def read(self, path: str) -> Iterator[Row]:
        """The articles of one file, whole."""
        article: list[str] = []
        for _, line in reading.lines(path, self.undecodable, self.limits):
            after_empty = not article or not article[-1].strip()
            if _TITLE.match(line) and after_empty and "".join(article).strip():
                yield {"text": "".join(article)}
                article = []
            article.append(f"{line}\n")
        if "".join(article).strip():
            yield {"text": "".join(article)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Portions(files.FileSource):
    """Consecutive parts of one file as splits, such as text8's and enwik8's (Mahoney 2009).

    A part is in documents of 1,000,000 bytes; each goes on to the end of a character.

    Attributes:
      sizes: bytes of each split, in their order in the file.
    """

    sizes: Mapping[str, int] = dataclasses.field(
        default_factory=lambda: {
            "train": 90_000_000,
            "validation": 5_000_000,
            "test": 5_000_000,
        }
    )

    columns: ClassVar[tuple[str, ...]] = ("text",)

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[Row]:
        """The documents of a split.

        Raises:
          SourceUnavailable: the file cannot be read.
          TaskError: it is not UTF-8, or ends before the split begins.
        """
        check_split(self, split)
        names = list(self.sizes)
        first = sum(self.sizes[name] for name in names[: names.index(split)])
        last = first + self.sizes[split]
        for path in self.shards(split) if shards is None else shards:
            documents = 0
            for text in _between(path, first, last):
                documents += 1
                yield {"text": text}
            if not documents:
                raise TaskError(
                    f"file '{path}' ends before byte {first:,}, where its '{split}' begins."
                )


def _between(path: str, first: int, last: int) -> Iterator[str]:
    """The text between two bytes of a file, in documents that begin and end with characters."""
    from etils import epath

    try:
        with epath.Path(path).open("rb") as file:

            def character_from(place: int) -> int:
                """The first byte from a place on that begins a character."""
                file.seek(place)
                return place + next((i for i, b in enumerate(file.read(4)) if b & 0xC0 != 0x80), 0)

            ends = [*range(first, last, _DOCUMENT), last]
            for begin, end in itertools.pairwise(map(character_from, ends)):
                file.seek(begin)
                data = file.read(end - begin)
                if data:
                    yield reading.decode(data, path, begin, "error")
    except OSError as error:
        raise reading.unavailable(path, error) from None
