"""Parallel text: files with corresponding lines."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from tasks.errors import TaskError
from tasks.sources import files, reading
from tasks.sources import source as source_lib
from tasks.sources.files import MAX_EXPANSION, MAX_ROW_BYTES

# Shards that a cache can be written from in parallel.
_SHARDS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelFiles:
    """One file per column and one row per line, as in translation corpora.

    Attributes:
      files: for each split, the file of each column, plain, gzip or zstd:
        `{"train": {"en": "train.en.gz", "de": "train.de.gz"}}`. A glob, or several, may name more
        than one: as many of each column, whose lines correspond file by file.
      undecodable: this and the limits are as for `files.FileSource`.
      max_row_bytes: longest line.
      max_expansion: how many times its size a packed file may unpack to.
    """

    files: Mapping[str, Mapping[str, files.Patterns]]
    undecodable: reading.Undecodable = "error"
    max_row_bytes: int = MAX_ROW_BYTES
    max_expansion: int = MAX_EXPANSION

    is_users_own: ClassVar[bool] = True

    def __post_init__(self) -> None:
        files.check_settings(self)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, which `files` has."""
        return tuple(self.files)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, the same in every split.

        Raises:
          TaskError: the splits have different columns.
        """
        kinds = {tuple(columns) for columns in self.files.values()}
        if len(kinds) != 1:
            raise TaskError(
                f"ParallelFiles.files: the splits have different columns, {sorted(kinds)}."
            )
        return kinds.pop()

    @property
    def is_local(self) -> bool:
        """Whether all files are local."""
        patterns = [given for split in self.files.values() for given in split.values()]
        return not any("://" in pattern for given in patterns for pattern in files.listed(given))

    def shards(self, split: str) -> Sequence[str]:
        """Sixteen shards: line `n` is in shard `n % 16`, because lines correspond by number."""
        source_lib.check_split(self, split)
        return [f"{split}-{i:02d}" for i in range(_SHARDS)]

    def check_files(self, splits: Sequence[str] | None = None) -> None:
        """Checks that the files are there and may be read; see `source.check_files`."""
        for split in self.splits if splits is None else splits:
            for paths in self._paths(split):
                for path in paths.values():
                    files.check_readable(path)

    def _paths(self, split: str) -> list[dict[str, str]]:
        """The file of each column, once for all lines or part by part.

        Raises:
          TaskError: columns have different numbers of files.
        """
        source_lib.check_split(self, split)
        named = {
            column: files.expand(patterns, f"ParallelFiles.files['{split}']['{column}']")
            for column, patterns in self.files[split].items()
        }
        if len({len(paths) for paths in named.values()}) > 1:
            counts = ", ".join(f"{len(paths)} of '{column}'" for column, paths in named.items())
            raise TaskError(
                f"ParallelFiles.files['{split}'] names {counts}: their lines correspond file by "
                "file, so each column needs as many."
            )
        return [dict(zip(named, paths, strict=True)) for paths in zip(*named.values(), strict=True)]

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """One row for each line, in the order of the lines.

        Raises:
          TaskError: the files have different numbers of lines, or none.
        """
        chosen = {int(shard.rpartition("-")[2]) for shard in shards or self.shards(split)}
        number = 0
        for paths in self._paths(split):
            for row in self._read(paths):
                if number % _SHARDS in chosen:
                    yield row
                number += 1

    def _read(self, paths: Mapping[str, str]) -> Iterator[source_lib.Row]:
        """The rows of one file for each column."""
        limits = reading.Limits(self.max_row_bytes, self.max_expansion)
        readers = {
            column: reading.lines(path, self.undecodable, limits) for column, path in paths.items()
        }
        number = 0
        while True:
            found = {column: next(reader, None) for column, reader in readers.items()}
            ended = [column for column, line in found.items() if line is None]
            if ended:
                break
            yield {column: line[1] for column, line in found.items() if line is not None}
            number += 1
        if len(ended) < len(paths):
            longer = next(column for column in paths if column not in ended)
            raise TaskError(
                f"file '{paths[ended[0]]}' ends after line {number}, '{paths[longer]}' does not: "
                "parallel files need the same number of lines."
            )
        if not number:
            raise TaskError(f"file '{paths[ended[0]]}' is empty.")

    def fingerprint(self) -> str:
        """Hex digest of the settings and of the files' names, sizes and contents."""
        digest = hashlib.sha256(files.settings(self).encode())
        for split in sorted(self.splits):
            for paths in self._paths(split):
                for column, path in paths.items():
                    digest.update(f"{split}\0{column}\0".encode())
                    files.update_with_file(digest, path)
        return digest.hexdigest()

    def seqio(self) -> Any:
        """The same rows as a `seqio.DataSource`."""
        return source_lib.seqio_source(self)
