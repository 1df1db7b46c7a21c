"""Parquet files."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from tasks.errors import TaskError
from tasks.sources import files
from tasks.sources.json_lines import as_text
from tasks.sources.source import Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParquetFiles(files.FileSource):
    """Parquet files, read one batch of rows at a time.

    Attributes:
      columns: columns to read. Bytes must be UTF-8, a null becomes an empty text, and other
        values that are not strings are written as JSON.
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
                        yield {column: _text(row[column]) for column in self.columns}
        except (FileNotFoundError, PermissionError) as error:
            raise files.unavailable(path, error) from None
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise TaskError(f"file '{path}' cannot be read as Parquet: {reason}") from None


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.decode() if isinstance(value, bytes) else as_text(value)
