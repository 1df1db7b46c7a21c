"""Where a run's numbers go: `metrics.jsonl`, TensorBoard, Weights & Biases."""

import contextlib
import functools
import json
import logging
import math
import os
import secrets
import socket
import struct
import time
from collections.abc import Hashable, Mapping
from typing import Any

from etils import epath

from t5x_like.data.cache import tfrecord
from t5x_like.errors import UserError
from t5x_like.host import disk_space, files

FILE, WANDB_FILE = "metrics.jsonl", "wandb.json"
_SHOWN = 3


class MetricsLog:
    """Writes one record for each call to everything that was asked for.

    Args:
      model_dir: the run's directory.
      resumed_step: records of later steps, which an interrupted run may have left,
        are dropped, so that the file reads as one run; and so are damaged lines.
      tensorboard: whether to write `MODEL_DIR/tensorboard`.
      wandb_project: the project to log to; the key is taken from Weights & Biases' own login. A
        resumed run continues its run there, whose id is kept in `MODEL_DIR/wandb.json`.
      configuration: of the run, for Weights & Biases.
    """

    def __init__(
        self,
        model_dir: str,
        resumed_step: int = 0,
        tensorboard: bool = True,
        wandb_project: str | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        directory = files.location(model_dir)
        self._path = directory / FILE
        kept = [line for line in read_records(model_dir) if line["step"] <= resumed_step]
        text = "".join(map(json_line, kept))
        with disk_space.explained(self._path, len(text)):
            files.write_whole(self._path, text)
            self._file = files.growing_file(self._path)
        self._events = EventFile(directory / "tensorboard") if tensorboard else None
        self._wandb = None
        if wandb_project:
            self._wandb = _start_wandb(wandb_project, directory, configuration or {})

    def write(
        self,
        step: int,
        split: str,
        values: Mapping[str, float],
        task: str | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:
        """One record.

        Args:
          step: updates made.
          split: 'train', or the name of a held-out split.
          values: by name.
          task: of an evaluation, as `evaluate.evaluate` writes it; None of the run's own loss.
          about: what decided the values, for the record alone.

        Raises:
          DiskFull: there is no room for it.
        """
        named = {} if task is None else {"task": task}
        record = {"step": step, "split": split, **named, **(about or {}), **values}
        line = json_line(record).encode()
        with disk_space.explained(self._path, len(line)):
            self._file.append(line)
        of = split if task is None else f"{split}/{task}"
        tagged = {f"{of}/{name}": value for name, value in values.items()}
        if self._events:
            self._events.write(step, tagged)
        if self._wandb:
            self._wandb.log(tagged, step=step)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._events:
            self._events.close()
        if self._wandb:
            self._wandb.finish()


def json_line(record: Mapping[str, Any]) -> str:
    """A record as a line of `metrics.jsonl`; numbers that are not finite become `null`.

    JSON has no word for them, and many readers refuse the `NaN` that Python writes.
    """
    known = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(known, allow_nan=False) + "\n"


def append_record(model_dir: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
    """Adds a record to the `metrics.jsonl` of a run, which may be writing there meanwhile.

    Nothing that is there is written again, so that no record of the run can get lost.
    """
    path = files.location(model_dir) / FILE
    before = files.read_whole(path) if path.exists() else b""
    # The last line of a run that was killed may be cut; it is not to take this record with it.
    cut = before and not before.endswith(b"\n")
    file = files.growing_file(path)
    file.append(b"\n" * bool(cut) + json_line(record).encode())
    file.close()


def read_records(model_dir: str) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl`; `null` is NaN again.

    Of several evaluations of one step, split and task the last counts. A last line that is still
    being written is left out, and so are damaged lines, as a power failure leaves them, with a
    warning.

    Raises:
      UserError: the path is not a file.
    """
    path = files.location(model_dir) / FILE
    if not path.exists():
        return []
    records: dict[Hashable, dict[str, Any]] = {}
    damaged = []
    # Only these end a line: JSON may hold other characters that Python's `splitlines` splits at.
    for number, line in enumerate(files.read_whole(path).split(b"\n")[:-1], start=1):
        if not line.strip():
            continue
        record = _record(line)
        if record is None:
            damaged.append(number)
        else:
            # A run's own records, its validation's too, have no task.
            evaluation = record["step"], record["split"], str(record.get("task"))
            key = evaluation if "task" in record else number
            records.pop(key, None)  # the last one's place counts too
            records[key] = record
    if damaged:
        _warn_of_damage(str(path), tuple(damaged))
    return list(records.values())


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None if it holds none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or type(found.get("step")) is not int:
        return None
    if not isinstance(found.get("split"), str):
        return None
    return {name: math.nan if value is None else value for name, value in found.items()}


@functools.cache
def _warn_of_damage(path: str, lines: tuple[int, ...]) -> None:
    """Once for each file and damage, as sweeps read their runs again and again."""
    shown = ", ".join(map(str, lines[:_SHOWN]))
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    what = "line" if len(lines) == 1 else "lines"
    logging.getLogger(__name__).warning(
        "warning: '%s': damaged %s left out: %s%s", path, what, shown, more
    )


class EventFile:
    """A TensorBoard event file of scalars, written without TensorFlow.

    The format is TFRecord framing around `Event` messages (tensorboard's
    `compat/proto/event.proto`), of which scalars need five fields.
    """

    def __init__(self, directory: epath.Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._path = directory / name
        self._file = files.growing_file(self._path)
        self._append(_double(1, time.time()) + _bytes(3, b"brain.Event:2"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One event with these scalars."""
        summary = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + _tag(2, 5) + struct.pack("<f", value))
            for tag, value in values.items()
        )
        self._append(_double(1, time.time()) + _tag(2, 0) + _varint(step) + _bytes(5, summary))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _append(self, event: bytes) -> None:
        frame = tfrecord.framed(event)
        with disk_space.explained(self._path, len(frame)):
            self._file.append(frame)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _bytes(field: int, value: bytes) -> bytes:
    return _tag(field, 2) + _varint(len(value)) + value


def _double(field: int, value: float) -> bytes:
    return _tag(field, 1) + struct.pack("<d", value)


def _start_wandb(project: str, directory: epath.Path, configuration: Mapping[str, Any]) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            f"logging to the Weights & Biases project '{project}' needs `pip install wandb`."
        ) from error
    return wandb.init(
        project=project,
        id=_wandb_id(directory / WANDB_FILE),
        name=directory.name,
        config=dict(configuration),
        resume="allow",
    )


def _wandb_id(path: epath.Path) -> str:
    """The run's id at Weights & Biases, the same at each start; made at the first."""
    if path.exists():
        with contextlib.suppress(ValueError, RecursionError, TypeError, LookupError):
            found = json.loads(files.read_whole(path))["id"]
            if isinstance(found, str) and found:
                return found
    made = secrets.token_hex(8)
    files.write_whole(path, json.dumps({"id": made}) + "\n")
    return made
