"""Evaluation: the loss on a split, and a task's metrics on what the model generates.

For each checkpoint and each task: `MODEL_DIR/eval/TASK/STEP.jsonl`, one line an example with
`inputs`, `targets`, `predictions` and `scores`, and one record in `MODEL_DIR/metrics.jsonl`.
"""

import dataclasses
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import jax
import numpy as np
from etils import epath

from t5x_like import checkpoints
from t5x_like.data import DatasetConfig, open_evaluation
from t5x_like.decoding import Generation, Greedy, Strategy, TextCodec, generate
from t5x_like.decoding.tally import Tally
from t5x_like.errors import UserError
from t5x_like.host import compilation_cache, files
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Mixture, Model, Params, Task
from t5x_like.training.metrics_log import FILE as METRICS_FILE
from t5x_like.training.metrics_log import EventFile
from t5x_like.training.validation import mean_metrics

Values = dict[str, float]
Steps = Literal["last", "all"] | int | Sequence[int]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What was expected of the model for one example, and what came, as text."""

    inputs: str
    targets: str
    predictions: str
    scores: float


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """The evaluation of one task.

    Attributes:
      task: its name.
      values: `loss` and the model's other metrics, and those of the task.
      predictions: in the order of the examples; empty where nothing was generated.
    """

    task: str
    values: Values
    predictions: list[Prediction]


def evaluate(
    *,
    model: Model,
    model_dir: str,
    dataset: DatasetConfig,
    partitioner: Partitioner | None = None,
    steps: Steps = "last",
    strategy: Strategy = Greedy(),  # noqa: B008 (frozen)
    max_new_tokens: int | None = None,
    max_batches: int | None = None,
    generate_predictions: bool = True,
    seed: int = 0,
    output_dir: str | None = None,
    tensorboard: bool = True,
) -> dict[int, dict[str, Values]]:
    """Evaluates checkpoints of a run.

    Args:
      model: of the run.
      model_dir: the run, or one checkpoint directory below it.
      dataset: the split; of a mixture, each task is evaluated apart.
      partitioner: the mesh; data parallel over all devices when None.
      steps: which checkpoints: "last", "all", a step, or several.
      strategy: how predictions are generated.
      max_new_tokens: longest prediction; None for the length of `targets`.
      max_batches: batches of each task to use; None for all.
      generate_predictions: whether to generate, for tasks that have metrics.
      seed: for strategies that draw.
      output_dir: where `eval/` and `metrics.jsonl` are written; None for `model_dir`.
      tensorboard: whether to write an event file as well.

    Returns:
      step -> task -> name -> value; for a mixture, its own name holds the means.

    Raises:
      UserError: no such checkpoint, or data that cannot be read.
    """
    compilation_cache.enable()
    partitioner = partitioner or Partitioner()
    directory = files.location(output_dir or model_dir)
    results: dict[int, dict[str, Values]] = {}
    events = None
    for wanted in chosen_steps(model_dir, steps):
        params, step = checkpoints.load_params(model_dir, model, partitioner, wanted)
        results[step] = {}
        for result in evaluate_params(
            model,
            params,
            dataset,
            partitioner=partitioner,
            strategy=strategy,
            max_new_tokens=max_new_tokens,
            max_batches=max_batches,
            generate_predictions=generate_predictions,
            seed=seed,
        ):
            results[step][result.task] = result.values
            if jax.process_index() == 0:
                # Not before there is a result: what cannot be evaluated leaves nothing behind.
                directory.mkdir(parents=True, exist_ok=True)
                if events is None and tensorboard:
                    events = EventFile(directory / "tensorboard")
                _report(directory, events, step, dataset.split, result)
    if events is not None:
        events.close()
    return results


def chosen_steps(model_dir: str, steps: Steps) -> list[int | None]:
    """The checkpoints meant; None stands for the newest, or the one that `model_dir` is.

    Raises:
      UserError: neither "last", "all" nor steps; a step without a checkpoint; no checkpoint.
    """
    if isinstance(steps, str):
        if steps == "last":
            return [None]
        if steps != "all":
            raise UserError(f"steps is {steps!r}: give 'last', 'all', a step or a list of steps.")
        found = checkpoints.checkpoint_steps(model_dir)
        if not found:
            checkpoints.find_checkpoint(model_dir)  # raises where there is none
        return list(found) or [None]
    wanted = [steps] if isinstance(steps, int) else list(steps)
    for step in wanted:  # all of them before the first is evaluated
        checkpoints.find_checkpoint(model_dir, step)
    return list(wanted)


def evaluate_params(
    model: Model,
    params: Params,
    dataset: DatasetConfig,
    *,
    partitioner: Partitioner | None = None,
    strategy: Strategy = Greedy(),  # noqa: B008 (frozen)
    max_new_tokens: int | None = None,
    max_batches: int | None = None,
    generate_predictions: bool = True,
    seed: int = 0,
) -> list[TaskResult]:
    """Evaluates parameters in hand; the arguments are those of `evaluate`.

    Returns:
      One result a task; for a mixture of several, one more of its name with the means of
      the values that all tasks have.
    """
    partitioner = partitioner or Partitioner()
    tasks = tasks_of(dataset.task)
    results = [
        _evaluate_task(
            model,
            params,
            dataclasses.replace(dataset, task=task),
            partitioner,
            strategy,
            max_new_tokens or dataset.task_feature_lengths["targets"],
            max_batches,
            generate_predictions,
            seed,
        )
        for task in tasks
    ]
    if len(results) > 1:
        shared = set.intersection(*(set(result.values) for result in results))
        means = {
            name: float(np.mean([result.values[name] for result in results]))
            for name in results[0].values
            if name in shared
        }
        results.append(TaskResult(dataset.task.name, means, []))
    return results


def tasks_of(task: Task | Mixture) -> list[Task]:
    """The tasks of a mixture; a task is its own."""
    return [one for one, _ in task.tasks] if hasattr(task, "tasks") else [task]


def _evaluate_task(
    model: Model,
    params: Params,
    dataset: DatasetConfig,
    partitioner: Partitioner,
    strategy: Strategy,
    max_new_tokens: int,
    max_batches: int | None,
    generate_predictions: bool,
    seed: int,
) -> TaskResult:
    task = cast(Task, dataset.task)  # mixtures are taken apart by the caller
    index, count = partitioner.data_shard()
    mine = open_evaluation(
        dataset, batch_format=model.batch_format, shard_index=index, shard_count=count
    )
    batches = (each.batch for each in itertools.islice(mine, max_batches))
    values = mean_metrics(model, params, batches, partitioner)
    if not (generate_predictions and task.metric_fns and "inputs" in task.output_features):
        return TaskResult(task.name, values, [])

    # Every process decodes all rows, as one program over the whole mesh.
    whole = open_evaluation(dataset, batch_format=model.batch_format)
    examples = [
        example for each in itertools.islice(whole, max_batches) for example in each.examples
    ]
    codec = TextCodec.for_task(task, model, dataset.task_feature_lengths)
    tally = Tally(f"{task.name} {dataset.split}", len(examples), shown=jax.process_index() == 0)
    with partitioner.activate():
        generations = generate(
            model,
            params,
            [example["inputs"].tolist() for example in examples],
            max_new_tokens=max_new_tokens,
            strategy=strategy,
            eos_id=codec.targets.vocabulary.eos_id,
            bos_id=codec.start_id,
            bidirectional_prompt=codec.bidirectional_prompt,
            batch_size=dataset.batch_size,
            seed=seed,
            progress=tally.add,
        )
    tally.close()
    predictions = [
        _prediction(codec, example, generation)
        for example, generation in zip(examples, generations, strict=True)
    ]
    values |= task_metrics(task, examples, predictions)
    return TaskResult(task.name, values, predictions)


def _prediction(codec: TextCodec, example: Mapping[str, Any], generation: Generation) -> Prediction:
    assert codec.inputs is not None  # only text-to-text tasks are predicted
    return Prediction(
        inputs=_text_of(example, "inputs", codec.inputs.vocabulary),
        targets=_text_of(example, "targets", codec.targets.vocabulary),
        predictions=codec.decode(generation.tokens),
        scores=generation.score,
    )


def _text_of(example: Mapping[str, Any], feature: str, vocabulary: Any) -> str:
    """The text before tokenizing where the cache kept it; else what the ids say."""
    text = example.get(f"{feature}_pretokenized")
    if text is None:
        return vocabulary.decode(example[feature].tolist())
    if isinstance(text, np.ndarray):
        text = text.item()
    return text.decode("utf-8") if isinstance(text, bytes) else str(text)


def task_metrics(
    task: Task, examples: Sequence[Mapping[str, Any]], predictions: Sequence[Prediction]
) -> Values:
    """The task's own metrics of text that was generated.

    Args:
      task: with `metric_fns` and `postprocess`.
      examples: as the task's cache holds them.
      predictions: one an example.
    """
    found = [
        task.postprocess(prediction.predictions, example, False)
        for prediction, example in zip(predictions, examples, strict=True)
    ]
    expected = [
        task.postprocess(prediction.targets, example, True)
        for prediction, example in zip(predictions, examples, strict=True)
    ]
    values: Values = {}
    for metric in task.metric_fns:
        for name, value in metric(expected, found).items():
            values[name] = float(value)
    return values


def _report(
    directory: epath.Path, events: EventFile | None, step: int, split: str, result: TaskResult
) -> None:
    """Predictions to their file, values to the metrics and to whoever watches."""
    if result.predictions:
        write_predictions(
            directory / "eval" / result.task.replace(":", "/") / f"{step}.jsonl",
            result.predictions,
        )
    record = {"step": step, "split": split, "task": result.task, **result.values}
    metrics = files.growing_file(directory / METRICS_FILE)
    metrics.append((json.dumps(record) + "\n").encode())
    metrics.close()
    if events is not None:
        events.write(
            step, {f"{split}/{result.task}/{name}": v for name, v in result.values.items()}
        )
    shown = "  ".join(f"{name} {value:.4f}" for name, value in result.values.items())
    print(f"step {step}  {result.task} {split}  {shown}", file=sys.stderr, flush=True)


def write_predictions(path: epath.Path, predictions: Sequence[Prediction]) -> None:
    """JSON lines, renamed into place when they are all there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(
        "".join(
            json.dumps(dataclasses.asdict(prediction), ensure_ascii=False) + "\n"
            for prediction in predictions
        )
    )
    temporary.rename(path)
