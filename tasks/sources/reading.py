"""Reading text files: plain, gzip or zstd, as UTF-8, with limits on what one file may ask for."""

import dataclasses
import gzip
import io
import logging
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Literal, cast

import zstandard

from tasks.errors import SourceUnavailable, TaskError

Undecodable = Literal["error", "replace"]
_LOG = logging.getLogger(__name__)
_MARK = b"\xef\xbb\xbf"  # UTF-8's byte-order mark
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BLOCK = 1 << 20
_ZSTD_BLOCK = 1 << 12  # of a packed file; each may unpack to thousands of times its size
_SMALL = 1 << 28  # packed files that unpack to no more than this are read whatever they unpack to
_LOOKED_AT = 4096  # bytes at a file's beginning by which UTF-16 is recognised


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one file may ask for.

    Attributes:
      row_bytes: longest row.
      expansion: how many times its size a packed file may unpack to.
    """

    row_bytes: int
    expansion: int


def unavailable(path: str, error: OSError) -> SourceUnavailable:
    """The error for a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return SourceUnavailable(f"file '{path}' not found.")
    return SourceUnavailable(f"file '{path}' cannot be read: {error.strerror or error}.")


class _Zstd(io.RawIOBase):
    """What a zstd file unpacks to.

    The library's own reader takes a file that was cut off for one that has ended.
    """

    def __init__(self, packed: IO[bytes]):
        self._packed = packed
        self._frame: Any = None
        self._behind = b""  # what was read behind a frame
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            block = self._behind or self._packed.read(_ZSTD_BLOCK)
            self._behind = b""
            if not block and self._frame is None:
                return 0
            if not block:
                raise EOFError("it ends within a frame")
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(block))
            if self._frame.eof:
                self._behind, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def _from_gzip(packed: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(fileobj=packed))


def _from_zstd(packed: IO[bytes]) -> IO[bytes]:
    return io.BufferedReader(_Zstd(packed), _BLOCK)


_UNPACKED = {"gz": _from_gzip, "zst": _from_zstd}


class _Reader:
    """A file that is being read, unpacked where its name ends in `.gz` or `.zst`."""

    def __init__(self, path: str, limits: Limits):
        from etils import epath

        self._path, self._limits = path, limits
        try:
            self._packed = epath.Path(path).open("rb")
        except OSError as error:
            raise unavailable(path, error) from None
        self._kind = next((kind for kind in _UNPACKED if path.endswith(f".{kind}")), "")
        self._file = _UNPACKED[self._kind](self._packed) if self._kind else self._packed
        self._unpacked = self._looked_at = 0

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._packed.close()

    def line(self) -> bytes:
        """The next line with its end; more than `row_bytes` of it where it is too long."""
        return self._count(lambda: self._file.readline(self._limits.row_bytes + 1))

    def block(self) -> bytes:
        """The next part of the file, or nothing at its end."""
        return self._count(lambda: self._file.read(_BLOCK))

    def _count(self, read: Callable[[], bytes]) -> bytes:
        try:
            data = read()
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            name = {"gz": "gzip", "zst": "zstd"}[self._kind]
            reason = str(error).rstrip(".")
            raise TaskError(
                f"file '{self._path}' is damaged {name}: {reason}. Fetch or write it again."
            ) from None
        except OSError as error:
            raise unavailable(self._path, error) from None
        self._unpacked += len(data)
        if self._kind and self._unpacked > max(_SMALL, self._looked_at):
            self._looked_at = self._unpacked + _BLOCK
            packed = self._packed.tell()
            if self._unpacked > packed * self._limits.expansion:
                raise TaskError(
                    f"file '{self._path}' unpacks to more than {self._limits.expansion} times its "
                    f"size ({self._unpacked:,} bytes of {packed:,} so far): raise max_expansion if "
                    "it is meant to."
                )
        return data

    def too_long(self, what: str) -> TaskError:
        """The error about a row above the limit."""
        return TaskError(
            f"file '{self._path}', {what} has more than {self._limits.row_bytes:,} bytes: raise "
            "max_row_bytes if it is meant to be one row (of TextFiles, `separator` divides it)."
        )


def lines(path: str, undecodable: str, limits: Limits) -> Iterator[tuple[int, str]]:
    """The lines of a file without line ends, numbered from 1.

    Raises:
      TaskError: not UTF-8 (file and byte offset), no line ends that are known, a line that is
        too long, broken gzip, or a file that cannot be read.
    """
    offset = replaced = number = 0
    with _Reader(path, limits) as reader:
        while line := reader.line():
            number += 1
            if number == 1:
                _check_not_utf16(path, line)
                if b"\n" not in line:
                    _check_line_ends(path, line)
            if len(line) > limits.row_bytes:
                raise reader.too_long(f"line {number}")
            text = decode(line, path, offset, undecodable)
            replaced += _replaced(line, text)
            offset += len(line)
            yield number, text.rstrip("\r\n")
    _warn_of_replaced(path, replaced)


def documents(path: str, separator: str | None, undecodable: str, limits: Limits) -> Iterator[str]:
    """The parts of a file between separators, with LF as line ends; None makes one part.

    Raises:
      TaskError: as `lines`.
    """
    end = None if separator is None else separator.encode()
    waiting, searched, number, replaced = bytearray(), 0, 0, 0
    held = b""  # CR at the end of a block, whose LF may come with the next
    first, one_line = True, True
    with _Reader(path, limits) as reader:
        while True:
            block = reader.block()
            last, one_line = not block, one_line and b"\n" not in block
            if first:
                _check_not_utf16(path, block)
                block, first = block.removeprefix(_MARK), False
            block, held = held + block, b""
            if block.endswith(b"\r") and not last:
                block, held = block[:-1], b"\r"
            waiting += block.replace(b"\r\n", b"\n")
            begin = 0
            while end is not None and (at := waiting.find(end, max(begin, searched))) >= 0:
                number += 1
                text, more = _decoded(bytes(waiting[begin:at]), path, undecodable, limits)
                replaced += more
                yield text
                begin = searched = at + len(end)
            del waiting[:begin]
            searched = max(0, len(waiting) - (len(end) - 1 if end else 0))
            if len(waiting) > limits.row_bytes:
                raise reader.too_long(f"document {number + 1}")
            if last:
                break
    if one_line:
        _check_line_ends(path, bytes(waiting))
    text, more = _decoded(bytes(waiting), path, undecodable, limits)
    _warn_of_replaced(path, replaced + more)
    yield text


def _decoded(data: bytes, path: str, undecodable: str, limits: Limits) -> tuple[str, int]:
    """A document's text, and how many characters of it were replaced."""
    try:
        return data.decode("utf-8"), 0
    except UnicodeDecodeError:
        if undecodable == "error":
            for _ in lines(path, undecodable, limits):
                pass  # raises the error that says where
        text = data.decode("utf-8", "replace")
        return text, _replaced(data, text)


def _check_not_utf16(path: str, data: bytes) -> None:
    """Recognises UTF-16, with or without its mark, by the zeros of its ASCII: UTF-8 lets it pass.

    Raises:
      TaskError: the file is UTF-16.
    """
    head = data[:_LOOKED_AT]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if head.startswith(_UTF16_MARKS) or (max(even, odd) * 5 > len(head) > 3 > min(even, odd)):
        order = "BE" if even > odd or head.startswith(_UTF16_MARKS[1]) else "LE"
        raise TaskError(
            f"file '{path}' is UTF-16: convert it to UTF-8 (iconv -f UTF-16{order} -t UTF-8)."
        )


def _check_line_ends(path: str, data: bytes) -> None:
    """Recognises line ends of CR alone in a file without LF.

    Raises:
      TaskError: they are.
    """
    if b"\r" in data.rstrip(b"\r"):
        raise TaskError(f"file '{path}' ends its lines with CR alone: convert it (tr '\\r' '\\n').")


def _replaced(data: bytes, text: str) -> int:
    """The number of U+FFFD that decoding put into a text."""
    return text.count("\ufffd") - data.count(b"\xef\xbf\xbd") if "\ufffd" in text else 0


def _warn_of_replaced(path: str, replaced: int) -> None:
    if replaced:
        _LOG.warning("file '%s': %d undecodable characters replaced.", path, replaced)


def decode(data: bytes, path: str, offset: int, undecodable: str) -> str:
    """UTF-8 to text, without a byte-order mark at the beginning of a file.

    Raises:
      TaskError: not UTF-8; the message has the file and the offset of the byte.
    """
    if offset == 0 and data.startswith(_MARK):
        data, offset = data[len(_MARK) :], len(_MARK)
    try:
        return data.decode("utf-8", "strict" if undecodable == "error" else "replace")
    except UnicodeDecodeError as error:
        raise TaskError(
            f"file '{path}' is not UTF-8: byte 0x{data[error.start]:02x} at offset "
            f"{offset + error.start}; convert it, or set undecodable='replace'."
        ) from None
