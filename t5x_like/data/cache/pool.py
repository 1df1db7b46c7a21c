"""The processes that write a cache: started, watched, and gone afterwards whatever happens."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from pathlib import Path

from t5x_like.data.cache import worker
from t5x_like.distributed.preemption import interrupts_left_to_parent
from t5x_like.errors import DataFault
from t5x_like.protocols import Task

_LOOK_EVERY = 0.2  # seconds
_SILENCE = 60.0  # seconds without an example after which the user is told
_GRACE = 5.0  # seconds that a process has to end
# Files of a source, in bytes, that are tokenized sooner by one process than by several, each of
# which imports TensorFlow first: of six rows, 8.3 s of processor time and not 18.1 s.
_SMALL = 1 << 20


def workers_for(task: Task) -> int:
    """How many processes write a cache soonest: one for each core, of a small source one.

    One is the process that asks, into which TensorFlow comes: of a process that does nothing else.
    """
    size = getattr(getattr(task, "source", None), "local_bytes", None)
    return 1 if size is not None and size < _SMALL else os.cpu_count() or 1


class Pool:
    """Worker processes for one task; leaving the `with` block ends them.

    A worker that is killed, for memory it may be, ends the work of all with `DataFault`. After
    an error the others are terminated: what they have half-written is of no use.
    """

    def __init__(self, task: Task, folder: Path, workers: int):
        context = multiprocessing.get_context("spawn")
        self._task, self._folder, self._workers = task, folder, workers
        self._counter = context.Value("q", 0)
        self._before = set(multiprocessing.active_children())
        self._processes: set[BaseProcess] = set()
        self._executor = concurrent.futures.ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=worker.start,
            initargs=(task, self._counter),
        )

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._note_processes()
            for process in self._processes:
                process.terminate()
            deadline = time.monotonic() + _GRACE
            for process in self._processes:
                process.join(max(0.0, deadline - time.monotonic()))
                process.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def splits(self) -> list[str]:
        """Those that the task's source has."""
        with self._explained():
            # One question for each worker, so that all import TensorFlow at the same time.
            with interrupts_left_to_parent():  # the first question starts all workers
                asked = [self._executor.submit(worker.splits_of) for _ in range(self._workers)]
            self._note_processes()
            return asked[0].result()

    def write(
        self,
        todo: Sequence[tuple[str, int]],
        shards: int,
        fingerprint: str,
        update: Callable[[int, int], None],
    ) -> list[str]:
        """Writes shards, each a split and a number; returns what the sources warned of.

        `update` hears of shards that are done and of examples that came.
        """
        warnings: list[str] = []
        with self._explained():
            waiting = {
                self._executor.submit(worker.write, self._folder, split, shard, shards, fingerprint)
                for split, shard in todo
            }
            seen, heard = 0, time.monotonic()
            while waiting:
                self._note_processes()
                done, waiting = concurrent.futures.wait(
                    waiting, _LOOK_EVERY, concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    warnings += future.result()
                written = self._counter.value
                update(len(done), written - seen)
                if done or written > seen:
                    heard = time.monotonic()
                elif time.monotonic() - heard > _SILENCE:
                    heard = time.monotonic()
                    print(
                        f"no example of {self._task.name!r} for {_SILENCE:.0f} s; still waiting "
                        "for its source",
                        file=sys.stderr,
                        flush=True,
                    )
                seen = written
        return warnings

    def _note_processes(self) -> None:
        # Kept, because a process that has ended is no active child any more.
        self._processes |= set(multiprocessing.active_children()) - self._before

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BrokenProcessPool as error:
            raise DataFault(
                f"a process that wrote the cache {self._folder} {self._end()}; what is finished "
                "is kept: run it again, with fewer processes (--num_workers=1) if memory was short."
            ) from error

    def _end(self) -> str:
        """How the first process ended that did not end as it should."""
        deadline = time.monotonic() + _GRACE
        while True:
            codes = [process.exitcode for process in self._processes]
            for code in codes:
                # The executor itself terminates those that are left.
                if code is not None and code < 0 and -code != signal.SIGTERM:
                    return f"was killed by {signal.Signals(-code).name}"
            # A code is unknown for a moment where the executor's thread has waited for the process.
            if None not in codes or time.monotonic() > deadline:
                return "ended without saying why"
            time.sleep(0.01)
