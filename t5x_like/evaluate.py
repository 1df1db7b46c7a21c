"""Evaluation: the loss on a split, and a task's metrics on what the model generates or predicts.

For each checkpoint and each task: `MODEL_DIR/eval/TASK/SPLIT/STEP.jsonl`, one line an example
with `inputs`, `targets`, `predictions` and `scores` (of an answer in a text also where it stands),
and a record in `MODEL_DIR/metrics.jsonl`. A second evaluation of a split replaces the first.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
from etils import epath

from t5x_like import checkpoints
from t5x_like.data import DatasetConfig
from t5x_like.decoding import Greedy, Strategy, settings_text
from t5x_like.errors import UserError
from t5x_like.evaluation.answering import DECODING
from t5x_like.evaluation.extraction import SpanPrediction
from t5x_like.evaluation.generation import Prediction
from t5x_like.evaluation.loss import ROWS, SPLIT_ROWS, of_rows
from t5x_like.evaluation.prediction import LabelPrediction
from t5x_like.evaluation.spans import rule_text
from t5x_like.evaluation.task import TaskResult, Values, evaluate_params
from t5x_like.host import command, compilation_cache, files
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import FrozenSource, Model
from t5x_like.training.frozen import load_frozen
from t5x_like.training.metrics_log import EventFile, append_record, read_records

Steps = Literal["last", "all"] | int | Sequence[int]


def evaluate(
    *,
    model: Model,
    model_dir: str,
    dataset: DatasetConfig,
    partitioner: Partitioner | None = None,
    steps: Steps = "last",
    strategy: Strategy = Greedy(),  # noqa: B008 (frozen)
    max_new_tokens: int | None = None,
    max_rows: int | None = None,
    max_batches: int | None = None,
    generate_predictions: bool = True,
    seed: int = 0,
    output_dir: str | None = None,
    tensorboard: bool = True,
    frozen: Mapping[str, FrozenSource] | None = None,
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
      max_rows: most rows of each task, drawn evenly from the whole split, the same for every
        batch size; None for all.
      max_batches: the same in batches of 32 rows, whatever the batch size; `max_rows` counts
        where both are given.
      generate_predictions: whether to generate text, or to read labels or spans off the model's
        head, for tasks that have metrics.
      seed: for strategies that draw.
      output_dir: where `eval/` and `metrics.jsonl` are written; None for `model_dir`.
      tensorboard: whether to write an event file as well.
      frozen: as for `train.train`.

    Returns:
      step -> task -> name -> value; for a mixture, its own name holds the means.

    Raises:
      UserError: no such checkpoint, or data that cannot be read.
    """
    compilation_cache.enable()
    partitioner = partitioner or Partitioner()
    directory = files.location(output_dir or model_dir)
    frozen_params = load_frozen(model, frozen or {}, partitioner) or None
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
            max_rows=max_rows,
            max_batches=max_batches,
            generate_predictions=generate_predictions,
            seed=seed,
            frozen=frozen_params,
        ):
            results[step][result.task] = result.values
            if jax.process_index() == 0:
                # Not before there is a result: what cannot be evaluated leaves nothing behind.
                directory.mkdir(parents=True, exist_ok=True)
                if events is None and tensorboard:
                    events = EventFile(directory / "tensorboard")
                record = {
                    "step": step,
                    "split": dataset.split,
                    "task": result.task,
                    "batch_format": model.batch_format,
                }
                first = next(iter(result.predictions), None)
                if isinstance(first, SpanPrediction):
                    record[DECODING] = rule_text(model)
                if isinstance(first, Prediction):
                    longest = max_new_tokens
                    if longest is None:
                        longest = dataset.task_feature_lengths["targets"]
                    record[DECODING] = settings_text(strategy, longest, seed)
                _report(directory, events, {**record, **result.values}, result)
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


def _report(
    directory: epath.Path, events: EventFile | None, record: Mapping[str, Any], result: TaskResult
) -> None:
    """Writes predictions to their file, the record to the metrics, and a line for a person."""
    step, split = record["step"], record["split"]
    _say_what_is_replaced(directory, record)
    if result.predictions:
        folder = directory / "eval" / result.task.replace(":", "/") / split
        write_predictions(folder / f"{step}.jsonl", result.predictions)
    append_record(directory, record)
    if events is not None:
        events.write(
            step, {f"{split}/{result.task}/{name}": v for name, v in result.values.items()}
        )
    shown = "  ".join(
        f"{name} {value:.4f}"
        for name, value in result.values.items()
        if name not in (ROWS, SPLIT_ROWS)
    )
    line = f"step {step}  {result.task} {split}  {of_rows(result.values)}  {shown}"
    print(line, file=sys.stderr, flush=True)


def _say_what_is_replaced(directory: epath.Path, record: Mapping[str, Any]) -> None:
    """A line where the evaluation before was of other rows, or generated otherwise."""
    key = [record[name] for name in ("step", "split", "task")]
    for earlier in read_records(str(directory)):
        if [earlier["step"], earlier["split"], earlier.get("task")] != key:
            continue
        was, now = _measured(earlier), _measured(record)
        if was != now:
            step, split, task = key
            line = (
                f"step {step}  {task} {split}  an evaluation of {was} is replaced by one of {now}"
            )
            print(line, file=sys.stderr, flush=True)


def _measured(record: Mapping[str, Any]) -> str:
    # Records of an earlier version have no rows, and do not say how text was generated.
    rows = of_rows(record) if ROWS in record else "unknown rows"
    return f"{rows}, {record[DECODING]}" if DECODING in record else rows


def write_predictions(
    path: epath.Path, predictions: Sequence[Prediction | LabelPrediction | SpanPrediction]
) -> None:
    """Writes predictions as JSON lines, all or none; the directory is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(dataclasses.asdict(each), ensure_ascii=False) for each in predictions)
    files.write_whole(path, "".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    command.run("eval")
