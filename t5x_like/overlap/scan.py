"""One pass over training text, in processes beside the one that reads it."""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t5x_like.distributed import workers
from t5x_like.host import disk_space
from t5x_like.overlap.index import Index
from t5x_like.overlap.words import Array

_BLOCK = 1 << 21  # characters that a process is given at once


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
      progress: called with the characters done since the last time.

    Returns:
      int64 `[h]`, in the order of `index.hashes`.

    Raises:
      DataFault: a process was killed.
      DiskFull: there is no room for the index, which the processes share as files.
    """
    counts = np.zeros(len(index.hashes), np.int64)
    with contextlib.ExitStack() as stack:
        shared = _Shared(index) if not num_workers else stack.enter_context(_in_files(index))
        blocks = _blocks(documents)
        for places in workers.results(_documents, shared, blocks, num_workers, progress):
            np.add.at(counts, places, 1)
    return counts


@dataclass(frozen=True)
class _Shared:
    """An index at hand."""

    index: Index


@dataclass(frozen=True)
class _Files:
    """An index in files, which each process maps into its memory once."""

    folder: str
    lengths: Sequence[int]

    @functools.cached_property
    def index(self) -> Index:
        hashes, table = (
            np.load(Path(self.folder, f"{name}.npy"), mmap_mode="r") for name in ("hashes", "table")
        )
        return Index(hashes, self.lengths, table)


@contextlib.contextmanager
def _in_files(index: Index) -> Iterator[_Files]:
    with tempfile.TemporaryDirectory(prefix="t5x-like-overlap-") as folder:
        with disk_space.explained(Path(folder), index.hashes.nbytes + index.table.nbytes):
            np.save(Path(folder, "hashes.npy"), index.hashes)
            np.save(Path(folder, "table.npy"), index.table)
        yield _Files(folder, list(index.lengths))


def _blocks(documents: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    size = 0
    for document in documents:
        block.append(document)
        size += len(document)
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _documents(shared: _Shared | _Files, texts: list[str], tell: workers.Tell) -> Array:
    found = shared.index.documents(texts)
    tell(sum(map(len, texts)))
    return found
