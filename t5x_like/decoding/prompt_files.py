"""Prompts read from files, and answers written to files that can be continued."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from t5x_like.errors import UserError
from t5x_like.host import disk_space, files
from t5x_like.protocols import InputsForm

InputFormat = Literal["text", "jsonl"]
Record = dict[str, Any]

STANDARD = "-"


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One prompt of a file.

    Attributes:
      line: its number in the file, from 1.
      record: the line's JSON object with the prompt in it; of a text line, the prompt alone.
      text: the prompt.
    """

    line: int
    record: Record
    text: str


@dataclasses.dataclass(frozen=True)
class PromptFile:
    """Where prompts come from.

    Attributes:
      path: a local file or one in an object store; `-` is standard input.
      input_format: "text", a prompt a line, or "jsonl".
      field: where a JSON line holds its prompt.
      form: writes the prompt of a JSON line without this field, of its columns; or None.
    """

    path: str
    input_format: InputFormat
    field: str
    form: InputsForm | None = None

    def check(self) -> None:
        """Opens the file, and reads nothing of it.

        Raises:
          UserError: it is missing, or may not be read.
        """
        if self.path != STANDARD:
            with self._opened():
                pass

    def __iter__(self) -> Iterator[Prompt]:
        """The prompts in order.

        Raises:
          UserError: the file cannot be read, or a line holds no prompt; names the line.
        """
        if self.path == STANDARD:
            yield from self.of(sys.stdin.buffer)
            return
        with self._opened() as file:
            yield from self.of(file)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            with files.location(self.path).open("rb") as file:
                yield file
        except FileNotFoundError as error:
            raise UserError(f"input_path: file '{self.path}' not found.") from error
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"input_path '{self.path}' cannot be read: {reason}.") from error

    @property
    def name(self) -> str:
        """The file's name in messages."""
        return "standard input" if self.path == STANDARD else self.path

    def of(self, lines: Iterable[bytes]) -> Iterator[Prompt]:
        """The prompts of lines as a binary file gives them.

        Empty lines of JSON lines are skipped, and of text are empty prompts.
        """
        for number, raw in enumerate(lines, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{self.name}, line {number}: byte {error.start + 1} is not UTF-8; "
                    "convert the file to UTF-8."
                ) from error
            if self.input_format == "text":
                yield Prompt(number, {self.field: line}, line)
            elif line.strip():
                record = self._parsed(line, f"{self.name}, line {number}")
                yield Prompt(number, record, record[self.field])

    def _parsed(self, line: str, where: str) -> Record:
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno}).") from error
        except RecursionError as error:
            raise UserError(f"{where}: JSON that is nested too deeply.") from error
        if not isinstance(record, dict):
            raise UserError(f"{where}: found {type(record).__name__}; a line is a JSON object.")
        if self.field not in record:
            record = {**record, self.field: self._written(record, where)}
        if not isinstance(record[self.field], str):
            raise UserError(
                f"{where}: the field {self.field!r} is {type(record[self.field]).__name__}; a "
                "prompt is text."
            )
        try:
            json.dumps(record, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"{where}: an escape is half of a surrogate pair, not text.") from error
        return record

    def _written(self, record: Record, where: str) -> str:
        """The prompt that the task's form makes of a record's columns."""
        columns = () if self.form is None else self.form.input_columns
        if self.form is None or not columns or not set(columns) <= record.keys():
            wanted = f" or give the columns {', '.join(columns)}" if columns else ""
            raise UserError(
                f"{where}: no field {self.field!r}; it has {sorted(record)}. Name the prompt's "
                f"with infer.field{wanted}."
            )
        try:
            return self.form.inputs_of(record)
        except Exception as error:
            if getattr(error, "exit_code", None) != UserError.exit_code:
                raise
            raise UserError(f"{where}: {error}") from error


class AnswerFile:
    """JSON lines that are appended to what an earlier run has written, or standard output.

    Everything is UTF-8, whatever the locale.

    Args:
      path: a local file or one in an object store, made with its folder; `-` is standard output.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: files.GrowingFile | None = None

    def written(self) -> int:
        """Whole lines that are there; what follows the last of them is cut off.

        Raises:
          UserError: there is something that cannot be read.
        """
        lines = 0
        end = 0
        for raw in self._lines():
            if raw.endswith(b"\n"):
                lines, end = lines + 1, end + len(raw)
            elif files.is_remote(self.path):
                files.write_whole(self.path, files.location(self.path).read_bytes()[:end])
            else:
                with Path(self.path).open("r+b") as file:
                    file.truncate(end)
        return lines

    def records(self) -> Iterator[Mapping[str, Any] | None]:
        """The object of each line; None for a line that is none."""
        for raw in self._lines():
            try:
                found = json.loads(raw)
            except (ValueError, RecursionError):
                found = None
            yield found if isinstance(found, dict) else None

    def _lines(self) -> Iterator[bytes]:
        if self.path == STANDARD:
            return
        place = files.location(self.path)
        try:
            if not place.exists():
                return
            with place.open("rb") as file:
                yield from file
        except OSError as error:
            raise self._refused(error) from error

    def open(self) -> None:
        """Makes the file, if there is none.

        Raises:
          UserError: it cannot be written.
        """
        if self.path == STANDARD:
            return
        place = files.location(self.path)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._file = files.growing_file(place)
        except OSError as error:
            raise self._refused(error) from error

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Writes a line for each record, and hands them to the system; after `open`.

        Raises:
          UserError: the file cannot be written.
          DiskFull: there is no room.
        """
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        if self._file is None:
            _print(text)
            return
        try:
            with disk_space.explained(self.path, len(text.encode())):
                self._file.append(text.encode())
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Makes everything visible."""
        if self._file is not None:
            self._file.close()

    def _refused(self, error: OSError) -> UserError:
        reason = error.strerror or error
        return UserError(f"output_path '{self.path}' cannot be written: {reason}.")


def _print(text: str) -> None:
    """Writes to standard output in UTF-8; a notebook's takes text alone."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:
        sys.stdout.write(text)
    else:
        sys.stdout.flush()
        binary.write(text.encode())
    sys.stdout.flush()
