"""What a run measures while it trains: the loss of held-out splits, and evaluations of tasks."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import jax

from t5x_like.data.cache.status import remembered
from t5x_like.data.opening import folder_of
from t5x_like.distributed.startup import gather_json
from t5x_like.errors import UserError
from t5x_like.evaluation import Evaluation
from t5x_like.evaluation.loss import held_out, measure, open_held_out, summary_of
from t5x_like.evaluation.measurement import Subject
from t5x_like.evaluation.task import evaluate_params
from t5x_like.host import progress
from t5x_like.optimizers import after_validation, measured_params
from t5x_like.training.metrics_log import MetricsLog, about_examples, read_records
from t5x_like.training.plan import TrainingPlan, validation_names
from t5x_like.training.state import TrainState

# Of a record: its split, and the task of an evaluation.
Key = tuple[str, str | None]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was found of one split.

    Attributes:
      split: as records call it.
      values: by name.
      summary: for a person.
      task: of an evaluation; None of the held-out loss.
      about: what decided the values beside model and rows, by name.
    """

    split: str
    values: Mapping[str, float]
    summary: str
    task: str | None = None
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def tagged(self) -> dict[str, float]:
        """Its values as `SPLIT/NAME` or `SPLIT/TASK/NAME`."""
        of = self.split if self.task is None else f"{self.split}/{self.task}"
        return {f"{of}/{name}": value for name, value in self.values.items()}

    def write(self, log: MetricsLog, step: int, tokens: int) -> None:
        """Its record, after so many tokens of training."""
        log.write(step, self.split, {**self.values, "tokens": tokens}, self.task, self.about)


class Part(Protocol):
    """Something that is measured at a period of its own."""

    def due(self, step: int) -> bool:
        """Whether it is measured after this update."""

    @property
    def keys(self) -> Collection[Key]:
        """The records that it leaves."""

    def measure(self, state: TrainState) -> Iterator[Measured]:
        """Measures the parameters where they are."""


class HeldOut:
    """All that is measured of a run.

    Splits are opened, and caches verified, here and not at each time.

    Args:
      plan: of the run.

    Attributes:
      notes: what a person is told at the start.

    Raises:
      UserError: a split cannot be read.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan = plan
        self._losses = _Losses(plan)
        self.notes = self._losses.notes
        self._evaluations = [_Evaluated(plan, one) for one in plan.evaluations]
        best = plan.checkpoint_policy.best_metric
        self._deciding: Part = next(
            (one for one in self._evaluations if one.has(best)), self._losses
        )
        tags = self._losses.tags + [tag for one in self._evaluations for tag in one.tags]
        if best and tags and not best.startswith(tuple(tags)):
            raise UserError(
                f"CheckpointPolicy.best_metric is '{best}', and this run measures "
                f"{', '.join(f'{tag}...' for tag in tags)}: name one of these."
            )

    def before_save(self, step: int) -> list[Part]:
        """What is measured before a checkpoint of this step: a metric may decide which is kept."""
        parts = dict.fromkeys([self._losses, self._deciding])
        return [part for part in parts if part.due(step)]

    def after_save(self, step: int) -> list[Part]:
        """What is measured once the checkpoint is written, as it may take long."""
        return [one for one in self._evaluations if one is not self._deciding and one.due(step)]

    def decides(self, step: int) -> bool:
        """Whether what decides about checkpoints is measured after this update."""
        return self._deciding.due(step)

    def seen(self, step: int, state: TrainState, measured: Mapping[str, float]) -> TrainState:
        """The state once its optimizer knows the first split's loss.

        Args:
          step: updates made. A loss that is measured at the end alone, out of turn, is passed over:
            a run that is made longer is then the run that was longer from the beginning.
          state: whose loss it is.
          measured: by tags.
        """
        loss = measured.get(self._losses.first_loss)
        if loss is None or step % self._plan.validation_period:
            return state
        return state.replace(opt_state=after_validation(state.opt_state, loss))

    def missing(self, step: int) -> list[Part]:
        """What is due after this update, and has no record of it; all processes ask together."""
        there: list[Key] = []
        if jax.process_index() == 0:
            records = read_records(self._plan.model_dir)
            there = [(r["split"], r.get("task")) for r in records if r["step"] == step]
        recorded = {tuple(key) for key in gather_json(there)[0]}
        due = self.before_save(step) + self.after_save(step)
        return [part for part in due if not set(part.keys) <= recorded]


class _Losses:
    """The loss of each held-out split."""

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan = plan
        # Kept open to the end, whatever becomes of the caches meanwhile.
        where = plan.model.batch_format, plan.partitioner, plan.validation_limit
        configs = held_out(plan.validation)
        splits = [(config, open_held_out(config, *where)) for config in configs]
        self._splits = dict(zip(validation_names(configs), splits, strict=True))
        self.notes = []
        if len(configs) < len(plan.validation):
            self.notes.append("warning: nothing is held out, so nothing is measured (HELD_OUT)")

    @property
    def first_loss(self) -> str:
        """The tag of the first split's loss; of no split one that nothing has."""
        return f"{next(iter(self._splits), '')}/loss"

    @property
    def tags(self) -> list[str]:
        """What the names of its values begin with."""
        return [f"{name}/" for name in self._splits]

    def due(self, step: int) -> bool:
        plan = self._plan
        return step % plan.validation_period == 0 or step == plan.train_steps

    @property
    def keys(self) -> list[Key]:
        return [(name, None) for name in self._splits]

    def measure(self, state: TrainState) -> Iterator[Measured]:
        plan = self._plan
        for name, (config, split) in self._splits.items():
            params = measured_params(state.params, state.opt_state)
            subject = Subject(plan.model, params, config, plan.partitioner, frozen=state.frozen)
            with progress.hidden():
                values = measure(subject, split)
            yield Measured(name, values, f"{name} {summary_of(values)}")


class _Evaluated:
    """One evaluation of the plan."""

    def __init__(self, plan: TrainingPlan, evaluation: Evaluation) -> None:
        self._plan, self._evaluation = plan, evaluation
        self._period = evaluation.period or plan.validation_period
        self._caches: dict[tuple[int, str, str], Path] = {}
        dataset = evaluation.dataset
        self._tasks = [task.name for task, _ in dataset.task.tasks]
        with remembered(self._caches):
            for task, _ in dataset.task.tasks:
                folder_of(task, dataset)

    def has(self, metric: str | None) -> bool:
        """Whether a metric is one of its values."""
        return metric is not None and metric.startswith(tuple(self.tags))

    @property
    def tags(self) -> list[str]:
        """What the names of its values begin with."""
        return [f"{split}/{task}/" for split, task in self.keys]

    def due(self, step: int) -> bool:
        return step % self._period == 0 or step == self._plan.train_steps

    @property
    def keys(self) -> list[Key]:
        dataset = self._evaluation.dataset
        mixture = [dataset.task.name] if len(self._tasks) > 1 else []
        return [(dataset.split, name) for name in [*self._tasks, *mixture]]

    def measure(self, state: TrainState) -> Iterator[Measured]:
        plan, evaluation = self._plan, self._evaluation
        split = evaluation.dataset.split
        with remembered(self._caches), progress.hidden():
            results = evaluate_params(
                plan.model,
                measured_params(state.params, state.opt_state),
                evaluation.dataset,
                partitioner=plan.partitioner,
                measurements=evaluation.measurements,
                max_rows=evaluation.max_rows,
                frozen=state.frozen,
                overlap=evaluation.overlap,
            )
        for result in results:
            yield Measured(
                split,
                result.values,
                f"{split} {result.task}  {result.summary}",
                task=result.task,
                about={
                    "batch_format": plan.model.batch_format,
                    **result.settings,
                    **about_examples(result.asked_after),
                },
            )
