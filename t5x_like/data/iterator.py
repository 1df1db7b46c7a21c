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
from typing import Any

from t5x_like.data.effort import Effort
from t5x_like.data.formats import ModelBatch, Row
from t5x_like.data.rows.packed import PACKING_ORDER
from t5x_like.data.rows.row_source import RowSource, State
from t5x_like.errors import DataFault, UserError

_LOOK_EVERY = 1.0  # seconds; a process that was stopped for an hour has lost one look
_SLOW = 60.0  # seconds without a batch after which the user is told
_LEAVE = 5.0  # seconds that the background thread has to end


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
        on_close: Callable[[], None] = lambda: None,
        bytes_fetched: Callable[[], int] = lambda: 0,
        making: Effort | None = None,
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
          on_close: called once the thread has ended.
          bytes_fetched: so far, of examples that come from another machine; while they come,
            reading is not given up.
          making: counts what making the batches takes; None for a new one.
        """
        self._rows, self._convert = rows, convert
        self._identity, self._prefetch, self._patience = identity, prefetch, patience
        self.making, self.epochs, self._on_close = making or Effort(), epochs, on_close
        self._bytes_fetched = bytes_fetched
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
        read, fetched = self._rows.examples_read, self._bytes_fetched()
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
            coming = self._rows.examples_read > read or self._bytes_fetched() > fetched
            silent = 0.0 if coming else silent + _LOOK_EVERY
            read, fetched = self._rows.examples_read, self._bytes_fetched()
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
        if not self._closed:
            self._on_close()
        self._closed = True
