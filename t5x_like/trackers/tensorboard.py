"""TensorBoard's event files, written without TensorFlow."""

import dataclasses
import os
import socket
import struct
import time
from collections.abc import Mapping

from etils import epath

from t5x_like.data.cache import tfrecord
from t5x_like.host import disk_space, files
from t5x_like.trackers.tracker import OpenTracker, TrackedRun


@dataclasses.dataclass(frozen=True)
class TensorBoard:
    """Writes `MODEL_DIR/tensorboard`."""

    def open(self, run: TrackedRun) -> OpenTracker:
        """See `Tracker`."""
        return EventFile(run.directory / "tensorboard")


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

    def log(self, step: int, values: Mapping[str, float]) -> None:
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
