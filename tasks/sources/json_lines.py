"""JSONL files, with one JSON object per line."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from tasks.errors import TaskError
from tasks.sources import files
from tasks.sources.source import Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class JsonLines(files.FileSource):
    """Files with one JSON object per line.

    Attributes:
      columns: keys to read. A value that is not a string is written as JSON: `1`, `0.5`, `true`.
    """

    columns: tuple[str, ...] = ("text",)

    def read(self, path: str) -> Iterator[Row]:
        """The objects of one file; empty lines are skipped."""
        for number, line in files.lines(path, self.undecodable):
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
            missing = [column for column in self.columns if column not in value]
            if missing:
                raise TaskError(
                    f"file '{path}', line {number} has no key '{missing[0]}': "
                    f"it has {', '.join(map(repr, value)) or 'none'}."
                )
            row = {column: as_text(value[column]) for column in self.columns}
            if "\\u" in line:
                _check_escapes(row, path, number)
            yield row


def _check_escapes(row: Row, path: str, number: int) -> None:
    """Checks for halves of surrogate pairs, which JSON can express but UTF-8 cannot.

    Raises:
      TaskError: there is one; the message has the line and the column.
    """
    for column, text in row.items():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TaskError(
                f"file '{path}', line {number}, key '{column}' has half a surrogate pair, "
                f"\\u{ord(text[error.start]):04x}: write the whole character."
            ) from None


def as_text(value: Any) -> str:
    """A string unchanged, any other value as JSON; dates and decimals as Python prints them."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
