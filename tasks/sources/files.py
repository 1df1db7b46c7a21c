"""Files that globs name, local or remote."""

import collections
import dataclasses
import fnmatch
import glob
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from tasks.errors import SourceUnavailable, TaskError
from tasks.sources import source as source_lib
from tasks.sources.reading import Limits, Undecodable, unavailable

Patterns = str | Sequence[str]
MAX_ROW_BYTES = 1 << 28
MAX_EXPANSION = 200
# Settings that decide what is refused, and no row.
_LIMITS = ("max_row_bytes", "max_expansion")
# Of a larger file, the beginning, the end and places between them go into its fingerprint: that
# is made at every start, of corpora of any size. Of a remote one the two ends.
_HASHED_WHOLE = 64 * 1024 * 1024
_HASHED_END = 1024 * 1024
_PLACES, _HASHED_PLACE = 64, 64 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileSource:
    """Base class of the sources that read files of one kind; a subclass reads one file.

    Attributes:
      files: a glob, or several, for each split: `{"train": "data/*.txt"}`; a split with an empty
        list is none. Remote paths (`gs://…`) are read through `etils.epath`.
      undecodable: for bytes that are not UTF-8: "error", or "replace" each by U+FFFD and log
        how many there were.
      max_row_bytes: longest row; a longer one is refused before it fills the memory.
      max_expansion: how many times its size a packed file may unpack to, above 256 MiB.
    """

    files: Mapping[str, Patterns]
    undecodable: Undecodable = "error"
    max_row_bytes: int = MAX_ROW_BYTES
    max_expansion: int = MAX_EXPANSION

    is_users_own: ClassVar[bool] = True  # nobody has looked for special tokens in it

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def limits(self) -> Limits:
        """What one file may ask for."""
        return Limits(self.max_row_bytes, self.max_expansion)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits for which `files` has patterns."""
        return tuple(name for name, patterns in self.files.items() if patterns)

    @property
    def is_local(self) -> bool:
        """Whether all patterns are local."""
        return not any("://" in p for patterns in self.files.values() for p in listed(patterns))

    @property
    def local_bytes(self) -> int | None:
        """The size of all files; None where some are remote or missing."""
        if not self.is_local:
            return None
        try:
            return sum(
                os.path.getsize(path) for split in self.splits for path in self.shards(split)
            )
        except OSError:
            return None

    def shards(self, split: str) -> Sequence[str]:
        """The files of a split; see `source.Source`."""
        source_lib.check_split(self, split)
        return expand(self.files[split], f"{type(self).__name__}.files['{split}']")

    def check_files(self, splits: Sequence[str] | None = None) -> None:
        """Checks that the files are there and may be read; see `source.check_files`."""
        for split in self.splits if splits is None else splits:
            for path in self.shards(split):
                check_readable(path)

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows of the files; see `source.Source`."""
        for path in self.shards(split) if shards is None else shards:
            number = 0
            for number, row in enumerate(self.read(path), start=1):
                placed = isinstance(row, source_lib.PlacedRow)
                yield row if placed else source_lib.PlacedRow(row, f"file '{path}', row {number}")
            if not number:
                raise TaskError(f"file '{path}' is empty: remove it from the '{split}' files.")

    def read(self, path: str) -> Iterator[source_lib.Row]:
        """The rows of one file."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Hex digest of the settings and of the files' names, sizes and contents."""
        digest = hashlib.sha256(settings(self).encode())
        for split in sorted(self.splits):
            digest.update(f"{split}\0".encode())
            for path in self.shards(split):
                update_with_file(digest, path)
        return digest.hexdigest()

    def seqio(self) -> Any:
        """The same rows as a `seqio.DataSource` with one shard per file."""
        return source_lib.seqio_source(cast(source_lib.Source, self))  # a subclass has columns


def check_settings(source: Any) -> None:
    """Checks what sources of files have in common.

    Raises:
      TaskError: `undecodable` is neither "error" nor "replace", a limit no whole number of 1 or
        more, `columns` a text in place of a list, or a column that is named twice.
    """
    name, columns = type(source).__name__, getattr(source, "columns", ())
    if isinstance(columns, str):
        raise TaskError(f"{name}.columns is {columns!r}: a list is needed, as {[columns]!r}.")
    if twice := [column for column in columns if list(columns).count(column) > 1]:
        raise TaskError(
            f"{name}.columns names '{twice[0]}' twice, of which one would hide the other: give "
            "each column a name of its own."
        )
    if source.undecodable not in ("error", "replace"):
        raise TaskError(f"{name}.undecodable is {source.undecodable!r}: 'error' or 'replace'.")
    for limit in _LIMITS:
        value = getattr(source, limit)
        if not isinstance(value, int) or value < 1:
            raise TaskError(f"{name}.{limit} is {value!r}: a whole number of 1 or more.")


def settings(source: Any) -> str:
    """The fields of a source that decide its rows, as JSON, without `files`.

    A `missing` of "error" is left out, as limits are: both refuse rows, and change none.
    """
    fields = {f.name: getattr(source, f.name) for f in dataclasses.fields(source)}
    for name in ("files", *_LIMITS):
        del fields[name]
    if fields.get("missing") == "error":
        del fields["missing"]
    return json.dumps([type(source).__name__, fields], sort_keys=True)


def listed(patterns: Patterns) -> list[str]:
    """One or several patterns as a list."""
    return [patterns] if isinstance(patterns, str) else list(patterns)


def expand(patterns: Patterns, where: str) -> list[str]:
    """The files that globs name, in order; `where` is the setting, for errors.

    Raises:
      SourceUnavailable: a pattern matches no file, or a name is no file's.
      TaskError: two patterns name one file.
    """
    found: list[str] = []
    for pattern in listed(patterns):
        matches = _remote_matches(pattern) if "://" in pattern else _local_matches(pattern)
        if not matches:
            raise _absent(pattern, where)
        found.extend(matches)
    places = [path if "://" in path else os.path.abspath(path) for path in found]
    for place, times in collections.Counter(places).items():
        if times > 1:
            raise TaskError(
                f"{where} names '{place}' twice, and it would be read twice: name it once."
            )
    return found


def check_readable(path: str) -> None:
    """Opens a local file, and reads nothing of it.

    Raises:
      SourceUnavailable: it is missing or may not be read.
    """
    if "://" in path:
        return
    try:
        with open(os.path.expanduser(path), "rb"):
            pass
    except OSError as error:
        raise unavailable(path, error) from None


def names(pattern: str, path: str) -> bool:
    """Whether a local glob names a file, which need not be there yet.

    Links among the folders before the first wildcard, and to the file's folder, are followed.
    """
    parts = _absolute(pattern)
    wild = [i for i, part in enumerate(parts) if glob.has_magic(part)]
    fixed = min([*wild, len(parts) - 1])
    parts = (*Path(os.path.realpath(Path(*parts[:fixed]))).parts, *parts[fixed:])
    folder, name = os.path.split(os.path.join(*_absolute(path)))
    return _matches(parts, (*Path(os.path.realpath(folder)).parts, name))


def _absolute(path: str) -> tuple[str, ...]:
    return Path(os.path.abspath(os.path.expanduser(path))).parts


def _matches(patterns: Sequence[str], parts: Sequence[str]) -> bool:
    if not patterns or not parts:
        return not parts and all(pattern == "**" for pattern in patterns)
    pattern, part = patterns[0], parts[0]
    # As `glob`, whose wildcards take no name that begins with a dot.
    hidden = part.startswith(".") and not pattern.startswith(".")
    if pattern == "**":
        return _matches(patterns[1:], parts) or (not hidden and _matches(patterns, parts[1:]))
    return not hidden and fnmatch.fnmatch(part, pattern) and _matches(patterns[1:], parts[1:])


def _absent(pattern: str, where: str) -> SourceUnavailable:
    """The error about a pattern that names no file."""
    place = os.path.expanduser(pattern)
    if "://" not in pattern and os.path.isdir(place):
        files = os.path.join(pattern, "*")
        return SourceUnavailable(f"{where}: '{pattern}' is a folder: name its files, as '{files}'.")
    if "://" not in pattern and os.path.exists(place):
        return SourceUnavailable(f"{where}: '{pattern}' is no regular file.")
    if glob.has_magic(pattern):
        return SourceUnavailable(f"{where}: no file matches '{pattern}'.")
    return unavailable(pattern, FileNotFoundError())


def _local_matches(pattern: str) -> list[str]:
    matches = glob.glob(os.path.expanduser(pattern), recursive=True)
    return sorted(match for match in matches if os.path.isfile(match))


def _remote_matches(pattern: str) -> list[str]:
    from etils import epath

    path = epath.Path(pattern)
    wild = [i for i, part in enumerate(path.parts) if set(part) & set("*?[")]
    if not wild:
        return [str(path)] if path.is_file() else []
    root = epath.Path(*path.parts[: wild[0]])
    try:
        matches = list(root.glob("/".join(path.parts[wild[0] :])))
    except NotImplementedError:
        raise TaskError(f"pattern '{pattern}': `**` works for local files only.") from None
    return sorted(str(match) for match in matches if match.is_file())


def update_with_file(digest: Any, path: str) -> None:
    """Adds a file's name, size and contents to a hash; of a large file, parts of these.

    Raises:
      SourceUnavailable: the file is missing or cannot be read.
    """
    from etils import epath

    remote = epath.Path(path)
    try:
        size = remote.stat().length
        # A name need not be UTF-8.
        digest.update(f"{remote.name}\0{size}\0".encode("utf-8", "surrogateescape"))
        with remote.open("rb") as f:
            if size <= _HASHED_WHOLE:
                while block := f.read(_HASHED_END):
                    digest.update(block)
            else:
                digest.update(f.read(_HASHED_END))
                if "://" not in path:
                    for i in range(1, _PLACES):
                        f.seek(i * size // _PLACES)
                        digest.update(f.read(_HASHED_PLACE))
                f.seek(size - _HASHED_END)
                digest.update(f.read(_HASHED_END))
    except OSError as error:
        raise unavailable(path, error) from None
