"""Files of documents: JSON lines, Parquet and plain text, plain, gzip or zstd."""

import abc
import contextlib
import dataclasses
import gzip
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from t5x_like.errors import UserError
from t5x_like.host import disk_space, files

ENDINGS = ("jsonl", "jsonl.gz", "jsonl.zst", "parquet", "txt", "txt.gz", "txt.zst")
_ROWS_AT_ONCE = 1000  # of Parquet, a row group

Row = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """How rows are written.

    Attributes:
      ending: one of `ENDINGS`.
      separator: between the documents of plain text.

    Raises:
      UserError: no such ending, or an empty separator.
    """

    ending: str = "jsonl.zst"
    separator: str = "\n\n"

    def __post_init__(self) -> None:
        if self.ending not in ENDINGS:
            raise UserError(f"--format={self.ending}: there are {', '.join(ENDINGS)}.")
        if not self.separator:
            raise UserError("--separator is empty: documents could not be told apart.")

    def check_columns(self, columns: Sequence[str]) -> None:
        """Refuses columns that the files have no place for.

        Raises:
          UserError: plain text has one column.
        """
        if self.ending.startswith("txt") and len(columns) != 1:
            raise UserError(
                f"--format=txt has no place for the columns {', '.join(columns)}: write jsonl.zst."
            )

    @contextlib.contextmanager
    def writer(self, path: Path, columns: Sequence[str]) -> Iterator["Writer"]:
        """Writes a file, all or nothing.

        Args:
          path: of the file.
          columns: of the rows.

        Raises:
          UserError: plain text has one column, and no document that holds the separator.
          DiskFull: there is no room.
        """
        opened = contextlib.ExitStack()
        try:
            with disk_space.explained(path):
                writer = self._opened(opened, path, columns)
            # The body is not within: it reads, and what it cannot read is no error of this file.
            yield _Explained(writer, path)
        except BaseException:
            opened.__exit__(*sys.exc_info())
            raise
        with disk_space.explained(path):
            opened.close()

    def _opened(self, opened: contextlib.ExitStack, path: Path, columns: Sequence[str]) -> "Writer":
        self.check_columns(columns)
        file = cast(IO[bytes], opened.enter_context(files.replacing(path)))
        if self.ending == "parquet":
            return opened.enter_context(_ParquetWriter(file, columns))
        packed = opened.enter_context(self._packed(file))
        if self.ending.startswith("txt"):
            return _TextWriter(packed, columns, self.separator, path)
        return _JsonLinesWriter(packed, columns)

    @contextlib.contextmanager
    def _packed(self, file: IO[bytes]) -> Iterator[IO[bytes]]:
        if self.ending.endswith(".gz"):
            # Without a time and a name: the same rows are the same bytes.
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                yield cast(IO[bytes], packed)
        elif self.ending.endswith(".zst"):
            import zstandard

            with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as packed:
                yield cast(IO[bytes], packed)
        else:
            yield file


class Writer(abc.ABC):
    """Takes the rows of one file."""

    @abc.abstractmethod
    def add(self, row: Row) -> None:
        """Writes a row."""


class _Explained(Writer):
    """Says in one line why the disk took no more."""

    def __init__(self, writer: Writer, path: Path) -> None:
        self._writer, self._path = writer, path

    def add(self, row: Row) -> None:
        with disk_space.explained(self._path):
            self._writer.add(row)


class _JsonLinesWriter(Writer):
    def __init__(self, file: IO[bytes], columns: Sequence[str]) -> None:
        self._file, self._columns = file, columns

    def add(self, row: Row) -> None:
        line = json.dumps({name: row[name] for name in self._columns}, ensure_ascii=False)
        self._file.write(line.encode() + b"\n")


class _TextWriter(Writer):
    def __init__(self, file: IO[bytes], columns: Sequence[str], separator: str, path: Path) -> None:
        self._file, (self._column,), self._separator = file, columns, separator
        self._path, self._first = path, True

    def add(self, row: Row) -> None:
        # As text files are read: the ends of lines are LF, and those at a document's end are none
        # of its own.
        text = row[self._column].replace("\r\n", "\n").rstrip("\n")
        if (text + self._separator).find(self._separator) < len(text):
            raise UserError(
                f"'{self._path.name}': a document holds the separator {self._separator!r}, and "
                f"would be read as several ({text[:40]!r}): give another --separator, or jsonl.zst."
            )
        self._file.write(text.encode() if self._first else (self._separator + text).encode())
        self._first = False


class _ParquetWriter(Writer):
    def __init__(self, file: IO[bytes], columns: Sequence[str]) -> None:
        import pyarrow
        from pyarrow import parquet

        self._schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
        self._writer: Any = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[Row] = []

    def __enter__(self) -> "_ParquetWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def add(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) == _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        self._writer.write_table(pyarrow.Table.from_pylist(self._rows, self._schema))
        self._rows = []
