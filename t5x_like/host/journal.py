"""Results of batches that are kept on disk, so that what is interrupted resumes where it was.

What a compiled program gives for a batch depends on its inputs alone. Each result is therefore kept
under a digest of all inputs, and whoever asks again for the same is given what was kept: the same
bits, and nothing of other inputs, whatever has changed in between.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath

from t5x_like.host import disk_space, files

Arrays = Mapping[str, np.ndarray]


class Journal:
    """What is known of results; this one keeps nothing."""

    def key(self, settings: str, inputs: Mapping[str, Any]) -> str:
        """What the results of a batch are kept under.

        Args:
          settings: what decides them beside the inputs and what the journal is of.
          inputs: arrays by name.
        """
        return ""

    def get(self, key: str) -> Arrays | None:
        """Results by name, as they were put; None of an unknown key."""
        return None

    def put(self, key: str, results: Arrays) -> None:
        """Keeps results."""

    def __call__(
        self, settings: str, inputs: Mapping[str, Any], compute: Callable[[], Arrays]
    ) -> Arrays:
        """The results that are known of these inputs, or else what `compute` gives, kept."""
        key = self.key(settings, inputs)
        found = self.get(key)
        if found is None:
            found = compute()
            self.put(key, found)
        return found


NO_JOURNAL = Journal()


class FileJournal(Journal):
    """Results in a file, a JSON line for each batch.

    Args:
      path: the file, made with the first result.
      entries: what is known already, as `read` gives it.
      writes: whether this process keeps what is computed.
    """

    def __init__(self, path: epath.Path, entries: Mapping[str, Any], writes: bool = True) -> None:
        self.path = path
        self._entries = dict(entries)
        self._writes = writes
        self._file: files.GrowingFile | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def key(self, settings: str, inputs: Mapping[str, Any]) -> str:
        """A digest of everything."""
        digest = hashlib.blake2b(settings.encode(), digest_size=16)
        for name in sorted(inputs):
            array = np.ascontiguousarray(inputs[name])
            digest.update(f"\0{name} {array.dtype.name} {array.shape}\0".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def get(self, key: str) -> Arrays | None:
        """See `Journal`."""
        if key not in self._entries:
            return None
        return {name: _array(value) for name, value in self._entries[key].items()}

    def put(self, key: str, results: Arrays) -> None:
        """See `Journal`.

        Raises:
          DiskFull: there is no room.
        """
        if not self._writes or key in self._entries:
            return
        values = {name: _written(value) for name, value in results.items()}
        line = json.dumps({"key": key, "values": values}).encode() + b"\n"
        with disk_space.explained(self.path, len(line)):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = files.growing_file(self.path)
            self._file.append(line)

    def close(self) -> None:
        """Makes everything visible."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Removes the file, when all that is made of the results has been written."""
        self.close()
        if self._writes:
            self.path.unlink(missing_ok=True)


def read(path: epath.Path) -> dict[str, Any]:
    """What a journal's file holds, ready for JSON; lines that were cut or damaged are left out.

    A last line that was cut is ended, so that the next one is whole.
    """
    if not path.exists():
        return {}
    content = files.read_whole(path)
    if content and not content.endswith(b"\n"):
        content += b"\n"
        files.write_whole(path, content)
    return dict(_entries(content.splitlines()))


def _entries(lines: Iterable[bytes]) -> Iterable[tuple[str, Any]]:
    for line in lines:
        try:
            entry = json.loads(line)
            key, values = entry["key"], entry["values"]
            for value in values.values():
                _array(value)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        yield key, values


def _written(array: np.ndarray) -> dict[str, Any]:
    array = np.asarray(array)
    text = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"dtype": array.dtype.name, "shape": list(array.shape), "base64": text}


def _array(value: Mapping[str, Any]) -> np.ndarray:
    content = base64.b64decode(value["base64"], validate=True)
    return np.frombuffer(content, np.dtype(value["dtype"])).reshape(value["shape"])
