"""A source whose documents go through filters."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

from tasks.dropped import Dropped
from tasks.errors import TaskError
from tasks.sources import files
from tasks.sources import source as source_lib
from tasks.sources.values import as_text
from tasks.sources.wrappers.wrapper import Wrapper, as_tuples


class Filter(Protocol):
    """What changes a document or drops it. Its fields are all that it depends on.

    A frozen dataclass: its `repr` enters the fingerprint of the source that it filters. One that
    reads files has their names in `files`.
    """

    def __call__(self, text: str, reasons: Counter[str]) -> str | None:
        """What is left of a document; None where nothing is.

        Args:
          text: the document.
          reasons: counts `document: REASON` where it is dropped, `line: REASON` for each line that
            is cut out of it; `tasks.dropped.drop` keeps examples too.
        """


@dataclasses.dataclass(frozen=True)
class Filtered(Wrapper):
    """What filters leave of the rows of a source, in its own shards.

    Attributes:
      source: whose rows these are.
      filters: applied one after the other; what one drops the next does not see. See
        `tasks.filters`.
      column: the column of the document; the others stay as they are.
      dropped: counts, since this object was made, why documents and lines were left out,
        with examples.

    Raises:
      TaskError: no filters, or the source has no such column.
    """

    source: source_lib.Source
    filters: tuple[Filter, ...]
    column: str = "text"
    dropped: Dropped = dataclasses.field(
        default_factory=Dropped, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        as_tuples(self, "filters")
        columns = self.source.columns
        if columns and self.column not in columns:
            raise TaskError(
                f"Filtered.column is '{self.column}': its source has {', '.join(columns)}."
            )
        if not self.filters:
            raise TaskError("Filtered.filters is empty: a list such as [@filters.C4()] is needed.")

    def shards(self, split: str) -> Sequence[str]:
        """The source's."""
        return self.source.shards(split)

    def check_files(self, splits: Sequence[str] | None = None) -> None:
        """The source's and those of the filters; see `source.check_files`."""
        super().check_files(splits)
        for one in self.filters:
            for path in getattr(one, "files", ()):
                files.check_readable(path)

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows of which something is left."""
        for row in self.source.rows(split, shards):
            text: str | None = as_text(row[self.column])  # TFDS gives bytes
            for one in self.filters:
                if text is None:
                    break
                text = one(text, self.dropped)
            if text is not None:
                yield source_lib.PlacedRow.like(row, {**row, self.column: text})

    def why_empty(self, split: str) -> str:
        """What to change where a split has no rows."""
        most = [reason for reason, _ in self.dropped.most_common(3)]
        return "its filters drop all there is" + (f": {', '.join(most)}" if most else "")
