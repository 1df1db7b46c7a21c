"""TSV files."""

import dataclasses
from collections.abc import Iterator

from tasks.errors import TaskError
from tasks.sources import files
from tasks.sources.source import Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class TabSeparated(files.FileSource):
    """Columns with a tab between them, nothing quoted, as GLUE's files are.

    Attributes:
      columns: names of all columns, in the files' order.
      header: whether each file begins with a line of names, which is left out.
    """

    columns: tuple[str, ...]
    header: bool = False

    def read(self, path: str) -> Iterator[Row]:
        """The rows of one file; empty lines are left out."""
        for number, line in files.lines(path, self.undecodable):
            if not line or (self.header and number == 1):
                continue
            values = line.split("\t")
            if len(values) != len(self.columns):
                raise TaskError(
                    f"file '{path}', line {number} has {len(values)} columns: {len(self.columns)} "
                    f"are named ({', '.join(self.columns)})."
                )
            yield dict(zip(self.columns, values, strict=True))
