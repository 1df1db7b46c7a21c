"""What gives the rows of consecutive batches."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from t5x_like.data.formats import Item, Row

State = dict[str, Any]
ItemAt = Callable[[int], Item]


class RowSource(Protocol):
    """Where the rows of consecutive batches come from.

    Attributes:
      examples_read: so far; another thread watches it grow.
    """

    examples_read: int

    def next_rows(self) -> list[Row]:
        """The rows of the next batch, this process's part."""

    def get_state(self) -> State:
        """The position in the data, as JSON."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state."""
