"""Values of columns as text, and those that are missing: one rule for all sources.

A value is missing where a file has null or a number that is none (NaN, Infinity). It is no text:
its row is refused, with the place, or left out and counted. An empty text is a text.
"""

import json
import logging
import math
from collections.abc import Iterator
from typing import Any, Literal

from tasks.errors import TaskError
from tasks.sources.source import PlacedRow, Row

Missing = Literal["error", "skip"]
_LOG = logging.getLogger(__name__)


def is_missing(value: Any) -> bool:
    """Whether a value of a column is null or no finite number."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def as_text(value: Any) -> str:
    """A text unchanged, bytes as UTF-8, other values as JSON; dates as Python prints them.

    Raises:
      UnicodeDecodeError: bytes that are not UTF-8.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return json.dumps(value, ensure_ascii=False, default=_inner_text)


def _inner_text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def check_missing(source: Any) -> None:
    """Checks the setting `missing` of a source.

    Raises:
      TaskError: it is neither "error" nor "skip".
    """
    if source.missing not in ("error", "skip"):
        raise TaskError(
            f"{type(source).__name__}.missing is {source.missing!r}: 'error' or 'skip'."
        )


def without_missing(rows: Iterator[tuple[str, Row]], path: str, missing: str) -> Iterator[Row]:
    """The rows of a file that have a value in every column, each with its place.

    Args:
      rows: the place of each, `line 3`, and its values.
      path: of the file.
      missing: "error", or "skip" to leave the others out and log how many there were.

    Raises:
      TaskError: a value is missing; file, place and column.
    """
    left_out: dict[str, int] = {}
    for place, row in rows:
        column = next((name for name, value in row.items() if is_missing(value)), None)
        if column is None:
            yield PlacedRow(row, f"file '{path}', {place}")
        elif missing == "error":
            raise TaskError(
                f"file '{path}', {place} has no value in '{column}' ({row[column]}): write one, or "
                "leave such rows out with missing='skip'."
            )
        else:
            left_out[column] = left_out.get(column, 0) + 1
    for column, count in left_out.items():
        _LOG.warning("file '%s': %d rows left out, without a value in '%s'.", path, count, column)
