"""The rows of a suite, measured one after another.

What is found of a checkpoint is in `MODEL_DIR/eval/suites/NAME/STEP.json`, written after each row,
so that a suite which was interrupted resumes with the first that is missing.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax

from t5x_like import checkpoints
from t5x_like.data import CacheStatus, DatasetConfig, cache_status, limit_in_rows
from t5x_like.errors import UserError
from t5x_like.evaluate import Steps, chosen_steps, write_predictions
from t5x_like.evaluation import Loss, Measurement
from t5x_like.evaluation.interrupted import Journals, identity_of
from t5x_like.evaluation.measurement import ROWS, SPLIT_ROWS
from t5x_like.evaluation.task import TaskResult, evaluate_params
from t5x_like.host import compilation_cache, files
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import FrozenSource, Mixture, Model, Params, Task, longest_row
from t5x_like.suites.suite import Row, Suite
from t5x_like.suites.tables import results_path, table
from t5x_like.training.frozen import load_frozen
from t5x_like.training.identity import describe

# Of a model that reads texts of any length.
_LENGTH = 1024


def evaluate_suite(
    *,
    suite: Suite,
    find_task: Callable[..., Task | Mixture],
    model: Model,
    model_dir: str,
    cache_dir: str,
    partitioner: Partitioner | None = None,
    steps: Steps = "last",
    batch_size: int = 32,
    max_rows: int | None = None,
    output_dir: str | None = None,
    frozen: Mapping[str, FrozenSource] | None = None,
) -> dict[int, dict[str, Any]]:
    """Measures each row of a suite whose data are there, and says which are not.

    Args:
      suite: the rows.
      find_task: the task or mixture of a name, with the model's vocabulary.
      model: of the run.
      model_dir: the run, or one checkpoint directory below it.
      cache_dir: of the tokenized tasks.
      partitioner: the mesh; data parallel over all devices when None.
      steps: which checkpoints, see `evaluate.evaluate`.
      batch_size: rows of a batch.
      max_rows: most rows of each task, drawn evenly; None for all.
      output_dir: where `eval/` is written; None for `model_dir`.
      frozen: as for `train.train`.

    Returns:
      step -> what `MODEL_DIR/eval/suites/NAME/STEP.json` has.

    Raises:
      UserError: no such checkpoint or task, a limit of no rows, or no row that could be measured.
    """
    limit_in_rows(max_rows, None)  # refuses a limit once, and not for each row
    compilation_cache.enable()
    partitioner = partitioner or Partitioner()
    directory = files.location(output_dir or model_dir)
    frozen_params = load_frozen(model, frozen or {}, partitioner) or None
    results: dict[int, dict[str, Any]] = {}
    for wanted in chosen_steps(model_dir, steps):
        params, step = checkpoints.load_params(model_dir, model, partitioner, wanted)
        identity = identity_of(model, params, model_dir, wanted, partitioner, frozen or {})
        run = _Run(
            suite, directory, step, identity, model, params, partitioner, max_rows, frozen_params
        )  # fmt: skip
        for row in suite.rows:
            assert isinstance(row, Row)
            run.measure(row, find_task(row.task), cache_dir, batch_size)
        if not run.rows:
            raise UserError(
                f"suite '{suite.name}': no row could be measured; of the first, "
                f"{next(iter(run.missing.values()), 'there is none')}"
            )
        results[step] = run.write()
        if jax.process_index() == 0:
            print(table(results[step]), file=sys.stderr, flush=True)
    return results


class _Run:
    """One checkpoint's rows, as they are measured."""

    def __init__(
        self,
        suite: Suite,
        directory: Any,
        step: int,
        identity: str,
        model: Model,
        params: Params,
        partitioner: Partitioner,
        max_rows: int | None,
        frozen: Mapping[str, Params] | None,
    ) -> None:
        self._suite, self._directory = suite, directory
        self._step, self._identity = step, identity
        self._model, self._params, self._partitioner = model, params, partitioner
        self._max_rows, self._frozen = max_rows, frozen
        self.rows: list[dict[str, Any]] = []
        self.missing: dict[tuple[str, ...], str] = {}
        self._asked: dict[tuple[str, ...], str] = {}
        path = results_path(directory, suite.name, step)
        earlier = json.loads(files.read_whole(path)) if path.exists() else {}
        # Of other parameters, or of another machine, nothing is taken.
        self._earlier = earlier["rows"] if earlier.get("identity") == identity else []
        self._known = {row["key"]: row for row in self._earlier}

    def measure(self, row: Row, task: Task | Mixture, cache_dir: str, batch_size: int) -> None:
        """Measures a row, unless that is done or its data are not there."""
        named = f"{row.task}, {row.shots} shots, {row.split}"
        try:
            measurement = self._fitting(self._suite.measurement(row))
            reasons = [_reason(member, cache_dir, row.split) for member, _ in task.tasks]
            if any(reasons):
                raise UserError(next(filter(None, reasons)))
            key = _key(row, measurement, task, self._max_rows)
            self._asked[_of(dataclasses.asdict(row))] = key
            known = self._known.get(key)
            if known is None:
                known = self._found(row, measurement, task, cache_dir, batch_size)
                self._known[key] = known
                found = _named(row, measurement, known, key)
                self._say(f"{row.task}, {row.shots} shots: {row.value} {found['measured']:.4f}")
            else:
                found = _named(row, measurement, known, key)
                self._say(f"{named}: {row.value} is known from before")
        except Exception as error:
            if getattr(error, "exit_code", None) != UserError.exit_code:
                raise
            self.missing[_of(dataclasses.asdict(row))] = str(error).splitlines()[0]
            self._say(f"{named}: not measured: {str(error).splitlines()[0]}")
            return
        self.rows.append(found)
        self.write()

    def _found(
        self, row: Row, measurement: Measurement, task: Task | Mixture, cache_dir: str,
        batch_size: int,
    ) -> dict[str, Any]:  # fmt: skip
        """What is found of a row: all values, of which other rows may ask for another."""
        length = longest_row(self._model) or _LENGTH
        features = task.tasks[0][0].output_features
        dataset = DatasetConfig(
            task,
            {name: row.longest if name == "targets" and len(features) > 1 else length
             for name in features},
            cache_dir,
            row.split,
            batch_size,
        )  # fmt: skip
        with contextlib.closing(Journals(self._directory)) as journals:
            found = evaluate_params(
                self._model, self._params, dataset, partitioner=self._partitioner,
                measurements=[measurement], max_rows=self._max_rows, frozen=self._frozen,
                journal_of=functools.partial(
                    journals.open, split=row.split, step=self._step, identity=self._identity
                ),
            )  # fmt: skip
            journals.remove()
        result = found[-1]  # of a mixture, the means
        for each in found:
            self._write_predictions(row, each)
        return {
            "rows": result.values[ROWS],
            "split_rows": result.values[SPLIT_ROWS],
            "settings": {**found[0].settings, **result.settings},
            "values": result.values,
        }

    def _fitting(self, measurement: Measurement) -> Measurement:
        """The same, of texts in windows that the model can read."""
        if isinstance(measurement, Loss) and measurement.window is None:
            window = longest_row(self._model) or _LENGTH
            return dataclasses.replace(measurement, window=window)
        return measurement

    def _write_predictions(self, row: Row, result: TaskResult) -> None:
        if jax.process_index() != 0:
            return
        folder = results_path(self._directory, self._suite.name, self._step).parent
        for name, predictions in result.predictions.items():
            file = f"{result.task.replace(':', '_')}.{row.shots}.{row.split}.{name}.jsonl"
            write_predictions(folder / str(self._step) / file, predictions)

    def write(self) -> dict[str, Any]:
        """Writes what there is so far, and of an earlier run what this one has not measured."""
        order = [_of(dataclasses.asdict(row)) for row in self._suite.rows]  # type: ignore[arg-type]
        # What was measured in another way is not what is asked for, if that cannot be measured.
        earlier = [
            row for row in self._earlier if self._asked.get(_of(row), row["key"]) == row["key"]
        ]
        found = {_of(row): row for row in [*earlier, *self.rows]}
        content = {
            "suite": self._suite.name,
            "step": self._step,
            "identity": self._identity,
            "rows": [found[one] for one in order if one in found],
            "missing": {
                " ".join(one): why for one, why in self.missing.items() if one not in found
            },
        }
        if jax.process_index() == 0:
            path = results_path(self._directory, self._suite.name, self._step)
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(path, json.dumps(content, indent=1, ensure_ascii=False))
        return content

    def _say(self, line: str) -> None:
        if jax.process_index() == 0:
            print(f"{self._suite.name}  step {self._step}  {line}", file=sys.stderr, flush=True)


def _of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What a row is called."""
    return tuple(str(row[name]) for name in ("task", "shots", "split", "value"))


def _named(
    row: Row, measurement: Measurement, found: Mapping[str, Any], key: str
) -> dict[str, Any]:
    """A row of the file, of what was found for it or for a row that asks for another value.

    Raises:
      UserError: what measures the row finds no such value.
    """
    values = found["values"]
    if row.value not in values:
        raise UserError(f"'{row.value}' is none of its values: {', '.join(sorted(values))}.")
    error = values.get(f"{row.value}_standard_error")
    by = getattr(measurement, "normalization", None)
    if row.value in ("ranking_accuracy", f"ranking_accuracy_{by}"):
        error = values.get("ranking_accuracy_standard_error")
    return {
        "key": key,
        "task": row.task,
        "shots": row.shots,
        "split": row.split,
        "value": row.value,
        "measured": values[row.value],
        "standard_error": error,
        **{name: found[name] for name in ("rows", "split_rows", "settings", "values")},
        "published": dict(row.published),
    }


def _reason(task: Task, cache_dir: str, split: str) -> str | None:
    """Why a task's split cannot be measured here; None where it can."""
    report = cache_status(task, cache_dir, split)
    if report.status is CacheStatus.READY:
        return None
    if not task.source_is_local:
        try:
            task.fingerprint()
        except OSError as error:  # says what is needed
            return str(error)
    return report.reason


def _key(row: Row, measurement: Measurement, task: Task | Mixture, max_rows: int | None) -> str:
    """What decides a row's values, beside the checkpoint; rows that ask for others share it."""
    prints: list[Any] = []
    for member, _ in task.tasks:
        try:
            cached: Any = member.fingerprint()
        except OSError:  # a cache without its source
            cached = (member.name, repr(getattr(member, "form", None)))
        read = {
            name: getattr(member, name, None)
            for name in ("postprocessor", "metric_fns", "few_shot")
        }
        prints.append((cached, sorted(describe(read).items())))
    asked = dataclasses.replace(row, value="", published={})
    text = repr((asked, measurement, prints, max_rows))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
