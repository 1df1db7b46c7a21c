"""Everything that is measured of a model on a task, or on each task of a mixture."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from t5x_like.data import DatasetConfig, limit_in_rows
from t5x_like.decoding import Greedy, Strategy
from t5x_like.evaluation.extraction import SpanPrediction, extract_split, extracted_by
from t5x_like.evaluation.generation import Prediction, predict_text, task_metrics
from t5x_like.evaluation.loss import ROWS, SPLIT_ROWS, STANDARD_ERROR, measure, open_held_out
from t5x_like.evaluation.one_task import for_task
from t5x_like.evaluation.prediction import LabelPrediction, measured_of, predict_split
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Decodes, Model, Params, Task

Values = dict[str, float]


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """The evaluation of one task.

    Attributes:
      task: its name.
      values: `loss` and the model's other metrics, and those of the task.
      predictions: in the order of the examples; empty where nothing was predicted.
    """

    task: str
    values: Values
    predictions: Sequence[Prediction | LabelPrediction | SpanPrediction]


def evaluate_params(
    model: Model,
    params: Params,
    dataset: DatasetConfig,
    *,
    partitioner: Partitioner | None = None,
    strategy: Strategy = Greedy(),  # noqa: B008 (frozen)
    max_new_tokens: int | None = None,
    max_rows: int | None = None,
    max_batches: int | None = None,
    generate_predictions: bool = True,
    seed: int = 0,
    frozen: Mapping[str, Params] | None = None,
) -> list[TaskResult]:
    """Evaluates parameters in hand, with frozen ones by name; otherwise as `evaluate.evaluate`.

    Returns:
      One result a task; for a mixture of several, one more of its name with the means of
      the values that all tasks have.
    """
    partitioner = partitioner or Partitioner()
    limit = limit_in_rows(max_rows, max_batches)
    results = [
        _evaluate_task(
            model,
            params,
            dataclasses.replace(dataset, task=task),
            partitioner,
            strategy,
            max_new_tokens,
            limit,
            generate_predictions,
            seed,
            frozen,
        )
        for task, _ in dataset.task.tasks
    ]
    if len(results) > 1:
        shared = set.intersection(*(set(result.values) for result in results))
        means = {
            name: _of_all(name, [result.values[name] for result in results])
            for name in results[0].values
            if name in shared
        }
        results.append(TaskResult(dataset.task.name, means, []))
    return results


def _of_all(name: str, values: list[float]) -> float:
    """One value of a mixture: what its tasks' come to."""
    if name in (ROWS, SPLIT_ROWS):
        return sum(values)
    if name == STANDARD_ERROR:  # of a mean of independent means
        return math.hypot(*values) / len(values)
    return float(np.mean(values))


def _evaluate_task(
    model: Model,
    params: Params,
    dataset: DatasetConfig,
    partitioner: Partitioner,
    strategy: Strategy,
    max_new_tokens: int | None,
    limit: int | None,
    generate_predictions: bool,
    seed: int,
    frozen: Mapping[str, Params] | None,
) -> TaskResult:
    task = cast(Task, dataset.task)  # mixtures are taken apart by the caller
    model = for_task(model, task)
    split = open_held_out(dataset, model.batch_format, partitioner, limit)
    values = measure(model, params, split, partitioner, frozen=frozen)
    if not (generate_predictions and task.metric_fns and "inputs" in task.output_features):
        return TaskResult(task.name, values, [])
    extracted = extracted_by(model)
    if extracted is not None:
        spans, of_spans = extract_split(
            model, params, dataset, extracted, partitioner=partitioner, limit=limit
        )
        return TaskResult(task.name, _joined(values, of_spans), spans)
    measured = measured_of(model)
    if measured is not None:
        rows, of_rows = predict_split(
            model, params, dataset, measured, partitioner=partitioner, limit=limit
        )
        return TaskResult(task.name, _joined(values, of_rows), rows)

    examples, predictions = predict_text(
        cast(Decodes, model),
        params,
        dataset,
        partitioner=partitioner,
        strategy=strategy,
        max_new_tokens=max_new_tokens,
        limit=limit,
        seed=seed,
    )
    of_text = task_metrics(task, examples, predictions)
    return TaskResult(task.name, _joined(values, of_text), predictions)


def _joined(values: Values, of_task: Mapping[str, float]) -> Values:
    """The model's values, and the task's beside them."""
    return values | {f"task_{n}" if n in values else n: value for n, value in of_task.items()}
