"""What a training run was asked for, checked before anything is built."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from t5x_like.anomalies import AnomalyPolicy
from t5x_like.checkpoints import Branch, CheckpointPolicy, InitialCheckpoint
from t5x_like.cost import flops
from t5x_like.data import (
    DataIterator,
    DatasetConfig,
    MixtureSchedule,
    limit_in_rows,
    open_dataset,
    packs,
)
from t5x_like.data.config import batches_of
from t5x_like.errors import UserError
from t5x_like.evaluation import Evaluation
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import FrozenSource, Model, frozen_models, mixes_rows, tuning
from t5x_like.trackers import Tracker
from t5x_like.training.identity import RunIdentity
from t5x_like.training.watching.profile import check_window
from t5x_like.vectors import InitialVectors

# The defaults of arguments that are None; made late, because a mesh needs devices.
_DEFAULTS: Mapping[str, Callable[[], Any]] = {
    "partitioner": Partitioner,
    "checkpoint_policy": CheckpointPolicy,
    "anomaly_policy": AnomalyPolicy,
}
_PACKED = 64  # batches by which it is measured how many examples packed rows hold
# gin asks anew for every schedule that ends with the run.
_KNOWN: dict[tuple[str, str, float], int] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What a run is to do: the arguments of `train.train`, as gin binds them.

    Attributes:
      model: what is trained.
      model_dir: where everything is written; created if need be.
      dataset: what is learned from.
      train_steps: updates in all, those of earlier starts included.
      optimizer: the update rule and its schedule.
      validation: splits whose loss is measured.
      validation_period: updates between two measurements; there is one at the end too.
      validation_rows: most rows of each split, drawn evenly from the whole of it, the same for
        every batch size; None for all.
      validation_batches: the same in batches of 32 rows, whatever the batch size;
        `validation_rows` counts where both are given.
      evaluations: what else is measured while the run trains, of whatever tasks.
      initial_checkpoint: where the parameters of a new run come from, the whole state of another
        run, or a table of words' vectors; None for random parameters.
      frozen: where the parameters of each model that the loss reads come from, by its name in
        `Model.frozen_models`; most models have none.
      num_microbatches: pieces that each batch is computed in.
      noise_scale: whether records have the gradient noise scale (`watching.noise_scale`), which the
        pieces tell: two or more of them.
      seed: of initialization and dropout.
      partitioner: the mesh; data parallel over all devices when None.
      checkpoint_policy: when to save and what to keep; the defaults when None.
      anomaly_policy: what is done when a loss is not finite, or far too high; the defaults,
        which stop, when None.
      allow_config_change: whether to resume from a checkpoint of a run with another model, data,
        optimizer or seed.
      log_period: updates between two records.
      tensorboard: whether to write event files.
      wandb_project: the Weights & Biases project to log to; None for none.
      trackers: what else gets the numbers, such as `trackers.MLflow('NAME')`.
      profile_steps: the first and the last of the updates that `jax.profiler` records into
        `MODEL_DIR/profile`; None for none.
      config_text: gives the text kept as `config.gin`.

    Raises:
      UserError: what can be seen to fail before anything is built.
    """

    model: Model
    model_dir: str
    dataset: DatasetConfig
    train_steps: int
    optimizer: Optimizer
    validation: Sequence[DatasetConfig] = ()
    validation_period: int = 1000
    validation_rows: int | None = None
    validation_batches: int | None = None
    evaluations: Sequence[Evaluation] = ()
    initial_checkpoint: InitialCheckpoint | Branch | InitialVectors | None = None
    frozen: Mapping[str, FrozenSource] = dataclasses.field(default_factory=dict)
    num_microbatches: int = 1
    noise_scale: bool = False
    seed: int = 0
    partitioner: Partitioner = None  # type: ignore[assignment]
    checkpoint_policy: CheckpointPolicy = None  # type: ignore[assignment]
    anomaly_policy: AnomalyPolicy = None  # type: ignore[assignment]
    allow_config_change: bool = False
    log_period: int = 20
    tensorboard: bool = True
    wandb_project: str | None = None
    trackers: Sequence[Tracker] = ()
    profile_steps: tuple[int, int] | None = None
    config_text: Callable[[], str] | None = None

    def __post_init__(self) -> None:
        for name, default in _DEFAULTS.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default())
        self._check_frozen()
        if getattr(self.model, "dtype", None) == "float16":
            raise UserError(
                f"{type(self.model).__name__}.dtype is 'float16': nothing scales the loss, and "
                "gradients below 6e-8 would become 0. Train in 'bfloat16' or 'float32'."
            )
        self._check_packing()
        self.validation_limit  # noqa: B018 (refuses what is no limit)
        self._check_evaluations()
        counts = {
            "TRAIN_STEPS": self.train_steps,
            "train.log_period": self.log_period,
            "train.validation_period": self.validation_period,
            "NUM_MICROBATCHES": self.num_microbatches,
            "BATCH_SIZE": self.dataset.batch_size,
        }
        for name, value in counts.items():
            if not isinstance(value, int) or value < 1:
                raise UserError(f"{name} is {value!r}: it must be a whole number of 1 or more.")
        batches_of(self.dataset, self.model.batch_format)
        for rows in self.dataset.batch_sizes:
            if rows % self.num_microbatches:
                raise UserError(
                    f"NUM_MICROBATCHES {self.num_microbatches} does not divide BATCH_SIZE {rows}."
                )
        if self.noise_scale and self.num_microbatches < 2:
            raise UserError(
                "train.noise_scale compares the gradients of pieces of a batch: NUM_MICROBATCHES "
                "must be 2 or more, such as 4."
            )
        if self.profile_steps is not None:
            check_window(self.profile_steps, self.train_steps)
        last = self.optimizer.schedule.last_step
        if last is not None and last < self.train_steps:
            raise UserError(
                f"the learning rate schedule ends at step {last}, before TRAIN_STEPS "
                f"{self.train_steps}: lengthen its total_steps or shorten the run."
            )

    @property
    def validation_limit(self) -> int | None:
        """Most rows of each held-out split."""
        return limit_in_rows(self.validation_rows, self.validation_batches)

    def open_data(self, shard_index: int, shard_count: int) -> DataIterator:
        """The batches of one process; see `open_dataset`."""
        return open_dataset(
            self.dataset,
            batch_format=self.model.batch_format,
            shard_index=shard_index,
            shard_count=shard_count,
        )

    def work(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, float]:
        """Positions and model FLOPs of a step on batches of these shapes."""
        return flops.positions(shapes), self.model.step_flops(shapes)

    def _check_packing(self) -> None:
        tuned = tuning(self.model)
        if tuned is None or not tuned.added_length:
            return
        if packs(self.dataset, self.model.batch_format):
            raise UserError(
                f"a {type(tuned).__name__} stands before the text of each row, and packed rows "
                "hold several: set data.DatasetConfig.pack to False, as tuning/prompt.gin does "
                "after the file of the run."
            )

    def _check_evaluations(self) -> None:
        seen = set()
        for evaluation in self.evaluations:
            split = evaluation.dataset.split
            for task, _ in evaluation.dataset.task.tasks:
                if (task.name, split) in seen:
                    raise UserError(
                        f"train.evaluations has task {task.name!r}, split {split!r}, twice, whose "
                        "records would be one: list all its measurements in one "
                        "evaluation.Evaluation."
                    )
                seen.add((task.name, split))

    def _check_frozen(self) -> None:
        wanted, given = set(frozen_models(self.model)), set(self.frozen)
        if wanted != given:
            raise UserError(
                f"train.frozen gives parameters for {sorted(given) or 'no model'}, but the loss "
                f"of {type(self.model).__name__} reads those of {sorted(wanted) or 'no other'}."
            )

    def described(self, *, mesh: bool = True) -> RunIdentity:
        """What the run is, and how it is started.

        Args:
          mesh: whether the mesh is part of that, for which devices are looked at.
        """
        identity = {
            "model": self.model,
            "dataset": self.dataset,
            "optimizer": self.optimizer,
            "seed": self.seed,
        }
        if mixes_rows(self.model) and self.num_microbatches != 1:
            identity["num_microbatches"] = self.num_microbatches
        if self.frozen:
            identity["frozen"] = {name: one.fingerprint() for name, one in self.frozen.items()}
        settings: dict[str, Any] = {
            "train_steps": self.train_steps,
            "num_microbatches": self.num_microbatches,
            "validation_period": self.validation_period,
            "checkpoint_policy": self.checkpoint_policy,
            "anomaly_policy": self.anomaly_policy,
            "log_period": self.log_period,
        }
        if self.validation:
            settings["validation"] = [
                f"{one.task.name} {one.split} {dict(one.task_feature_lengths)}"
                for one in self.validation
            ]
            settings["validation_rows"] = self.validation_limit
        if self.evaluations:
            settings["evaluations"] = [str(evaluation) for evaluation in self.evaluations]
        if mesh:
            shape = self.partitioner.mesh.shape
            settings["mesh"] = {name: size for name, size in shape.items() if size > 1}
        return RunIdentity.of(identity, settings)


def validation_names(configs: Sequence[DatasetConfig]) -> list[str]:
    """What records call each held-out split: `validation`; of several, `validation/TASK` too."""
    splits = [config.split for config in configs]
    return [
        split if splits.count(split) == 1 else f"{split}/{config.task.name}"
        for split, config in zip(splits, configs, strict=True)
    ]


# -- Epochs instead of steps --------------------------------------------------------------------


def train_steps(model: Model, dataset: DatasetConfig, epochs: float) -> int:
    """The first update after which every task has been gone through so often.

    Exact where each example is a row, or text is cut into full rows. How many examples packed rows
    hold is measured on the first batches of the run, and extrapolated: within a hundredth or two.

    Args:
      model: what is trained, for the format of its batches.
      dataset: what it is trained on; its cache is there.
      epochs: above 0; of a mixture those of the task that is gone through least.

    Raises:
      UserError: epochs is no such number, or the cache is not ready.
    """
    if not isinstance(epochs, int | float) or not 0 < epochs < math.inf:
        raise UserError(f"TRAIN_EPOCHS is {epochs!r}: it must be a number above 0.")
    key = repr(dataset), model.batch_format, float(epochs)
    if key not in _KNOWN:
        _KNOWN[key] = _counted(dataset, model.batch_format, float(epochs))
    return _KNOWN[key]


def _counted(dataset: DatasetConfig, batch_format: str, epochs: float) -> int:
    if isinstance(dataset.mixing, MixtureSchedule):
        raise UserError(
            "TRAIN_EPOCHS does not go with data.MixtureSchedule, whose rates change at given "
            "batches: give TRAIN_STEPS."
        )
    schedule = batches_of(dataset, batch_format)
    with open_dataset(dataset, batch_format=batch_format) as batches:
        if "streams" not in batches.get_state():

            def after(step: int) -> float:
                return min(batches.epochs({"step": step}).values())

        else:
            # The first ones read more than they give: rows that stay open are filled too.
            begin, end = (_after(batches, _PACKED) for _ in range(2))
            rows = [schedule.rows_before(_PACKED * count) for count in (1, 2)]
            of_row = (end - begin) / (rows[1] - rows[0])

            def after(step: int) -> float:
                return begin + (schedule.rows_before(step) - rows[0]) * of_row

        return _first(lambda step: after(step) >= epochs)


def _after(batches: DataIterator, count: int) -> float:
    """The epochs after some more batches."""
    for _ in range(count):
        next(batches)
    return min(batches.epochs(batches.get_state()).values())


def _first(reached: Callable[[int], bool]) -> int:
    """The least number, from 1, of which something holds that then holds of all larger ones."""
    high = 1
    while not reached(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
