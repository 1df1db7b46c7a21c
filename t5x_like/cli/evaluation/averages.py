"""`t5x-like glue-average` and `super-glue-average`: a benchmark as one number.

Of what `eval` found for each of its tasks.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from t5x_like.errors import UserError

# What a record says beside the task's metrics.
_NOT_METRICS = ("rows", "split_rows", "step", "split", "task")


class Benchmark(Protocol):
    """See `tasks.glue.averages.Benchmark`."""

    @property
    def title(self) -> str:
        """What it is called."""

    @property
    def example(self) -> str:
        """The name of one of its tasks."""

    @property
    def task_of(self) -> Callable[[str], str | None]:
        """Which of its tasks a registered one is, or None."""

    @property
    def averages(self) -> Mapping[str, Callable[[Mapping[str, Mapping[str, float]]], float]]:
        """By name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of both commands."""
    parser.add_argument(
        "model_dirs", nargs="+", metavar="MODEL_DIR", help="runs that were evaluated"
    )
    parser.add_argument("--split", default="validation", help="of the evaluations")
    parser.add_argument(
        "--shots", help="of the evaluations: 0, 5 or fit, where there are several (see SHOTS)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def evaluated(
    model_dirs: Sequence[str], split: str, benchmark: Benchmark, shots: str | None = None
) -> dict[str, dict[str, Any]]:
    """The newest evaluation of each of the benchmark's tasks in these runs, by its own name.

    Args:
      model_dirs: of the runs.
      split: of the evaluations.
      benchmark: whose tasks.
      shots: how many examples stand before what is asked; None where all have as many.

    Raises:
      UserError: two runs have the same task, an evaluation is of a part of the split, there are
        some after different numbers of examples, or none.
    """
    from t5x_like.training.metrics_log import ASKED_AFTER, read_records

    found: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    without_answers: set[str] = set()
    counts: set[str] = set()
    for model_dir in model_dirs:
        for record in read_records(model_dir):
            name = str(record.get("task"))
            task = benchmark.task_of(name)
            if task is None or record["split"] != split:
                continue
            if not _has_answers(name, record):
                without_answers.add(name)
                continue
            counts.add(count := record.get(ASKED_AFTER, "0_shots").removesuffix("_shots"))
            if shots not in (None, count):
                continue
            if origins.setdefault(task, model_dir) != model_dir:
                raise UserError(
                    f"both '{origins[task]}' and '{model_dir}' have an evaluation of "
                    f"{benchmark.title}'s {task}: give one of them."
                )
            if record["step"] >= found.get(task, record)["step"]:
                found[task] = record
    there = ", ".join(sorted(counts))
    if shots is None and len(counts) > 1:
        raise UserError(
            f"the evaluations on split '{split}' are after different numbers of examples, {there}: "
            "choose one of them with --shots."
        )
    if not found and counts:
        raise UserError(
            f"no evaluation on split '{split}' is after {shots} examples: --shots may be {there}."
        )
    if not found and without_answers:
        raise UserError(
            f"the evaluations of {', '.join(sorted(without_answers))} have no answers in text: "
            "evaluate with evaluation.Generation() among MEASUREMENTS, as without the macro."
        )
    if not found:
        raise UserError(
            f"no run of {', '.join(model_dirs)} has an evaluation of one of {benchmark.title}'s "
            f"tasks on split '{split}': `t5x-like eval` makes them, of tasks such as "
            f"{benchmark.example}."
        )
    for task, record in found.items():
        if record.get("rows") != record.get("split_rows"):
            raise UserError(
                f"the evaluation of {task} in '{origins[task]}' is of {record['rows']:,} of "
                f"{record['split_rows']:,} rows: evaluate the whole split."
            )
    return found


def _has_answers(name: str, record: Mapping[str, Any]) -> bool:
    """Whether the task's metrics were measured, and not the loss alone.

    Of a task for a head they always are; of text, where it says how the text was generated.
    """
    from t5x_like.evaluation.generation import DECODING

    return name.endswith("_labels") or DECODING in record


def _metrics_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a record; those of the task, where the model has one of the same name."""
    from t5x_like.evaluation.task import OF_TASK

    numbers = {
        name: value
        for name, value in record.items()
        if name not in _NOT_METRICS and isinstance(value, float | int)
    }
    own = {name: value for name, value in numbers.items() if name.startswith(OF_TASK)}
    others = {name: value for name, value in numbers.items() if name not in own}
    return others | {name.removeprefix(OF_TASK): value for name, value in own.items()}


def report(records: Mapping[str, Mapping[str, Any]], benchmark: Benchmark) -> dict[str, Any]:
    """Steps and metrics by task, each average or None, and what those of None lack."""
    results = {str(record["task"]): _metrics_of(record) for record in records.values()}
    numbers: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    for name, average in benchmark.averages.items():
        try:
            numbers[name] = average(results)
        except Exception as error:
            if not hasattr(error, "exit_code"):
                raise
            numbers[name], missing[name] = None, str(error)
    tasks = {
        task: {"step": record["step"], **_metrics_of(record)} for task, record in records.items()
    }
    return {"tasks": tasks, **numbers, "missing": missing}


def glue(options: argparse.Namespace) -> None:
    """Prints GLUE's averages of the runs that are given."""
    from tasks.glue import averages

    _print(options, averages.GLUE)


def super_glue(options: argparse.Namespace) -> None:
    """Prints SuperGLUE's average of the runs that are given."""
    from tasks.glue import averages

    _print(options, averages.SUPER_GLUE)


def _print(options: argparse.Namespace, benchmark: Benchmark) -> None:
    found = report(
        evaluated(options.model_dirs, options.split, benchmark, options.shots), benchmark
    )
    if options.json:
        print(json.dumps(found))
        return
    for task, values in found["tasks"].items():
        shown = "  ".join(f"{name} {v:.2f}" for name, v in values.items() if name != "step")
        print(f"{task:16} step {values['step']}  {shown}")
    for name in benchmark.averages:
        value = found[name]
        shown = found["missing"][name] if value is None else f"{value:.2f}"
        print(f"{name:17}: {shown}")
