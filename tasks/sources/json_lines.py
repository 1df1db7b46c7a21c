"""JSONL files, with one JSON object per line."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from tasks.errors import TaskError
from tasks.sources import files, reading, values
from tasks.sources.source import PlacedRow, Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class JsonLines(files.FileSource):
    """Files with one JSON object per line.

    Attributes:
      columns: keys to read, one of an object within the object as `answer/aliases`. A value that
        is not a string is written as JSON: `1`, `0.5`, `true`.
      missing: for rows with null or NaN in a column: "error", or "skip" to leave them out and log
        how many there were.
    """

    columns: tuple[str, ...] = ("text",)
    missing: values.Missing = "error"

    def __post_init__(self) -> None:
        super().__post_init__()
        values.check_missing(self)

    def read(self, path: str) -> Iterator[Row]:
        """The objects of one file; empty lines are skipped."""
        rows = ((f"line {n}", row) for n, row in self._rows(path))
        for row in values.without_missing(rows, path, self.missing):
            texts = {column: values.as_text(value) for column, value in row.items()}
            yield PlacedRow.like(row, texts)

    def _rows(self, path: str) -> Iterator[tuple[int, Row]]:
        for number, line in reading.lines(path, self.undecodable, self.limits):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise TaskError(f"file '{path}', line {number} is not JSON: {error}.") from None
            if not isinstance(value, dict):
                raise TaskError(
                    f"file '{path}', line {number} is a JSON {type(value).__name__}: "
                    "an object is needed."
                )
            row = {}
            for column in self.columns:
                within, key = _within(value, column)
                if key not in within:
                    raise TaskError(
                        f"file '{path}', line {number} has no key '{column}': "
                        f"it has {', '.join(map(repr, value)) or 'none'}."
                    )
                row[column] = within[key]
            if "\\u" in line:
                _check_escapes(row, path, number)
            yield number, row


def _within(value: dict[str, Any], column: str) -> tuple[dict[str, Any], str]:
    """The object that a column is in, and its key there."""
    outer, slash, inner = column.partition("/")
    if column not in value and slash and isinstance(value.get(outer), dict):
        return _within(value[outer], inner)
    return value, column


def _check_escapes(row: Row, path: str, number: int) -> None:
    """Checks for halves of surrogate pairs, which JSON can express but UTF-8 cannot.

    Raises:
      TaskError: there is one; the message has the line and the column.
    """
    for column, value in row.items():
        text = values.as_text(value)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TaskError(
                f"file '{path}', line {number}, key '{column}' has half a surrogate pair, "
                f"\\u{ord(text[error.start]):04x}: write the whole character."
            ) from None
