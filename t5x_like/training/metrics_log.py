"""Where a run's numbers go: `metrics.jsonl`, and trackers of experiments."""

import functools
import json
import logging
import math
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from t5x_like.host import disk_space, files
from t5x_like.trackers import TrackedRun, Tracker, open_trackers

FILE = "metrics.jsonl"
# Of an evaluation with examples before what is asked: how many, as its files' names have it.
ASKED_AFTER = "asked_after"
_SHOWN = 3


class MetricsLog:
    """Writes one record for each call to everything that was asked for.

    Args:
      model_dir: the run's directory.
      resumed_step: records of later steps, which an interrupted run may have left,
        are dropped, so that the file reads as one run; and so are damaged lines.
      trackers: what else gets them; one that fails stops nothing.
      configuration: of the run, for the trackers.
    """

    def __init__(
        self,
        model_dir: str,
        resumed_step: int = 0,
        trackers: Sequence[Tracker] = (),
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        directory = files.location(model_dir)
        self._path = directory / FILE
        kept = [line for line in read_records(model_dir) if line["step"] <= resumed_step]
        text = "".join(map(json_line, kept))
        with disk_space.explained(self._path, len(text)):
            files.write_whole(self._path, text)
            self._file = files.growing_file(self._path)
        self._trackers = open_trackers(trackers, TrackedRun(directory, configuration or {}))

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
        for tracker in self._trackers:
            tracker.log(step, tagged)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        for tracker in self._trackers:
            tracker.close()


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

    Of several evaluations of one step, split and task after as many examples the last counts. A
    last line that is still being written is left out, and so are damaged lines, as a power failure
    leaves them, with a warning.

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
            key = evaluation_of(record) if "task" in record else number
            records.pop(key, None)  # the last one's place counts too
            records[key] = record
    if damaged:
        _warn_of_damage(str(path), tuple(damaged))
    return list(records.values())


def about_examples(asked_after: str) -> dict[str, str]:
    """What a record has of the examples before what is asked; nothing where there are none."""
    return {ASKED_AFTER: asked_after} if asked_after else {}


def evaluation_of(record: Mapping[str, Any]) -> Hashable:
    """Which evaluation a record is of: a later one of the same takes its place."""
    return record["step"], record["split"], task_told(record)


def task_told(record: Mapping[str, Any]) -> str:
    """The task of an evaluation, after how many examples if any: `x, 5 shots`."""
    after = str(record.get(ASKED_AFTER, "")).replace("_", " ")
    return f"{record.get('task')}{', ' * bool(after)}{after}"


def last_of_training(model_dir: str) -> dict[str, Any]:
    """The last record of the training itself, of whatever step; empty where there is none."""
    records = [one for one in read_records(model_dir) if one["split"] == "train"]
    return records[-1] if records else {}


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
