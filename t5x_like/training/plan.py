"""What a training run was asked for, checked before anything is built."""

import dataclasses
from collections.abc import Callable, Sequence

from t5x_like.anomalies import AnomalyPolicy
from t5x_like.checkpoints import Branch, CheckpointPolicy, InitialCheckpoint
from t5x_like.data import DatasetConfig
from t5x_like.errors import UserError
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import LanguageModel
from t5x_like.training.identity import RunIdentity


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """What `train.train` was asked for; the attributes are its arguments.

    Raises:
      UserError: what can be seen to fail before anything is built.
    """

    model: LanguageModel
    model_dir: str
    dataset: DatasetConfig
    train_steps: int
    optimizer: Optimizer
    validation: Sequence[DatasetConfig]
    validation_period: int
    validation_batches: int | None
    initial_checkpoint: InitialCheckpoint | Branch | None
    num_microbatches: int
    seed: int
    partitioner: Partitioner
    checkpoint_policy: CheckpointPolicy
    anomaly_policy: AnomalyPolicy
    allow_config_change: bool
    log_period: int
    tensorboard: bool
    wandb_project: str | None
    config_text: Callable[[], str] | None

    def __post_init__(self) -> None:
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
        if self.dataset.batch_size % self.num_microbatches:
            raise UserError(
                f"NUM_MICROBATCHES {self.num_microbatches} does not divide BATCH_SIZE "
                f"{self.dataset.batch_size}."
            )
        last = self.optimizer.schedule.last_step
        if last is not None and last < self.train_steps:
            raise UserError(
                f"the learning rate schedule ends at step {last}, before TRAIN_STEPS "
                f"{self.train_steps}: lengthen its total_steps or shorten the run."
            )

    def described(self) -> RunIdentity:
        """What the run is, and how it is started."""
        identity = {
            "model": self.model,
            "dataset": self.dataset,
            "optimizer": self.optimizer,
            "seed": self.seed,
        }
        settings = {
            "train_steps": self.train_steps,
            "num_microbatches": self.num_microbatches,
            "mesh": {name: size for name, size in self.partitioner.mesh.shape.items() if size > 1},
            "validation_period": self.validation_period,
            "checkpoint_policy": self.checkpoint_policy,
            "anomaly_policy": self.anomaly_policy,
            "log_period": self.log_period,
        }
        return RunIdentity.of(identity, settings)
