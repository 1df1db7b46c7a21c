"""Evaluation: whatever measurements a gin file lists, of checkpoints of a run.

For each checkpoint and each task: a record in `MODEL_DIR/metrics.jsonl`, and a file of each
measurement that predicts something, one line an example. `MODEL_DIR/eval/TASK/SPLIT/STEP.jsonl` has
text that was generated, labels that were predicted or answers that were found in a text (`inputs`,
`targets`, `predictions`, `scores`), `STEP.NAME.jsonl` beside it what the measurement NAME says,
`STEP.5_shots.NAME.jsonl` after five examples. A second evaluation of a split after as many examples
replaces the first, and one after another number stands beside it. While it runs, the results of
batches are kept beside them, and one that was killed resumes when it is started again.
"""

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
from etils import epath

from t5x_like import checkpoints
from t5x_like.data import DatasetConfig
from t5x_like.decoding import Greedy, Strategy
from t5x_like.errors import UserError
from t5x_like.evaluation import Extraction, Generation, Loss, Measurement, Overlap, Prediction
from t5x_like.evaluation.interrupted import Journals, folder_of, identity_of
from t5x_like.evaluation.loss import of_rows
from t5x_like.evaluation.measurement import ROWS
from t5x_like.evaluation.task import TaskResult, Values, evaluate_params
from t5x_like.host import command, compilation_cache, files, memory
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import FrozenSource, Model
from t5x_like.trackers.tensorboard import EventFile
from t5x_like.training.frozen import load_frozen
from t5x_like.training.metrics_log import (
    ASKED_AFTER,
    about_examples,
    append_record,
    evaluation_of,
    read_records,
)
from t5x_like.training.metrics_log import FILE as METRICS

Steps = Literal["last", "all"] | int | Sequence[int]
# In records: the files of predictions, which stay where another number of examples is measured.
FILES = "predictions"


def evaluate(
    *,
    model: Model,
    model_dir: str,
    dataset: DatasetConfig,
    partitioner: Partitioner | None = None,
    steps: Steps = "last",
    measurements: Sequence[Measurement] | None = None,
    strategy: Strategy = Greedy(),  # noqa: B008 (frozen)
    max_new_tokens: int | None = None,
    max_rows: int | None = None,
    max_batches: int | None = None,
    generate_predictions: bool = True,
    seed: int = 0,
    output_dir: str | None = None,
    tensorboard: bool = True,
    frozen: Mapping[str, FrozenSource] | None = None,
    overlap: Overlap | None = None,
) -> dict[int, dict[str, Values]]:
    """Evaluates checkpoints of a run.

    Args:
      model: of the run.
      model_dir: the run, or one checkpoint directory below it.
      dataset: the split; of a mixture, each task is evaluated apart.
      partitioner: the mesh; data parallel over all devices when None.
      steps: which checkpoints: "last", "all", a step, or several.
      measurements: what is measured, such as `[evaluation.Loss(), evaluation.Ranking()]`, each of
        the tasks that have what it needs. None is the loss, and for tasks that have metrics these,
        of text that the model generates or of what its head says.
      strategy: how text is generated, where `measurements` is None.
      max_new_tokens: the longest text, where `measurements` is None; None for the length of
        `targets`.
      max_rows: most rows of each task, drawn evenly from the whole split, the same for every
        batch size; None for all.
      max_batches: the same in batches of 32 rows, whatever the batch size; `max_rows` counts
        where both are given.
      generate_predictions: False for the loss alone, where `measurements` is None.
      seed: for strategies that draw, where `measurements` is None.
      output_dir: where `eval/` and `metrics.jsonl` are written; None for `model_dir`.
      tensorboard: whether to write an event file as well.
      frozen: as for `train.train`.
      overlap: flags of the examples that were in the training text, of which values are given
        apart; None where this is not known.

    Returns:
      step -> task -> name -> value; for a mixture, its own name holds the means.

    Raises:
      UserError: no such checkpoint, data that cannot be read, or nothing to measure of a task.
    """
    memory.keep_freed_memory()
    if measurements is None:
        measurements = [Loss()]
        if generate_predictions:
            measurements += [
                Generation(strategy, max_new_tokens, seed),
                Prediction(),
                Extraction(),
            ]
    compilation_cache.enable()
    partitioner = partitioner or Partitioner()
    directory = files.location(output_dir or model_dir)
    frozen_params = load_frozen(model, frozen or {}, partitioner) or None
    results: dict[int, dict[str, Values]] = {}
    events = None
    with contextlib.closing(Journals(directory)) as journals:
        for wanted in chosen_steps(model_dir, steps):
            params, step = checkpoints.load_params(model_dir, model, partitioner, wanted)
            results[step] = {}
            identity = identity_of(model, params, model_dir, wanted, partitioner, frozen or {})
            for result in evaluate_params(
                model,
                params,
                dataset,
                partitioner=partitioner,
                measurements=measurements,
                max_rows=max_rows,
                max_batches=max_batches,
                frozen=frozen_params,
                overlap=overlap,
                journal_of=functools.partial(
                    journals.open, split=dataset.split, step=step, identity=identity
                ),
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
                        **result.settings,
                        **about_examples(result.asked_after),
                    }
                    _report(directory, events, {**record, **result.values}, result)
        journals.remove()
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
    folder = folder_of(directory, result.task, split)
    named = {name: _file_name(step, name, result) for name in result.predictions}
    if named:
        record = {**record, FILES: ", ".join(named.values())}
    replaced = _what_is_replaced(directory, record)
    for name, predictions in result.predictions.items():
        write_predictions(folder / named[name], predictions)
    append_record(directory, record)
    if events is not None:
        events.log(step, {f"{split}/{result.task}/{name}": v for name, v in result.values.items()})
    for line in [result.summary, *replaced]:
        print(f"step {step}  {result.task} {split}  {line}", file=sys.stderr, flush=True)


def _file_name(step: int, name: str, result: TaskResult) -> str:
    """Of a measurement's predictions."""
    # Of what answers the inputs there is one; its file has always had no name of its own.
    own = "" if name in (Generation.name, Prediction.name, Extraction.name) else name
    return ".".join(filter(None, [str(step), result.file_parts.get(name), own, "jsonl"]))


def _what_is_replaced(directory: epath.Path, record: Mapping[str, Any]) -> list[str]:
    """A line for each earlier evaluation, of other rows or settings, whose place this one takes."""
    lines = []
    for earlier in read_records(str(directory)):
        if any(earlier.get(name) != record[name] for name in ("step", "split", "task")):
            continue
        was, now = _settings(earlier), _settings(record)
        theirs, ours = (set(one.get(FILES, "").split(", ")) - {""} for one in (earlier, record))
        rows = [_rows(one) for one in (earlier, record)]
        before = ", ".join([rows[0], *(one for one in was if one not in now)])
        this = ", ".join([rows[1], *(one for one in now if one not in was)])
        folder = folder_of(directory, record["task"], record["split"])
        written = ", ".join(str(folder / name) for name in sorted(theirs & ours))
        taken = [f"it counts from now on in {directory / METRICS}"]
        taken *= evaluation_of(earlier) == evaluation_of(record)
        taken += [f"{written} has its predictions instead"] * bool(written)
        if taken and (rows[0] != rows[1] or was != now):
            lines.append(
                f"an earlier evaluation of this checkpoint was of {before}; this one, as asked for "
                f"now, is of {this}: {', and '.join(taken)}"
            )
    return lines


def _rows(record: Mapping[str, Any]) -> str:
    # Records of an earlier version have no rows, and do not say how text was generated.
    return of_rows(record) if ROWS in record else "unknown rows"


def _settings(record: Mapping[str, Any]) -> list[str]:
    own = ("split", "task", "batch_format", ASKED_AFTER, FILES)
    return [f"{n} {text}" for n, text in record.items() if n not in own and isinstance(text, str)]


def write_predictions(path: epath.Path, predictions: Sequence[Any]) -> None:
    """Writes predictions, dataclasses, as JSON lines, all or none; the directory is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(dataclasses.asdict(each), ensure_ascii=False) for each in predictions)
    files.write_whole(path, "".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    command.run("eval")
