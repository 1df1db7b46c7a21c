"""Files that globs name, local or remote, plain or gzip, read as UTF-8."""

import dataclasses
import glob
import gzip
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Literal, cast

from tasks.errors import SourceUnavailable, TaskError
from tasks.sources import source as source_lib

Patterns = str | Sequence[str]
_LOG = logging.getLogger(__name__)
# Of a larger file, only the beginning and the end go into its fingerprint.
_HASHED_WHOLE = 64 * 1024 * 1024
_HASHED_END = 1024 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileSource:
    """Base class of the sources that read files of one kind; a subclass reads one file.

    Attributes:
      files: a glob, or several, for each split: `{"train": "data/*.txt"}`. Remote paths
        (`gs://…`) are read through `etils.epath`.
      undecodable: for bytes that are not UTF-8: "error", or "replace" each by U+FFFD and log
        how many there were.
    """

    files: Mapping[str, Patterns]
    undecodable: Literal["error", "replace"] = "error"

    def __post_init__(self) -> None:
        check_undecodable(self)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, which `files` has."""
        return tuple(self.files)

    @property
    def is_local(self) -> bool:
        """Whether all patterns are local."""
        return not any("://" in p for patterns in self.files.values() for p in listed(patterns))

    def shards(self, split: str) -> Sequence[str]:
        """The files of a split; see `source.Source`."""
        source_lib.check_split(self, split)
        return expand(self.files[split], f"{type(self).__name__}.files['{split}']")

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows of the files; see `source.Source`."""
        for path in self.shards(split) if shards is None else shards:
            empty = True
            for row in self.read(path):
                empty = False
                yield row
            if empty:
                raise TaskError(f"file '{path}' is empty: remove it from the '{split}' files.")

    def read(self, path: str) -> Iterator[source_lib.Row]:
        """The rows of one file."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Hex digest of the settings and of the files' names, sizes and contents."""
        digest = hashlib.sha256(settings(self).encode())
        for split in self.splits:
            digest.update(f"{split}\0".encode())
            for path in self.shards(split):
                update_with_file(digest, path)
        return digest.hexdigest()

    def seqio(self) -> Any:
        """The same rows as a `seqio.DataSource` with one shard per file."""
        return source_lib.seqio_source(cast(source_lib.Source, self))  # a subclass has columns


def check_undecodable(source: Any) -> None:
    """Checks the setting `undecodable` of a source.

    Raises:
      TaskError: it is neither "error" nor "replace".
    """
    if source.undecodable not in ("error", "replace"):
        raise TaskError(
            f"{type(source).__name__}.undecodable is {source.undecodable!r}: 'error' or 'replace'."
        )


def settings(source: Any) -> str:
    """The fields of a source as JSON, without `files`."""
    fields = {f.name: getattr(source, f.name) for f in dataclasses.fields(source)}
    del fields["files"]
    return json.dumps([type(source).__name__, fields], sort_keys=True)


def listed(patterns: Patterns) -> list[str]:
    """One or several patterns as a list."""
    return [patterns] if isinstance(patterns, str) else list(patterns)


def expand(patterns: Patterns, where: str) -> list[str]:
    """The files that globs name, in order; `where` is the setting, for errors.

    Raises:
      SourceUnavailable: a pattern matches no file.
    """
    found: list[str] = []
    for pattern in listed(patterns):
        matches = _remote_matches(pattern) if "://" in pattern else _local_matches(pattern)
        if not matches:
            raise SourceUnavailable(f"{where}: no file matches '{pattern}'.")
        found.extend(matches)
    return found


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
    """Adds a file's name, size and contents to a hash; of a large file, its beginning and end.

    Raises:
      SourceUnavailable: the file is missing or cannot be read.
    """
    from etils import epath

    remote = epath.Path(path)
    try:
        size = remote.stat().length
        digest.update(f"{remote.name}\0{size}\0".encode())
        with remote.open("rb") as f:
            if size <= _HASHED_WHOLE:
                while block := f.read(_HASHED_END):
                    digest.update(block)
            else:
                digest.update(f.read(_HASHED_END))
                f.seek(size - _HASHED_END)
                digest.update(f.read(_HASHED_END))
    except OSError as error:
        raise unavailable(path, error) from None


def unavailable(path: str, error: OSError) -> SourceUnavailable:
    """The error for a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return SourceUnavailable(f"file '{path}' not found.")
    return SourceUnavailable(f"file '{path}' cannot be read: {error.strerror or error}.")


def open_bytes(path: str) -> IO[bytes]:
    """Opens a file for reading, decompressed where its name ends in `.gz`.

    Raises:
      SourceUnavailable: the file is missing or cannot be opened.
    """
    from etils import epath

    try:
        f = epath.Path(path).open("rb")
    except OSError as error:
        raise unavailable(path, error) from None
    return cast(IO[bytes], gzip.GzipFile(fileobj=f)) if path.endswith(".gz") else f


def lines(path: str, undecodable: str) -> Iterator[tuple[int, str]]:
    """The lines of a file without line ends, numbered from 1.

    Raises:
      TaskError: not UTF-8 (file and byte offset), broken gzip, or a file that cannot be read.
    """
    offset = replaced = 0
    with open_bytes(path) as f:
        for number, line in enumerate(_unpacked(f, path), start=1):
            text = decode(line, path, offset, undecodable)
            replaced += _replaced(line, text)
            offset += len(line)
            yield number, text.rstrip("\r\n")
    _warn_of_replaced(path, replaced)


def whole(path: str, undecodable: str) -> str:
    """The text of a file.

    Raises:
      TaskError: not UTF-8 (file and byte offset), broken gzip, or a file that cannot be read.
    """
    with open_bytes(path) as f:
        data = b"".join(_unpacked(f, path))
    text = decode(data, path, 0, undecodable)
    _warn_of_replaced(path, _replaced(data, text))
    return text


def _replaced(data: bytes, text: str) -> int:
    """The number of U+FFFD that decoding put into a text."""
    return text.count("\ufffd") - data.count(b"\xef\xbf\xbd") if "\ufffd" in text else 0


def _warn_of_replaced(path: str, replaced: int) -> None:
    if replaced:
        _LOG.warning("file '%s': %d undecodable characters replaced.", path, replaced)


def _unpacked(f: IO[bytes], path: str) -> Iterator[bytes]:
    try:
        yield from f
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TaskError(f"file '{path}' is damaged gzip: {error}.") from None
    except OSError as error:
        raise unavailable(path, error) from None


def decode(data: bytes, path: str, offset: int, undecodable: str) -> str:
    """UTF-8 to text, without a byte-order mark at the beginning of a file.

    Raises:
      TaskError: not UTF-8; the message has the file and the offset of the byte.
    """
    mark = b"\xef\xbb\xbf"
    if offset == 0 and data.startswith(mark):
        data, offset = data[len(mark) :], len(mark)
    try:
        return data.decode("utf-8", "strict" if undecodable == "error" else "replace")
    except UnicodeDecodeError as error:
        raise TaskError(
            f"file '{path}' is not UTF-8: byte 0x{data[error.start]:02x} at offset "
            f"{offset + error.start}; convert it, or set undecodable='replace'."
        ) from None
