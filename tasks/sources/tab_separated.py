"""TSV and CSV files."""

import csv
import dataclasses
from collections.abc import Iterator, Sequence

from tasks.errors import TaskError
from tasks.sources import files, reading
from tasks.sources.source import PlacedRow, Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class TabSeparated(files.FileSource):
    """Columns separated by tabs and without quotes, as in GLUE's files.

    Attributes:
      columns: names of all columns, in the order of the files.
      header: whether each file begins with a line of names, which is skipped.
    """

    columns: tuple[str, ...]
    header: bool = False

    def read(self, path: str) -> Iterator[Row]:
        """The rows of one file; empty lines are skipped."""
        for number, line in reading.lines(path, self.undecodable, self.limits):
            if not line or (self.header and number == 1):
                continue
            yield _row(self.columns, line.split("\t"), f"file '{path}', line {number}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommaSeparated(files.FileSource):
    """Columns separated by commas; a value with commas, quotes or line ends stands in quotes.

    Quotes within quotes are doubled (RFC 4180), as spreadsheets write them.

    Attributes:
      columns: names of all columns, in the order of the files.
      header: whether each file begins with a line of names, which is skipped.
    """

    columns: tuple[str, ...]
    header: bool = False

    def read(self, path: str) -> Iterator[Row]:
        """The rows of one file; empty lines are skipped."""
        # What stands in quotes may have line ends.
        lines = (f"{line}\n" for _, line in reading.lines(path, self.undecodable, self.limits))
        rows = csv.reader(lines, strict=True)
        first = True
        while True:
            try:
                values = next(rows, None)
            except csv.Error as error:
                raise TaskError(f"file '{path}', line {rows.line_num}: {error}.") from None
            if values is None:
                return
            is_header, first = self.header and first, False
            if not values or is_header:
                continue
            yield _row(self.columns, values, f"file '{path}', line {rows.line_num}")


def _row(columns: Sequence[str], values: Sequence[str], place: str) -> Row:
    if len(values) != len(columns):
        raise TaskError(
            f"{place} has {len(values)} columns: {len(columns)} are named ({', '.join(columns)})."
        )
    return PlacedRow(dict(zip(columns, values, strict=True)), place)
