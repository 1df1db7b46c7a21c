"""The rows of a source that have certain values in a column."""

import dataclasses
from collections.abc import Iterator, Sequence

from tasks.errors import TaskError
from tasks.sources import source as source_lib
from tasks.sources.wrappers.wrapper import Wrapper, as_tuples, in_texts


@dataclasses.dataclass(frozen=True)
class Where(Wrapper):
    """Rows whose column has one of some values; of other splits all rows.

    Attributes:
      source: whose rows these are.
      column: the column.
      values: what stands in it, as text, in the rows that are kept.
      only_in: the splits that rows are left out of; None for all.
    """

    source: source_lib.Source
    column: str
    values: tuple[str, ...]
    only_in: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        as_tuples(self, "values", "only_in")
        columns = self.source.columns
        if columns and self.column not in columns:
            raise TaskError(
                f"Where.column is '{self.column}': its source has {', '.join(columns)}."
            )
        if isinstance(self.values, str) or not self.values:
            raise TaskError(
                f"Where.values is {self.values!r}: a list of what '{self.column}' has in the rows "
                "that are kept is needed."
            )

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows that are kept, each value as text."""
        if shards is not None and not shards:
            return
        kept = None if self.only_in is not None and split not in self.only_in else set(self.values)
        for row in map(in_texts, self.source.rows(split)):
            if kept is None or row[self.column] in kept:
                yield row

    def why_empty(self, split: str) -> str:
        """What to change where a split has no rows."""
        return (
            f"no row has one of {', '.join(self.values)} in its column '{self.column}': see "
            "Where.values"
        )
