"""What sources have in common that are made of another."""

import abc
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np

from tasks.sources import source as source_lib
from tasks.sources.values import as_text


class Wrapper(abc.ABC):
    """A frozen dataclass with a field `source`, whose rows it gives otherwise."""

    source: source_lib.Source

    @property
    def splits(self) -> tuple[str, ...]:
        """The source's."""
        return self.source.splits

    @property
    def columns(self) -> tuple[str, ...]:
        """The source's."""
        return self.source.columns

    @property
    def is_local(self) -> bool:
        """Whether the source is local."""
        return self.source.is_local

    @property
    def is_users_own(self) -> bool:
        """Whether the source is a user's own text."""
        return getattr(self.source, "is_users_own", False)

    @property
    def local_bytes(self) -> int | None:
        """The source's size, where that is known."""
        return getattr(self.source, "local_bytes", None)

    def shards(self, split: str) -> Sequence[str]:
        """One: not every source can be read in parts."""
        return ("all",)

    def check_files(self, splits: Sequence[str] | None = None) -> None:
        """The source's, and those of the settings; see `source.check_files`."""
        source_lib.check_files(self.source, splits)

    @abc.abstractmethod
    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows of this split."""

    def fingerprint(self) -> str:
        """Hex digest of the source's fingerprint and the settings; see `source.said`."""
        fields = dataclasses.fields(cast(Any, self))
        settings = [getattr(self, x.name) for x in fields if x.compare and x.name != "source"]
        return hashlib.sha256(
            f"{self.source.fingerprint()} {source_lib.said(settings)}".encode()
        ).hexdigest()

    def seqio(self) -> Any:
        """The same rows as a `seqio.DataSource`."""
        return source_lib.seqio_source(self)


def as_tuples(source: Wrapper, *names: str) -> None:
    """Makes lists of settings tuples: the rows, and so the cache, are the same for either."""
    for name in names:
        if isinstance(value := getattr(source, name), list):
            object.__setattr__(source, name, tuple(value))


def in_texts(row: source_lib.Row) -> source_lib.Row:
    """A row with each value as text, lists as JSON: TFDS gives arrays, and seqio takes no lists."""
    texts = {
        column: as_text(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
        for column, value in row.items()
    }
    return source_lib.PlacedRow.like(row, texts)
