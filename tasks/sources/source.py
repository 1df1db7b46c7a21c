"""The interface of a source, and sources as seqio's."""

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from tasks.errors import TaskError

Row = dict[str, Any]  # column -> text

_ROWS_AT_A_TIME = 64


class PlacedRow(dict[str, Any]):
    """A row that knows where it is from, which an error about it says.

    Attributes:
      place: `file 'train.jsonl', line 3`.
    """

    def __init__(self, row: Row, place: str):
        super().__init__(row)
        self.place = place

    @classmethod
    def like(cls, other: Row, row: Row) -> Row:
        """`row`, which was made of another one, from where that is from."""
        return cls(row, other.place) if isinstance(other, PlacedRow) else row


class HasSplits(Protocol):
    """What is divided into splits, such as a source."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""


class Source(HasSplits, Protocol):
    """Rows of text columns, in splits.

    One that reads files has `check_files`, which the function of that name calls.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of each row."""

    @property
    def is_local(self) -> bool:
        """Whether everything that is read is on this machine."""

    def shards(self, split: str) -> Sequence[str]:
        """The names of the parts that can be read separately, in order, such as files.

        Raises:
          TaskError: there is no such split, or its files are missing.
        """

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[Row]:
        """The rows of some or all shards, always in the same order.

        Raises:
          TaskError: the data is malformed; the message says where.
        """

    def fingerprint(self) -> str:
        """Hex digest that changes when the rows do.

        Raises:
          SourceUnavailable: the data is not on this machine.
        """

    def seqio(self) -> Any:
        """The same rows as a `seqio.DataSource`; imports seqio, and so TensorFlow."""


def check_split(source: HasSplits, split: str) -> None:
    """Checks that a source has a split.

    Raises:
      TaskError: it has not; the message lists its splits.
    """
    if split not in source.splits:
        raise TaskError(
            f"split '{split}' not found in {type(source).__name__}: "
            f"it has {', '.join(sorted(source.splits))}."
        )


def said(settings: Any) -> str:
    """What settings are, by their `repr`, of which fingerprints are made.

    Raises:
      TaskError: it says where an object is in memory, which is elsewhere in every process.
    """
    found = repr(settings)
    if address := re.search(r"<([^'\"]*?) at 0x[0-9a-f]+", found):
        raise TaskError(
            f"of '{address[1]}' nothing is known but where it is in memory, so that no cache made "
            "with it would be found again: make its class a frozen dataclass."
        )
    return found


def check_files(source: HasSplits, splits: Sequence[str] | None = None) -> None:
    """Checks that the files which a source reads are on this machine; nothing of them is read.

    Args:
      source: has a method of this name, or reads no files.
      splits: that are to be read; all where there are none.

    Raises:
      SourceUnavailable: a file is missing or may not be read.
      TaskError: there is no such split, or a file that the source is filtered by is missing.
    """
    check = getattr(source, "check_files", None)
    if check is not None:
        check(splits)


def _batches(rows: Iterator[Row], columns: Sequence[str]) -> Iterator[dict[str, list[str]]]:
    while batch := list(itertools.islice(rows, _ROWS_AT_A_TIME)):
        yield {column: [row[column] for row in batch] for column in columns}


def seqio_source(source: Source) -> Any:
    """A `seqio.DataSource` that reads the rows of `source`, of all shards or of some."""
    import seqio
    import tensorflow as tf

    class RowSource(seqio.DataSource):
        @property
        def supports_arbitrary_sharding(self) -> bool:
            return False

        def list_shards(self, split: str) -> Sequence[str]:
            return list(source.shards(split))

        def get_dataset(
            self,
            split: str = "train",
            shuffle: bool = True,
            seed: int | None = None,
            shard_info: Any = None,
            *,
            sequence_length: Any = None,
            use_cached: bool = False,
            num_epochs: int | None = 1,
        ) -> tf.data.Dataset:
            shards = list(source.shards(split))
            if shard_info is not None:
                shards = shards[shard_info.index :: shard_info.num_shards]
            if shuffle:
                random.Random(seed).shuffle(shards)
            # In batches: handing over from Python to TensorFlow costs ten times what a row does.
            return tf.data.Dataset.from_generator(
                lambda: _batches(source.rows(split, shards), source.columns),
                output_signature={
                    column: tf.TensorSpec((None,), tf.string) for column in source.columns
                },
            ).unbatch()

    return RowSource(splits=source.splits)
