"""Parquet files."""

import dataclasses
from collections.abc import Iterator

from tasks.errors import SourceUnavailable, TaskError
from tasks.sources import files
from tasks.sources.json_lines import as_text
from tasks.sources.source import Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParquetFiles(files.FileSource):
    """Parquet, read a batch of rows at a time.

    Attributes:
      columns: columns to read. What is not a string is written as JSON; a null is empty.
    """

    columns: tuple[str, ...] = ("text",)

    def read(self, path: str) -> Iterator[Row]:
        """The rows of one file."""
        import pyarrow
        from etils import epath
        from pyarrow import parquet

        try:
            with epath.Path(path).open("rb") as f:
                file = parquet.ParquetFile(f)
                missing = sorted(set(self.columns) - set(file.schema_arrow.names))
                if missing:
                    raise TaskError(
                        f"file '{path}' has no column '{missing[0]}': "
                        f"it has {', '.join(file.schema_arrow.names)}."
                    )
                for batch in file.iter_batches(columns=list(self.columns)):
                    for row in batch.to_pylist():
                        yield {
                            column: "" if row[column] is None else as_text(row[column])
                            for column in self.columns
                        }
        except FileNotFoundError:
            raise SourceUnavailable(f"file '{path}' not found.") from None
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise TaskError(f"file '{path}' cannot be read as Parquet: {reason}") from None
