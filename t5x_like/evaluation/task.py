"""Everything that is measured of a model on a task, or on each task of a mixture."""

import dataclasses
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from t5x_like.data import DatasetConfig, limit_in_rows
from t5x_like.errors import UserError
from t5x_like.evaluation.clean_parts import SETTING, Overlap
from t5x_like.evaluation.extraction import Extraction
from t5x_like.evaluation.generation import Generation
from t5x_like.evaluation.loss import Loss, of_rows
from t5x_like.evaluation.measurement import ROWS, SPLIT_ROWS, Finding, Measurement, Subject
from t5x_like.evaluation.one_task import for_task
from t5x_like.evaluation.prediction import Prediction
from t5x_like.host.journal import NO_JOURNAL, Journal
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Model, Params, Task

Values = dict[str, float]
# Before the name of a task's metric that the model has one of too.
OF_TASK = "task_"
EVERYTHING: tuple[Measurement, ...] = (Loss(), Generation(), Prediction(), Extraction())


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """The evaluation of one task.

    Attributes:
      task: its name.
      values: `loss` and the model's other metrics, those of the task, and what else was measured.
      predictions: by measurement, those that predict something; in the order of the examples.
      settings: what decided the values beside model and rows, by name.
      file_parts: by measurement, see `Finding.file_part`.
    """

    task: str
    values: Values
    predictions: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    file_parts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def asked_after(self) -> str:
        """How many examples stand before what is asked, as its files' names have it; "" of none."""
        return ", ".join(sorted(set(filter(None, self.file_parts.values()))))

    @property
    def summary(self) -> str:
        """Of how many rows, and every value, for a person."""
        shown = [f"{n} {v:.4f}" for n, v in self.values.items() if n not in (ROWS, SPLIT_ROWS)]
        return "  ".join([of_rows(self.values), *shown])


def evaluate_params(
    model: Model,
    params: Params,
    dataset: DatasetConfig,
    *,
    partitioner: Partitioner | None = None,
    measurements: Sequence[Measurement] = EVERYTHING,
    max_rows: int | None = None,
    max_batches: int | None = None,
    frozen: Mapping[str, Params] | None = None,
    journal_of: Callable[[str], Journal] = lambda task: NO_JOURNAL,
    overlap: Overlap | None = None,
) -> list[TaskResult]:
    """Evaluates parameters in hand, with frozen ones by name; otherwise as `evaluate.evaluate`.

    `journal_of` gives, for the name of a task, the journal of results of its batches.

    Returns:
      One result a task; for a mixture of several, one more of its name with the means of
      the values that all tasks have.

    Raises:
      UserError: two measurements of one name, or nothing that is measured of a task.
    """
    check_names(measurements)
    partitioner = partitioner or Partitioner()
    limit = limit_in_rows(max_rows, max_batches)
    results = []
    for task, _ in dataset.task.tasks:
        one = dataclasses.replace(dataset, task=task)
        if overlap is not None:
            overlap.check(one)
        subject = Subject(
            for_task(model, task), params, one, partitioner, limit, frozen, journal_of(task.name)
        )
        every = {each.name: each.measure(subject) for each in measurements}
        found = {name: one for name, one in every.items() if one is not None}
        parts = overlap.parts(one, found) if overlap is not None else None
        result = _result(task.name, found | ({SETTING: parts} if parts is not None else {}))
        results.append(_of_whole_groups(task, result))
    if len(results) > 1:
        shared = set.intersection(*(set(result.values) for result in results))
        means = {
            name: _of_all(name, [result.values[name] for result in results])
            for name in results[0].values
            if name in shared
        }
        file_parts = {n: part for result in results for n, part in result.file_parts.items()}
        results.append(TaskResult(dataset.task.name, means, file_parts=file_parts))
    return results


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Measurements of a split of a task, or of each task of a mixture, while a run trains.

    Attributes:
      dataset: the split.
      measurements: as for `evaluate.evaluate`.
      period: updates between two; None for the run's `validation_period`. There is one after the
        last update too.
      max_rows: most rows of each task, drawn evenly from the whole split; None for all.
      overlap: as for `evaluate.evaluate`.

    Raises:
      UserError: nothing to measure, two measurements of one name, or a number below 1.
    """

    dataset: DatasetConfig
    measurements: Sequence[Measurement] = EVERYTHING
    period: int | None = None
    max_rows: int | None = None
    overlap: Overlap | None = None

    def __post_init__(self) -> None:
        if not self.measurements:
            raise UserError(
                "evaluation.Evaluation.measurements is empty: list what is measured, such as "
                "[@evaluation.Ranking()]."
            )
        check_names(self.measurements)
        if self.period is not None and (not isinstance(self.period, int) or self.period < 1):
            raise UserError(
                f"evaluation.Evaluation.period is {self.period!r}: give a whole number of updates, "
                "1 or more, or None for train.validation_period."
            )
        limit_in_rows(self.max_rows, None)

    def __str__(self) -> str:
        """What is measured of what, for a person."""
        names = ", ".join(each.name for each in self.measurements)
        every = "" if self.period is None else f" every {self.period} updates"
        return f"{names} of {self.dataset.task.name} {self.dataset.split}{every}"


def check_names(measurements: Sequence[Measurement]) -> None:
    """Checks the names of measurements, which are those of their files.

    Raises:
      UserError: two have the same, or one is no name of a file and of values.
    """
    names = [each.name for each in measurements]
    for name in names:
        if not re.fullmatch(r"[\w.-]*\w", name):
            raise UserError(
                f"a measurement has the name {name!r}, which its values and its file begin with: "
                "give letters, digits and '_'."
            )
        if names.count(name) > 1:
            raise UserError(
                f"measurements has {names.count(name)} of the name {name!r}, whose files would be "
                "one: give one of each kind, or another name where it takes one."
            )


def _result(task: str, found: Mapping[str, Finding]) -> TaskResult:
    """What all measurements of a task have found."""
    if not found:
        raise UserError(
            f"nothing was measured of task {task!r}: it has nothing of what `measurements` lists. "
            "evaluation.Loss() measures every task."
        )
    values: Values = {}
    # Whatever the order in which they were asked for, the model's own metrics keep their names.
    for finding in sorted(found.values(), key=lambda one: one is not found.get(Loss.name)):
        for name, value in finding.values.items():
            if name in (ROWS, SPLIT_ROWS):
                values.setdefault(name, value)
            else:  # a metric of the task takes no metric of the model's place
                values[OF_TASK + name if name in values else name] = value
    return TaskResult(
        task,
        values,
        {name: one.predictions for name, one in found.items() if one.predictions},
        {name: text for one in found.values() for name, text in one.settings.items()},
        {name: one.file_part for name, one in found.items()},
    )


def _of_whole_groups(task: Task, result: TaskResult) -> TaskResult:
    """The result without values of groups of rows, where rows of a group may be left out.

    A metric says which they are by `of_whole_groups`, names among those that it gives.
    """
    of_groups = [
        name
        for metric in getattr(task, "metric_fns", ())
        for name in getattr(inspect.unwrap(metric), "of_whole_groups", ())
    ]
    if not of_groups:
        return result
    is_limited = result.values.get(ROWS) != result.values.get(SPLIT_ROWS)
    # Of all rows, or of the clean or dirty ones; `ranking_NAME` is of options.
    pattern = rf"(.+/)?(\w+_)?({'|'.join(map(re.escape, of_groups))})"
    lost = [
        name
        for name in result.values
        if re.fullmatch(pattern, name) and (is_limited or "/" in name)
    ]
    if lost and jax.process_index() == 0:
        print(
            f"{task.name}: {', '.join(lost)} left out, because rows of one question are measured "
            "without others of it.",
            file=sys.stderr,
            flush=True,
        )
    kept = {name: value for name, value in result.values.items() if name not in lost}
    return dataclasses.replace(result, values=kept)


def _of_all(name: str, values: list[float]) -> float:
    """One value of a mixture: what its tasks' come to."""
    if name.rpartition("/")[2] in (ROWS, SPLIT_ROWS):  # of a part too
        return sum(values)
    if name.endswith("standard_error"):  # of a mean of independent means
        return math.hypot(*values) / len(values)
    return float(np.mean(values))
