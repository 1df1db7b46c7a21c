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
        first = True
        for number, line in reading.lines(path, self.undecodable, self.limits):
            if not line:
                continue
            values, place = line.split("\t"), f"file '{path}', line {number}"
            if first:
                _check_names(self.columns, values, self.header, place)
            if not first or not self.header:
                yield _row(self.columns, values, place)
            first = False


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
        # The library's own limit is 128 KiB, for all of a process.
        csv.field_size_limit(max(csv.field_size_limit(), self.max_row_bytes))
        rows = csv.reader(lines, strict=True)
        first = True
        while True:
            try:
                values = next(rows, None)
            except csv.Error as error:
                raise TaskError(f"file '{path}', line {rows.line_num}: {error}.") from None
            if values is None:
                return
            if not values:
                continue
            place = f"file '{path}', line {rows.line_num}"
            if first:
                _check_names(self.columns, values, self.header, place)
            if not first or not self.header:
                yield _row(self.columns, values, place)
            first = False


def _check_names(columns: Sequence[str], values: Sequence[str], header: bool, place: str) -> None:
    """Checks the first line of a file, which may name its columns otherwise than they are given.

    Raises:
      TaskError: it is a header that nobody says it is, or has these names in another order.
    """
    given, found = ([name.strip().casefold() for name in names] for names in (columns, values))
    if header and given != found and sorted(given) == sorted(found):
        raise TaskError(
            f"{place} names the columns {', '.join(values)}, in another order than they are given "
            f"({', '.join(columns)}): give them as the file has them."
        )
    # A single word may well be a row.
    if not header and len(given) > 1 and given == found:
        raise TaskError(
            f"{place} is the names of the columns, {', '.join(values)}: HEADER=True leaves such a "
            "line out."
        )


def _row(columns: Sequence[str], values: Sequence[str], place: str) -> Row:
    if len(values) != len(columns):
        raise TaskError(
            f"{place} has {len(values)} columns: {len(columns)} are named ({', '.join(columns)})."
        )
    return PlacedRow(dict(zip(columns, values, strict=True)), place)
