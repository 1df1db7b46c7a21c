"""The base class of sources whose rows are drawn, and read from nothing."""

import abc
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from tasks.sources import source as source_lib

FEWEST_ROWS = 25
"""So many rows are needed for the validation split to have one."""


class DrawnRows(abc.ABC):
    """Rows that are each a function of the source's settings and of the row's number.

    Four rows in a hundred, the last, are the `validation` split.

    Attributes:
      rows_in_all: of both splits, `FEWEST_ROWS` or more.
      seed: of what is drawn.
    """

    rows_in_all: int
    seed: int

    columns: ClassVar[tuple[str, ...]]
    splits: ClassVar[tuple[str, ...]] = ("train", "validation")
    is_local: ClassVar[bool] = True

    @abc.abstractmethod
    def row(self, rng: np.random.Generator) -> source_lib.Row:
        """A row, of its own random numbers."""

    def shards(self, split: str) -> Sequence[str]:
        """One."""
        source_lib.check_split(self, split)
        return [split]

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows; see `source.Source`."""
        last = self.rows_in_all - self.rows_in_all // FEWEST_ROWS
        numbers = range(last) if split == "train" else range(last, self.rows_in_all)
        for _ in self.shards(split) if shards is None else shards:
            for number in numbers:
                yield self.row(np.random.default_rng((self.seed, number)))

    def fingerprint(self) -> str:
        """Hex digest of the settings, which the rows are a function of."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def seqio(self) -> Any:
        """The same rows as a `seqio.DataSource`."""
        return source_lib.seqio_source(self)
