"""What a page of runs shows of each: its records, its newest samples, and its configuration."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.training.metrics_log import FILE, read_records, task_told

# Rows of the newest predictions of each task and split.
_SAMPLES = 5


@dataclasses.dataclass(frozen=True)
class WatchedRun:
    """One run, finished or not.

    Attributes:
      name: by which it is known on the page.
      train: the records of the training, a row each, by step.
      measured: those of validations and evaluations, with `split` and `task`.
      samples: rows with `task`, `split`, `step`, `inputs`, `targets` and `predictions`.
      config: its `config.gin`; "" without one.
    """

    name: str
    train: pd.DataFrame
    measured: pd.DataFrame
    samples: pd.DataFrame
    config: str

    @property
    def last(self) -> dict[str, Any]:
        """The last record of the training; empty before the first."""
        return {} if self.train.empty else dict(self.train.iloc[-1].dropna())


def is_run(directory: str) -> bool:
    """Whether a directory has the records of a run."""
    return (files.location(directory) / FILE).is_file()


def read(directories: Sequence[str]) -> list[WatchedRun]:
    """Reads runs; names are as short as tells them apart.

    Raises:
      UserError: a directory has no records, or is given twice.
    """
    for directory in directories:
        if not is_run(directory):
            raise UserError(
                f"'{directory}' has no {FILE}: give the MODEL_DIR of a run that has begun."
            )
    paths = [Path(directory).absolute() for directory in directories]
    if len(set(paths)) < len(paths):
        raise UserError("a run is given twice: give each MODEL_DIR once.")
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{path.name}" for path in paths]
    if len(set(names)) < len(names):
        names = list(map(str, directories))
    return [_run(directory, name) for directory, name in zip(directories, names, strict=True)]


def _run(directory: str, name: str) -> WatchedRun:
    records = read_records(directory)
    train = _frame([record for record in records if record["split"] == "train"])
    measured = _frame(
        [
            record | ({"task": task_told(record)} if "task" in record else {})
            for record in records
            if record["split"] != "train"
        ]
    )
    config = files.location(directory) / "config.gin"
    text = config.read_text() if config.is_file() else ""
    return WatchedRun(name, train, measured, _samples(directory), text)


def _frame(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Records, a row each, with what every record may have."""
    frame = pd.DataFrame(records)
    return frame.assign(**{name: np.nan for name in ("step", "split", "task") if name not in frame})


def _samples(directory: str) -> pd.DataFrame:
    """The first rows of the newest predictions of each task and split."""
    rows = []
    folder = files.location(directory) / "eval"
    for path in sorted(folder.glob("*/*/*.jsonl")) if folder.is_dir() else ():
        if path.stem.isdigit():  # other measurements have names of their own
            rows.append((path.parent, int(path.stem), path))
    newest = {place: (step, path) for place, step, path in sorted(rows, key=lambda row: row[1])}
    found = []
    for place, (step, path) in newest.items():
        for line in path.read_text().split("\n")[:_SAMPLES]:
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the end of the file
            shown = {key: str(row.get(key, "")) for key in ("inputs", "targets", "predictions")}
            about = {"task": place.parent.name, "split": place.name, "step": step}
            found.append({**about, **shown})
    return pd.DataFrame(found)
