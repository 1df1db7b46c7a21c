"""Rows that hold as many examples as fit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from t5x_like.data.batch_schedule import BatchSchedule
from t5x_like.data.formats import Item, Row
from t5x_like.data.rows.packing import FirstFit
from t5x_like.data.rows.row_source import ItemAt, State
from t5x_like.errors import UserError

# Which example a stream reads at a place of its own: stream, ordinal.
StreamItemAt = Callable[[int, int], Item]
# The order in which packed rows take examples; a position of another is refused.
PACKING_ORDER = 2


class _Stream:
    """The examples of one stream, packed into rows."""

    def __init__(self, item_at: ItemAt, packer: FirstFit):
        self._read, self._packer = item_at, packer
        self._next = 0

    @property
    def position(self) -> int:
        """The place of the example that is read next."""
        return self._next

    def next_row(self) -> Row:
        skipped = 0
        while True:
            row = self._packer.overdue()
            if row is not None:
                return [item for _, item in row]
            ordinal = self._next
            self._next += 1
            item = self._read(ordinal)
            if not all(part.size for part in item.parts):
                # Nothing to read or nothing to predict; its segment could not be numbered.
                skipped += 1
                if skipped > 100_000:
                    raise UserError(
                        "100,000 examples in a row have an empty feature; nothing can be packed"
                    )
                continue
            row = self._packer.add([part.size for part in item.parts], (ordinal, item))
            if row is not None:
                return [item for _, item in row]

    def get_state(self) -> State:
        return {
            "next": self._next,
            "open": [[ordinal for ordinal, _ in row] for row in self._packer.rows],
            "opened": list(self._packer.opened),
            "closed": self._packer.closed,
        }

    @property
    def oldest(self) -> int:
        """The place of the first example that is not in a batch."""
        return min((ordinal for row in self._packer.rows for ordinal, _ in row), default=self._next)

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._next = int(state["next"])
        ordinals = sorted(ordinal for row in state["open"] for ordinal in row)
        items = {ordinal: self._read(ordinal) for ordinal in ordinals}  # in the order of the files
        rows = [[(ordinal, items[ordinal]) for ordinal in row] for row in state["open"]]
        self._packer.restore(
            [[([p.size for p in item.parts], (o, item)) for o, item in row] for row in rows],
            state["opened"],
            int(state["closed"]),
        )


class _Singles:
    """The examples of one stream, each a row."""

    def __init__(self, item_at: ItemAt):
        self._read = item_at
        self.position = 0

    @property
    def oldest(self) -> int:
        return self.position

    def next_row(self) -> Row:
        self.position += 1
        return (self._read(self.position - 1),)

    def get_state(self) -> State:
        return {"next": self.position}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.position = int(state["next"])


class StreamOrder(Protocol):
    """What decides which examples a stream reads, as `StreamMixing` does."""

    def begin_batch(self, stream: int, batch: int, ordinal: int) -> None:
        """Is told that a stream is to give rows of a batch, and where it reads next."""

    def get_state(self, stream: int, oldest: int, position: int) -> State:
        """What is kept of a stream, as JSON; see `StreamMixing.get_state`."""

    def set_state(self, stream: int, state: Mapping[str, Any]) -> None:
        """Continues from what was kept."""


class PackedRows:
    """Several examples a row, packed by virtual streams."""

    def __init__(
        self,
        item_at: StreamItemAt,
        capacities: Sequence[int],
        *,
        schedule: BatchSchedule,
        streams: int,
        open_rows: int,
        mixing: StreamOrder,
        mixed: bool,
        shard_index: int,
        shard_count: int,
    ):
        """Starts at the beginning; `streams` divides every batch, `shard_count` divides it.

        Args:
          item_at: the example that a stream reads at a place of its own.
          capacities: tokens a row holds of each part.
          schedule: rows of each batch, of all processes together.
          streams: number of streams, of all processes together.
          open_rows: most rows that a stream keeps open; 0 makes a row of each example.
          mixing: decides which example a stream reads.
          mixed: whether the examples are of several tasks, see `packing`.
          shard_index: which part of each batch is this process's.
          shard_count: number of parts.
        """
        mine = streams // shard_count
        self.examples_read = 0

        def reader(number: int) -> ItemAt:
            def read(ordinal: int) -> Item:
                item = item_at(number, ordinal)
                self.examples_read += 1
                return item

            return read

        def stream(number: int) -> _Stream | _Singles:
            if not open_rows:
                return _Singles(reader(number))
            return _Stream(reader(number), FirstFit(capacities, open_rows, gradual=mixed))

        self._streams = {
            number: stream(number) for number in range(shard_index * mine, (shard_index + 1) * mine)
        }
        self._schedule, self._all_streams, self._mixing = schedule, streams, mixing
        self._step = 0

    def next_rows(self) -> list[Row]:
        """See `RowSource`."""
        rows = self._schedule.rows(self._step) // self._all_streams
        for number, stream in self._streams.items():
            self._mixing.begin_batch(number, self._step, stream.position)
        self._step += 1
        return [stream.next_row() for stream in self._streams.values() for _ in range(rows)]

    def get_state(self) -> State:
        """See `RowSource`; of several processes, each has its own streams only."""
        streams = {
            str(number): {
                **stream.get_state(),
                **self._mixing.get_state(number, stream.oldest, stream.position),
            }
            for number, stream in self._streams.items()
        }
        return {"step": self._step, "order": PACKING_ORDER, "streams": streams}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `RowSource`."""
        for number, stream in self._streams.items():
            if str(number) not in state["streams"]:
                raise UserError(
                    f"the data state lacks stream {number}: the states of all processes must be "
                    "merged (merge_states) before they are saved"
                )
            self._mixing.set_state(number, state["streams"][str(number)])
            stream.set_state(state["streams"][str(number)])
        self._step = int(state["step"])
