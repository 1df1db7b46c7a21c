"""Rows of one example each, found by their number."""

from collections.abc import Mapping
from typing import Any

from t5x_like.data.batch_schedule import BatchSchedule
from t5x_like.data.formats import Item, Row
from t5x_like.data.rows.row_source import ItemAt, State


class NumberedRows:
    """One example a row."""

    def __init__(
        self, item_at: ItemAt, schedule: BatchSchedule, shard_index: int, shard_count: int
    ):
        """Starts at step 0; the arguments are as in `open_dataset`."""
        self._item_at, self._schedule = item_at, schedule
        self._index, self._count = shard_index, shard_count
        self._step = 0
        self.examples_read = 0

    def _read(self, index: int) -> Item:
        item = self._item_at(index)
        self.examples_read += 1
        return item

    def next_rows(self) -> list[Row]:
        """See `RowSource`."""
        first, rows = self._schedule.rows_before(self._step), self._schedule.rows(self._step)
        self._step += 1
        mine = rows // self._count
        first += self._index * mine
        return [(self._read(index),) for index in range(first, first + mine)]

    def get_state(self) -> State:
        """See `RowSource`."""
        return {"step": self._step}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `RowSource`."""
        self._step = int(state["step"])
