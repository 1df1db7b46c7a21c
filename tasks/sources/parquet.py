"""Parquet files."""

import dataclasses
from collections.abc import Iterator

from tasks.errors import TaskError
from tasks.sources import files, values
from tasks.sources.reading import unavailable
from tasks.sources.source import PlacedRow, Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParquetFiles(files.FileSource):
    """Parquet files, read one batch of rows at a time.

    Attributes:
      columns: columns to read. Bytes must be UTF-8, and other values that are not strings are
        written as JSON.
      missing: as for `JsonLines`.
    """

    columns: tuple[str, ...] = ("text",)
    missing: values.Missing = "error"

    def __post_init__(self) -> None:
        super().__post_init__()
        values.check_missing(self)

    def read(self, path: str) -> Iterator[Row]:
        """The rows of one file."""
        rows = ((f"row {n}", row) for n, row in enumerate(self._rows(path), start=1))
        for row in values.without_missing(rows, path, self.missing):
            try:
                texts = {column: values.as_text(value) for column, value in row.items()}
                yield PlacedRow.like(row, texts)
            except UnicodeDecodeError as error:
                raise TaskError(f"file '{path}' cannot be read as Parquet: {error}") from None

    def _rows(self, path: str) -> Iterator[Row]:
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
                        yield {column: row[column] for column in self.columns}
        except (FileNotFoundError, PermissionError) as error:
            raise unavailable(path, error) from None
        except (pyarrow.ArrowException, OSError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise TaskError(f"file '{path}' cannot be read as Parquet: {reason}") from None
