"""The contract of a form, and the plainest one."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np


class Form(Protocol):
    """A row of a source to the text of the features."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""

    @property
    def features(self) -> tuple[str, ...]:
        """The features that it writes as text and that are tokenized."""

    @property
    def kept(self) -> Mapping[str, str]:
        """What else it writes, for the metrics: name to "text" or "texts" (a list)."""

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`{feature: text}` and what is kept.

        Raises:
          TaskError: a value that the form has no text for.
        """


@dataclasses.dataclass(frozen=True)
class PlainText:
    """One column as it is, as `targets`: for what follows the cache to work on.

    Attributes:
      column: the column of the text.
    """

    column: str = "text"

    features: ClassVar[tuple[str, ...]] = ("targets",)
    kept: ClassVar[Mapping[str, str]] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`{"targets": text}`."""
        return {"targets": text_of(row[self.column])}


def text_of(value: Any) -> str:
    """A column's value as text: TFDS gives bytes, and labels as numbers."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
