"""What a sweep's losses are held against: a run of another kind on the same text, an n-gram model.

It is a line in the plots of loss, and no point of any law.
"""

import dataclasses
import math
from pathlib import Path

from t5x_like.errors import UserError, on_one_line
from t5x_like.evaluation.measurement import ROWS, SPLIT_ROWS
from t5x_like.scaling.sweeps import results
from t5x_like.scaling.sweeps.cells import cell_directory
from t5x_like.training import metrics_log


@dataclasses.dataclass(frozen=True)
class Floor:
    """A run's loss on the validation split.

    Attributes:
      name: the last part of its MODEL_DIR.
      loss: cross-entropy, nats a token.
      rows: how many were measured; None of a record that does not say.
      split_rows: how many the split has.
    """

    name: str
    loss: float
    rows: int | None
    split_rows: int | None


def read_floor(model_dir: str | Path) -> Floor:
    """Reads the newest evaluation of a run on the validation split.

    Raises:
      UserError: it was not evaluated.
    """
    name = str(model_dir)
    found = [
        one
        for one in metrics_log.read_records(name)
        if one["split"] == results.VALIDATION and math.isfinite(results.cross_entropy(one))
    ]
    if not found:
        raise UserError(
            f"'{on_one_line(name)}' has no finite loss of the validation split: measure it with "
            f"`t5x-like eval --gin_file={on_one_line(name)}/config.gin --gin_file=runs/eval.gin`."
        )
    last = found[-1]
    loss = results.cross_entropy(last)
    return Floor(Path(name).resolve().name, loss, last.get(ROWS), last.get(SPLIT_ROWS))


def difference(floor: Floor, sweep_dir: str | Path) -> str | None:
    """A sentence where a floor and a sweep's runs were not measured on the same rows."""
    there = _validated(sweep_dir)
    own = floor.rows, floor.split_rows
    if there is None or None in own or own == there:
        return None
    rows, split_rows = there
    said = (
        f"'{floor.name}' was measured on {floor.rows:,} of {floor.split_rows:,} rows, the runs on "
        f"{rows:,} of {split_rows:,}"
    )
    if split_rows != floor.split_rows:
        return f"{said}: it has another task, or other TASK_FEATURE_LENGTHS."
    return f"{said}: evaluate it with --gin.evaluate.evaluate.max_rows={rows}."


def _validated(sweep_dir: str | Path) -> tuple[int, int] | None:
    """The rows of the sweep's own validation, as the first run has them that tells."""
    for cell in results.read_sweep(sweep_dir)["cells"]:
        records = metrics_log.read_records(str(cell_directory(Path(sweep_dir), cell["name"])))
        for one in records:
            if one["split"] == results.VALIDATION and {ROWS, SPLIT_ROWS} <= one.keys():
                return one[ROWS], one[SPLIT_ROWS]
    return None
