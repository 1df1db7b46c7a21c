"""One pass over training text, in processes beside the one that reads it."""

import collections
import concurrent.futures
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from t5x_like.distributed.preemption import interrupts_left_to_parent
from t5x_like.errors import DataFault
from t5x_like.host import disk_space
from t5x_like.overlap.index import Index
from t5x_like.overlap.words import Array

_BLOCK = 1 << 21  # characters that a process is given at once
_WAITING = 3  # blocks for each process that are under way


def documents_with(
    index: Index,
    documents: Iterable[str],
    *,
    num_workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Array:
    """How many documents have each n-gram of the index.

    Memory does not grow with the text: the index, and a few blocks of text for each process.

    Args:
      index: of n-grams.
      documents: texts, each once through; n-grams do not go from one to the next.
      num_workers: processes that look n-grams up; 0 does so in this one.
      progress: called with the characters done after each block.

    Returns:
      int64 `[h]`, in the order of `index.hashes`.

    Raises:
      DataFault: a process was killed.
      DiskFull: there is no room for the index, which the processes share as files.
    """
    counts = np.zeros(len(index.hashes), np.int64)

    def add(places: Array, size: int) -> None:
        np.add.at(counts, places, 1)
        if progress is not None:
            progress(size)

    if not num_workers:
        for block, size in _blocks(documents):
            add(index.documents(block), size)
        return counts
    with tempfile.TemporaryDirectory(prefix="t5x-like-overlap-") as folder:
        with disk_space.explained(Path(folder), index.hashes.nbytes + index.table.nbytes):
            np.save(Path(folder, "hashes.npy"), index.hashes)
            np.save(Path(folder, "table.npy"), index.table)
        with concurrent.futures.ProcessPoolExecutor(
            num_workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(folder, list(index.lengths)),
        ) as pool:
            under_way: collections.deque[tuple[concurrent.futures.Future[Array], int]]
            under_way = collections.deque()
            try:
                for block, size in _blocks(documents):
                    with interrupts_left_to_parent():
                        under_way.append((pool.submit(_documents, block), size))
                    if len(under_way) > _WAITING * num_workers:
                        done, size = under_way.popleft()
                        add(done.result(), size)
                for done, size in under_way:
                    add(done.result(), size)
            except BrokenProcessPool:
                raise DataFault(
                    "a process that looks n-grams up was killed, maybe for want of memory: give "
                    "fewer with --num_workers, or fewer tests at once."
                ) from None
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return counts


def _blocks(documents: Iterable[str]) -> Iterator[tuple[list[str], int]]:
    block: list[str] = []
    size = 0
    for document in documents:
        block.append(document)
        size += len(document)
        if size >= _BLOCK:
            yield block, size
            block, size = [], 0
    if block:
        yield block, size


_index: Index | None = None


def _start(folder: str, lengths: list[int]) -> None:
    """Opens the index in a process of the pool, which shares it with the others."""
    global _index
    threading.Thread(target=_end_with_parent, daemon=True).start()
    hashes, table = (
        np.load(Path(folder, f"{name}.npy"), mmap_mode="r") for name in ("hashes", "table")
    )
    _index = Index(hashes, lengths, table)


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _documents(texts: list[str]) -> Array:
    assert _index is not None
    return _index.documents(texts)
