"""`t5x-like glue-average`: GLUE as one number, of what `eval` found for each task."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from t5x_like.errors import UserError

Averages = Mapping[str, Callable[[Mapping[str, Mapping[str, float]]], float]]
# What a record says beside the task's metrics.
_NOT_METRICS = ("rows", "split_rows", "step", "split", "task")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "model_dirs", nargs="+", metavar="MODEL_DIR", help="runs that were evaluated"
    )
    parser.add_argument("--split", default="validation", help="of the evaluations")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def evaluated(
    model_dirs: Sequence[str], split: str, task_of: Callable[[str], str | None]
) -> dict[str, dict[str, Any]]:
    """The newest evaluation of each of GLUE's tasks in these runs, by its own name.

    Args:
      model_dirs: of the runs.
      split: of the evaluations.
      task_of: which of GLUE's tasks one of this name is, or None.

    Raises:
      UserError: two runs have the same task, an evaluation is of a part of the split, or there is
        none.
    """
    from t5x_like.training.metrics_log import read_records

    found: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for model_dir in model_dirs:
        for record in read_records(model_dir):
            name = record.get("task")
            task = None if name is None else task_of(str(name))
            if task is None or record["split"] != split:
                continue
            if origins.setdefault(task, model_dir) != model_dir:
                raise UserError(
                    f"both '{origins[task]}' and '{model_dir}' have an evaluation of GLUE's "
                    f"{task}: give one of them."
                )
            if record["step"] >= found.get(task, record)["step"]:
                found[task] = record
    if not found:
        raise UserError(
            f"no run of {', '.join(model_dirs)} has an evaluation of one of GLUE's tasks on split "
            f"'{split}': `t5x-like eval` makes them, of tasks such as glue_mrpc_labels."
        )
    for task, record in found.items():
        if record.get("rows") != record.get("split_rows"):
            raise UserError(
                f"the evaluation of {task} in '{origins[task]}' is of {record['rows']:,} of "
                f"{record['split_rows']:,} rows: evaluate the whole split."
            )
    return found


def report(records: Mapping[str, Mapping[str, Any]], averages: Averages) -> dict[str, Any]:
    """Steps and metrics by task, each average or None, and what those of None lack."""
    results = {str(record["task"]): record for record in records.values()}
    numbers: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    for name, average in averages.items():
        try:
            numbers[name] = average(results)
        except Exception as error:
            if not hasattr(error, "exit_code"):
                raise
            numbers[name], missing[name] = None, str(error)
    tasks = {
        task: {
            "step": record["step"],
            **{
                name: value
                for name, value in record.items()
                if name not in _NOT_METRICS and isinstance(value, float | int)
            },
        }
        for task, record in records.items()
    }
    return {"tasks": tasks, **numbers, "missing": missing}


def run(options: argparse.Namespace) -> None:
    """Prints the averages of the runs that are given."""
    from tasks import glue_averages

    records = evaluated(options.model_dirs, options.split, glue_averages.task_of)
    found = report(records, glue_averages.AVERAGES)
    if options.json:
        print(json.dumps(found))
        return
    for task, values in found["tasks"].items():
        shown = "  ".join(f"{name} {v:.2f}" for name, v in values.items() if name != "step")
        print(f"{task:16} step {values['step']}  {shown}")
    for name in glue_averages.AVERAGES:
        value = found[name]
        shown = found["missing"][name] if value is None else f"{value:.2f}"
        print(f"{name:17}: {shown}")
