"""Parallel text: files whose lines belong together."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from tasks.errors import TaskError
from tasks.sources import files
from tasks.sources import source as source_lib

# Shards that a cache can be written from in parallel.
_SHARDS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelFiles:
    """One file a column, one row a line, as translation corpora come.

    Attributes:
      files: for each split, the file of each column, plain or gzip:
        `{"train": {"en": "train.en.gz", "de": "train.de.gz"}}`.
      undecodable: as for `files.FileSource`.
    """

    files: Mapping[str, Mapping[str, str]]
    undecodable: Literal["error", "replace"] = "error"

    def __post_init__(self) -> None:
        files.check_undecodable(self)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have files."""
        return tuple(self.files)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, which every split has.

        Raises:
          TaskError: splits with different columns.
        """
        kinds = {tuple(columns) for columns in self.files.values()}
        if len(kinds) != 1:
            raise TaskError(f"ParallelFiles.files: the splits differ in columns, {sorted(kinds)}.")
        return kinds.pop()

    @property
    def is_local(self) -> bool:
        """Whether no file is remote."""
        return not any("://" in path for split in self.files.values() for path in split.values())

    def shards(self, split: str) -> Sequence[str]:
        """Every sixteenth line is a shard: lines belong together by number alone."""
        source_lib.check_split(self, split)
        return [f"{split}-{i:02d}" for i in range(_SHARDS)]

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """One row for each line, in the order of the lines.

        Raises:
          TaskError: files of different length, or none with a line.
        """
        chosen = {int(shard.rpartition("-")[2]) for shard in shards or self.shards(split)}
        paths = dict(self.files[split])
        readers = {
            column: files.lines(
                files.expand(path, f"ParallelFiles.files['{split}']['{column}']")[0],
                self.undecodable,
            )
            for column, path in paths.items()
        }
        number = 0
        while True:
            found = {column: next(reader, None) for column, reader in readers.items()}
            ended = [column for column, line in found.items() if line is None]
            if ended:
                break
            if number % _SHARDS in chosen:
                yield {column: line[1] for column, line in found.items() if line is not None}
            number += 1
        if len(ended) < len(paths):
            longer = next(column for column in paths if column not in ended)
            raise TaskError(
                f"file '{paths[ended[0]]}' ends after line {number}, '{paths[longer]}' does not: "
                "parallel files need equally many lines."
            )
        if not number:
            raise TaskError(f"file '{paths[ended[0]]}' is empty.")

    def fingerprint(self) -> str:
        """Of the settings, and of the files' names, sizes and contents."""
        digest = hashlib.sha256(files.settings(self).encode())
        for split, columns in self.files.items():
            for column, path in columns.items():
                digest.update(f"{split}\0{column}\0".encode())
                files.update_with_file(digest, path)
        return digest.hexdigest()

    def seqio(self) -> Any:
        """As a `seqio.DataSource`."""
        return source_lib.seqio_source(self)
