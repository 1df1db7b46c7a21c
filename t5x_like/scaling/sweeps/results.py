"""Reads the results of a sweep so far from its directory."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t5x_like.checkpoints import layout as checkpoint_layout
from t5x_like.errors import UserError
from t5x_like.evaluation.loss import STANDARD_ERROR
from t5x_like.scaling.sweeps import plan_format
from t5x_like.scaling.sweeps.cells import GIN_FILE, cell_directory
from t5x_like.training import metrics_log
from t5x_like.training.watching.noise_scale import NAME as NOISE_SCALE

if TYPE_CHECKING:
    import pandas as pd

SWEEP_FILE = "sweep.json"
# A file that `run_sweep` writes into the directory of a cell that has failed for good.
FAILED_FILE = "failed.txt"
VALIDATION = "validation"
MEASURED_COLUMNS = ("task", "split", "rows", "metric", "value", "standard_error")
_STANDARD_ERROR = "_standard_error"
_NO_METRICS = ("step", "rows", "split_rows", "tokens")


def read_sweep(sweep_dir: str | Path) -> dict[str, Any]:
    """Reads `sweep.json`: `name`, `family`, `baseline`, `cells`, `learning_rate_factors`, ...

    Raises:
      UserError: this is not a sweep's directory, or its plan is not one.
    """
    path = Path(sweep_dir) / SWEEP_FILE
    if not path.exists():
        raise UserError(
            f"no sweep in '{sweep_dir}': it has no {SWEEP_FILE}. `t5x-like sweep` makes one."
        )
    if not path.is_file():  # reading a pipe would wait for ever
        raise UserError(f"'{path}' is not a file.")
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"'{path}' cannot be read: {error}.") from error
    wrong = plan_format.mistake(plan)
    if wrong:
        raise UserError(f"'{path}' is not the plan of a sweep: {wrong}.")
    return plan


def sweep_results(sweep_dir: str | Path) -> "pd.DataFrame":
    """Makes a table with a row for each run, finished or not.

    Columns: those of `cells.Cell.record`, and `status` ("done", "running", "failed",
    "waiting"), `step`, `loss` (cross-entropy of the validation split after the last update, nats a
    token; NaN unless done), `loss_standard_error` (of it, over rows), `train_loss` (the last
    record's), `seconds`, `tokens_per_second`, `gin_file`, `directory`.

    Raises:
      UserError: this is not a sweep's directory.
    """
    import pandas as pd

    root = Path(sweep_dir)
    rows = [{**cell, **cell_state(root, cell)} for cell in read_sweep(root)["cells"]]
    return pd.DataFrame(rows)


def training_curves(sweep_dir: str | Path) -> "pd.DataFrame":
    """Makes a table of the training losses of all runs, a row for each record.

    Columns: `name`, `variant`, `parameters`, `step`, `tokens`, `flops` (so far, counted as the
    sweep counts them) and `loss` (a mean since the previous record), and `gradient_noise_scale`
    (tokens, of the steps since then; NaN where it was not asked for).

    Raises:
      UserError: this is not a sweep's directory.
    """
    import pandas as pd

    root = Path(sweep_dir)
    columns = ("name", "variant", "parameters", "active_parameters", "budget")
    rows = []
    for cell in read_sweep(root)["cells"]:
        for record in metrics_log.read_records(str(cell_directory(root, cell["name"]))):
            if record["split"] == "train":
                tokens = record["step"] * cell["batch_tokens"]
                rows.append(
                    {
                        **{column: cell[column] for column in columns},
                        "step": record["step"],
                        "tokens": tokens,
                        "flops": cell["flops"] * tokens / cell["tokens"],
                        "loss": cross_entropy(record),
                        NOISE_SCALE: record.get(NOISE_SCALE, math.nan),
                    }
                )
    found = pd.DataFrame(rows, columns=[*columns, "step", "tokens", "flops", "loss", NOISE_SCALE])
    return found.astype(
        {"flops": float, "loss": float, NOISE_SCALE: float}
    )  # also where no run has a record


def sweep_measurements(sweep_dir: str | Path) -> "pd.DataFrame":
    """Makes a table of what was measured of the runs on tasks, after their last updates.

    Columns: `name`, `variant`, `parameters`, `active_parameters`, `tokens`, `flops` and `loss` of
    the run, `task`, `split`, `rows`, `metric`, `value`, and `standard_error` of the value over the
    examples (NaN where the record has none). A row for each value.

    Raises:
      UserError: this is not a sweep's directory.
    """
    import pandas as pd

    root = Path(sweep_dir)
    of_run = ("name", "variant", "parameters", "active_parameters", "tokens", "flops")
    rows: list[dict[str, Any]] = []
    for cell in read_sweep(root)["cells"]:
        run = {
            **{column: cell[column] for column in of_run},
            "loss": cell_state(root, cell)["loss"],
        }
        directory = str(cell_directory(root, cell["name"]))
        found: list[dict[str, Any]] = []
        for record in metrics_log.read_records(directory):
            if record.get("task") is None or record["step"] != cell["steps"]:
                continue
            about = {"task": metrics_log.task_told(record), "split": record["split"]}
            found += [{**about, **value} for value in _values(record)]
        found += _suite_rows(directory, cell["steps"])
        rows += [{**run, **row} for row in _once(found)]
    return pd.DataFrame(rows, columns=[*of_run, "loss", *MEASURED_COLUMNS])


def _once(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first row of each value."""
    keys = ("task", "split", "metric")
    return list({tuple(row[key] for key in keys): row for row in reversed(rows)}.values())[::-1]


def _suite_rows(directory: str, step: int) -> list[dict[str, Any]]:
    """The rows of the suites that a run was measured by: the value that is compared of each.

    Tables of papers share rows; those that were measured in other ways are told apart by name.
    """
    from t5x_like.suites.tables import has_results, read_results

    found: list[tuple[dict[str, Any], tuple[str, str, str], str]] = []
    ways: dict[tuple[str, str, str], set[str]] = {}
    for results in read_results(directory) if has_results(directory) else ():
        for row in results["rows"] if results["step"] == step else ():
            shots = f", {row['shots']} shots" if row["shots"] else ""
            value = {
                "task": f"{row['task']}{shots}",
                "split": row["split"],
                "rows": _number(row["rows"]),
                "metric": row["value"],
                "value": _number(row["measured"]),
                "standard_error": _number(row["standard_error"]),
            }
            way = json.dumps([row.get("settings"), row["rows"]], sort_keys=True)
            key = (value["task"], value["split"], value["metric"])
            ways.setdefault(key, set()).add(way)
            found.append((value, key, results["suite"]))
    return [
        {**value, "task": f"{value['task']} ({suite})"} if len(ways[key]) > 1 else value
        for value, key, suite in found
    ]


def _values(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Each metric of a record with its standard error, and the rows that it is of."""
    named = {
        name: float(value)
        for name, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    found = []
    for name, value in named.items():
        part = name.rpartition("/")[0]
        rows = named.get(f"{part}/rows" if part else "rows", math.nan)
        metric = name.rpartition("/")[2]
        if metric in _NO_METRICS or metric.endswith(_STANDARD_ERROR):
            continue
        error = named.get(f"{name}{_STANDARD_ERROR}", math.nan)
        found.append({"rows": rows, "metric": name, "value": value, "standard_error": error})
    return found


def cell_state(sweep_dir: Path, cell: dict[str, Any]) -> dict[str, Any]:
    """The state of one run, with columns of `sweep_results`.

    It is done when it has been validated after its last update and the checkpoint of that, which
    is written later, is whole.
    """
    directory = cell_directory(sweep_dir, cell["name"])
    records = metrics_log.read_records(str(directory))
    train = [record for record in records if record["split"] == "train"]
    last = train[-1] if train else {}
    final = [
        record
        for record in records
        if (record["split"], record["step"], record.get("task"))
        == (VALIDATION, cell["steps"], None)
    ]
    if final and _is_saved(directory, cell["steps"]):
        status = "done"
    elif (directory / FAILED_FILE).exists():
        status = "failed"
    else:
        status = "running" if records or (directory / "config.gin").exists() else "waiting"
    return {
        "status": status,
        "step": last.get("step", 0),
        "loss": cross_entropy(final[-1]) if status == "done" else math.nan,
        "loss_standard_error": (
            _number(final[-1].get(STANDARD_ERROR)) if status == "done" else math.nan
        ),
        "train_loss": cross_entropy(last) if last else math.nan,
        "seconds": _number(last.get("seconds")),
        "tokens_per_second": _number(last.get("tokens_per_second")),
        "gin_file": str(directory / GIN_FILE),
        "directory": str(directory),
    }


def cross_entropy(record: dict[str, Any]) -> float:
    """The cross-entropy, without the other terms of a model's loss: z-loss, load balance."""
    return _number(record.get("cross_entropy", record.get("loss")))


def _number(value: Any) -> float:
    """A number of a record; NaN for none."""
    return float(value) if isinstance(value, int | float) else math.nan


def _is_saved(directory: Path, step: int) -> bool:
    """Whether the checkpoint of the last step is whole, which is when it has its name.

    So is a run whose checkpoints have all been taken away: its numbers stay.
    """
    folder = directory / checkpoint_layout.DIRECTORY
    return not folder.is_dir() or (folder / str(step)).is_dir()
