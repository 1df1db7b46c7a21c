"""The keys of a shard's documents or lines, kept in a file until all shards have theirs."""

import collections
import dataclasses
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from etils import epath

from t5x_like.distributed import workers
from t5x_like.errors import UserError
from t5x_like.host import disk_space, files
from t5x_like.near_duplicates.minhash import Array

Arrays = Mapping[str, Array]


class Documents(Protocol):
    """The documents of a source, in splits and shards; goes to other processes."""

    def shards(self, split: str) -> Sequence[str]:
        """The names of the parts that can be read separately, in order."""

    def texts(self, split: str, shard: str) -> Iterable[str]:
        """The text of each row of a shard, in order."""

    def settings(self) -> Mapping[str, Any]:
        """What decides the texts, as the first line of a list has it.

        At least `source`, a hex digest that changes when the rows do.
        """


class Rule(Protocol):
    """Which documents, or lines of them, are duplicates: they have a key in common.

    Attributes:
      unit: what is dropped, as a list names it: `rows` or `lines`. They are counted through all
        documents of a shard, and the number is called a place.
    """

    unit: str

    def settings(self) -> dict[str, Any]:
        """What the list depends on, as JSON."""

    def arrays(self, texts: Iterable[str]) -> dict[str, Array]:
        """What is kept of a shard's texts; `total` is added, how many there are."""

    def counts(self, arrays: Arrays) -> dict[str, int]:
        """Of a shard, for the first line of the list; they are added up."""

    def keyed(self, arrays: Arrays) -> Iterator[tuple[bytes, int]]:
        """The keys of a shard with the places that they are of."""

    def dropped(self, arrays: Sequence[Arrays]) -> tuple[list[Array], dict[str, int]]:
        """The places that are dropped of each shard, in order, and further numbers.

        Args:
          arrays: of all shards, as kept.
        """

    def dropped_of_links(self, links_l2: Array) -> tuple[Array, dict[str, int]]:
        """The same of all shards at once, where equal keys were found elsewhere.

        Args:
          links_l2: int64, numbers of places, in order of shard and place: one, and a later one
            with which it has a key in common. The first of each key is linked with all others.

        Returns:
          The numbers of those that are dropped, sorted and each once, and further numbers.
        """


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of a source that is read by itself.

    Attributes:
      split: that it is of.
      number: among the shards of the split.
      name: as the source has it.
    """

    split: str
    number: int
    name: str

    def file(self, folder: epath.Path, ending: str) -> epath.Path:
        """A file of this shard."""
        return folder / f"{self.split}-{self.number:05d}.{ending}"


def shards_of(documents: Documents, splits: Sequence[str]) -> list[Shard]:
    """All shards of some splits, in order.

    Raises:
      UserError: one is named twice.
    """
    found = []
    for split in splits:
        names = list(documents.shards(split))
        for name, times in collections.Counter(names).items():
            if times > 1:
                raise UserError(f"'{name}' is named twice in split '{split}': name it once.")
        found += [Shard(split, number, name) for number, name in enumerate(names)]
    return found


@dataclasses.dataclass(frozen=True)
class Work:
    """What the processes that read are given.

    Attributes:
      documents: of the source.
      rule: makes the keys.
      folder: of the files, local or `gs://`.
    """

    documents: Documents
    rule: Rule
    folder: str

    def path(self, shard: Shard) -> epath.Path:
        """The file of a shard's keys."""
        return shard.file(files.location(self.folder), "npz")


def write(work: Work, shard: Shard, tell: workers.Tell) -> None:
    """Writes the keys of a shard, all or none.

    Raises:
      DiskFull: there is no room for them.
    """
    told = workers.Told(tell)

    def counted() -> Iterator[str]:
        for text in work.documents.texts(shard.split, shard.name):
            told.add()
            yield text
        told.flush()

    arrays: Any = work.rule.arrays(counted())
    write_arrays(work.path(shard), {**arrays, "total": np.int64(told.count)})


def read(work: Work, shard: Shard) -> dict[str, Array]:
    """What `write` has written of a shard."""
    return read_arrays(work.path(shard))


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Writes a file of arrays, local or `gs://`, whole or not at all."""
    size = sum(each.nbytes for each in arrays.values())
    with disk_space.explained(path, size), files.replacing(path) as f:
        np.savez(f, **arrays)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Reads a file of arrays."""
    with np.load(io.BytesIO(files.read_whole(path))) as kept:
        return dict(kept)


def summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The counts of all shards together."""
    found: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            found[name] = found.get(name, 0) + count
    return found
