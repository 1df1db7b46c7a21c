"""Endless training batches with a small, exact state, made ahead in a background thread.

Two ways to fill a batch. *Rows by number*: where every example is a row, row r of step s is example
n + r, n being the rows of all batches before it, and the state is the step. *Packed streams*: where
a row holds as many examples as fit, a fixed number of virtual streams share the examples of each
task, and each mixes and packs its own; the state holds, for each stream, how far it has read and
which examples stand in its open rows. In both, the batch of a step is the same for any number of
processes.
"""

import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from t5x_like.data.batch_schedule import BatchSchedule
from t5x_like.data.effort import Effort
from t5x_like.data.formats import Item, ModelBatch, Row
from t5x_like.data.packing import FirstFit
from t5x_like.errors import DataFault, UserError

State = dict[str, Any]
ItemAt = Callable[[int], Item]
# Which example a stream reads at a place of its own: stream, ordinal.
StreamItemAt = Callable[[int, int], Item]
# The order in which packed rows take examples; a position of another is refused.
PACKING_ORDER = 2
_LOOK_EVERY = 1.0  # seconds; a process that was stopped for an hour has lost one look
_SLOW = 60.0  # seconds without a batch after which the user is told
_LEAVE = 5.0  # seconds that the background thread has to end


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


class _Stream:
    """The examples of one stream, packed into rows."""

    def __init__(self, item_at: ItemAt, packer: FirstFit):
        self._read, self._packer = item_at, packer
        self._next = 0

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

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._next = int(state["next"])
        rows = [[(ordinal, self._read(ordinal)) for ordinal in row] for row in state["open"]]
        self._packer.restore(
            [[([p.size for p in item.parts], (o, item)) for o, item in row] for row in rows],
            state["opened"],
            int(state["closed"]),
        )


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
          open_rows: most rows that a stream keeps open.
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

        self._streams = {
            number: _Stream(reader(number), FirstFit(capacities, open_rows, gradual=mixed))
            for number in range(shard_index * mine, (shard_index + 1) * mine)
        }
        self._schedule, self._all_streams = schedule, streams
        self._step = 0

    def next_rows(self) -> list[Row]:
        """See `RowSource`."""
        rows = self._schedule.rows(self._step) // self._all_streams
        self._step += 1
        return [stream.next_row() for stream in self._streams.values() for _ in range(rows)]

    def get_state(self) -> State:
        """See `RowSource`; of several processes, each has its own streams only."""
        streams = {str(number): s.get_state() for number, s in self._streams.items()}
        return {"step": self._step, "order": PACKING_ORDER, "streams": streams}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `RowSource`."""
        for number, stream in self._streams.items():
            if str(number) not in state["streams"]:
                raise UserError(
                    f"the data state lacks stream {number}: the states of all processes must be "
                    "merged (merge_states) before they are saved"
                )
            stream.set_state(state["streams"][str(number)])
        self._step = int(state["step"])


def merge_states(states: Sequence[Mapping[str, Any]]) -> State:
    """One state, for any number of processes, from those of all processes at the same step.

    Raises:
      ValueError: the states are not of the same step of the same data.
    """
    first = states[0]
    for state in states:
        if state["step"] != first["step"] or state["data"] != first["data"]:
            raise ValueError("the data states of the processes belong to different steps")
    merged = dict(first)
    if "streams" in first:
        streams = {k: v for state in states for k, v in state["streams"].items()}
        merged["streams"] = dict(sorted(streams.items(), key=lambda pair: int(pair[0])))
    return merged


@dataclass(frozen=True)
class _Prefetched:
    batch: ModelBatch | None
    state: State
    error: BaseException | None = None


class DataIterator:
    """Batches of training data, with a state that can be saved between any two of them.

    Iterating never ends, and never hangs: where the background thread dies, or cannot read a
    single example for a while, the next batch is an error. `close` (or leaving a `with` block)
    stops the thread.

    Attributes:
      making: what making the batches has taken.
      epochs: of a position, how often each task has been gone through, by its name.
    """

    def __init__(
        self,
        rows: RowSource,
        convert: Callable[[Sequence[Row]], ModelBatch],
        identity: str,
        prefetch: int,
        patience: float | None = None,
        epochs: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda state: {},
    ):
        """Joins rows and their conversion.

        Args:
          rows: where rows come from.
          convert: lays them out.
          identity: what the data is; a state of other data is refused.
          prefetch: batches made ahead; 0 makes each when it is asked for.
          patience: seconds without a single example read, after which the background thread is
            given up; None waits for ever.
          epochs: see the attribute.
        """
        self._rows, self._convert = rows, convert
        self._identity, self._prefetch, self._patience = identity, prefetch, patience
        self.making, self.epochs = Effort(), epochs
        self._state = rows.get_state()
        self._queue: queue.Queue[_Prefetched] = queue.Queue(max(prefetch, 1))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def __iter__(self) -> Iterator[ModelBatch]:
        return self

    def __enter__(self) -> "DataIterator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self) -> _Prefetched:
        with self.making.one_batch():
            rows = self._rows.next_rows()
            return _Prefetched(self._convert(rows), self._rows.get_state())

    def is_ready(self) -> bool:
        """Whether the next batch, or an error, is there; always where none is made ahead.

        Otherwise it is being made.
        """
        if self._prefetch == 0 or self._closed:
            return True
        self._started()
        return not self._queue.empty()

    def _started(self) -> threading.Thread:
        """The background thread."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._fill, args=(self._stop, self._queue), name="data", daemon=True
            )
            self._thread.start()
        return self._thread

    def _fill(self, stop: threading.Event, ready: "queue.Queue[_Prefetched]") -> None:
        while not stop.is_set():
            try:
                item = self._make()
            except BaseException as error:
                item = _Prefetched(None, {}, error)
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if item.error is not None:
                return

    def __next__(self) -> ModelBatch:
        """The next batch, int32 `[rows of this process, length]` for each feature.

        Raises:
          DataFault: the background thread is gone, or reads nothing any more.
        """
        if self._closed:
            raise ValueError("this data iterator was closed")
        item = self._make() if self._prefetch == 0 else self._wait(self._started())
        if item.error is not None:
            self._halt()
            raise item.error
        self._state = item.state
        assert item.batch is not None
        return item.batch

    def _wait(self, thread: threading.Thread) -> _Prefetched:
        """What the background thread makes next."""
        waited = silent = 0.0
        read = self._rows.examples_read
        while True:
            alive = thread.is_alive()  # before looking: what it put last is then there
            try:
                return self._queue.get(timeout=_LOOK_EVERY if alive else 0)
            except queue.Empty:
                if not alive:
                    raise DataFault(
                        "the thread that reads the data has ended without saying why"
                    ) from None
            waited += _LOOK_EVERY
            silent = 0.0 if self._rows.examples_read > read else silent + _LOOK_EVERY
            read = self._rows.examples_read
            if self._patience is not None and silent >= self._patience:
                self._halt()
                raise DataFault(
                    f"no example could be read for {silent:.0f} s: the disk or network file system "
                    "of the cache does not answer (DatasetConfig.patience)"
                )
            if waited >= _SLOW:
                waited = 0.0
                print(
                    f"no batch for {_SLOW:.0f} s: reading is slow ({read:,} examples so far)",
                    file=sys.stderr,
                    flush=True,
                )

    def get_state(self) -> State:
        """Where the next batch begins, as a JSON-serializable dict."""
        return {"data": self._identity, **self._state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues exactly where `get_state` was called, whatever the number of processes.

        Raises:
          UserError: the state belongs to other data, or to another batch size or seed.
        """
        if state.get("data") != self._identity:
            if "streams" in state and state.get("order") != PACKING_ORDER:
                raise UserError(
                    "the saved data position is of an earlier version, which took the examples of "
                    "packed rows in another order: finish the run with the version that began it, "
                    "or continue with --allow_config_change, which reads the data from their "
                    "beginning."
                )
            raise UserError(
                "the saved data position belongs to other data: task, split, lengths, batch size, "
                f"seed, packing or mixing differ (saved {str(state.get('data'))[:12]}, "
                f"now {self._identity[:12]})"
            )
        self._halt()
        self._rows.set_state(state)
        self._state = self._rows.get_state()

    def _halt(self) -> None:
        if self._thread is not None:
            self._stop.set()
            # One that is stuck in a read cannot be stopped: it ends when that returns.
            self._thread.join(_LEAVE)
            self._thread = None
        self._stop = threading.Event()
        self._queue = queue.Queue(max(self._prefetch, 1))

    def close(self) -> None:
        """Stops the background thread; the iterator cannot be used afterwards."""
        self._halt()
        self._closed = True
