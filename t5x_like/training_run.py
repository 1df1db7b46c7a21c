"""One run in progress: its data, its files and its accounts, whoever computes its steps."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from etils import epath

from t5x_like import checkpoints, flops, hardware, inspection, storage, train_state
from t5x_like.checkpoints import Branch, Checkpointer, CheckpointPolicy, InitialCheckpoint
from t5x_like.data import DatasetConfig, merge_states, open_dataset, open_evaluation
from t5x_like.distributed import gather_json
from t5x_like.errors import UserError
from t5x_like.hardware import Peak
from t5x_like.ledger import Diverged, Ledger
from t5x_like.metrics_log import MetricsLog
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner
from t5x_like.progress import Progress, aligned, duration
from t5x_like.protocols import LanguageModel, Metrics
from t5x_like.train_state import TrainState
from t5x_like.validation import mean_metrics


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


class TrainingRun:
    """A run's data, files and accounts. Its state is the caller's, who computes the steps.

    First `resume`, then `begin`; for each step `next_batch` and `add`, and `save` and
    `validate` where they are due; in the end `close`.

    Args:
      plan: what was asked for.
      label: put before every line that it prints, where several runs share an output.

    Attributes:
      plan: as given.
      start: the step after which training goes on; known after `resume`.
      progress: where a person sees it; there after `begin`.
    """

    def __init__(self, plan: TrainingPlan, label: str = "") -> None:
        self.plan = plan
        self.start = 0
        self.progress: Progress
        self._label = label
        shard_index, shard_count = plan.partitioner.data_shard()
        self._iterator = open_dataset(
            plan.dataset,
            architecture=plan.model.architecture,
            shard_index=shard_index,
            shard_count=shard_count,
        )
        self._directory = storage.location(plan.model_dir)
        _make_directory(self._directory)
        self._checkpointer = Checkpointer(plan.model_dir, plan.checkpoint_policy)
        self._origin = ""
        self._tokens, self._seconds = 0, 0.0
        self._ledger: Ledger
        self._log: MetricsLog | None = None

    # -- Where it starts -------------------------------------------------------------------------

    def saved_steps(self) -> list[int]:
        """Steps of its checkpoints, ascending."""
        return self._checkpointer.steps()

    def resume(
        self, step: int | None, create: Callable[[int], TrainState] | None = None
    ) -> TrainState:
        """The state from which training goes on; the data are at the same place.

        Args:
          step: of one of the run's checkpoints; None for the beginning.
          create: makes a fresh state from a seed; `train_state.create_state` when None.
        """
        plan = self.plan
        source = plan.initial_checkpoint
        if step or isinstance(source, Branch):
            target = train_state.abstract_state(plan.model, plan.optimizer, plan.partitioner)
            if step or not isinstance(source, Branch):
                self.start, self._origin = step or 0, f"checkpoint of step {step}"
                state, position, metadata = self._checkpointer.restore(self.start, target)
            else:
                self.start = source.step
                self._origin = f"step {source.step} of {source.model_dir}"
                state, position, metadata = checkpoints.branch_state(source, target)
            self._iterator.set_state(position)
            self._tokens, self._seconds = metadata["tokens"], metadata["seconds"]
            return state
        if isinstance(source, InitialCheckpoint):
            self._origin = source.path
            return checkpoints.initial_state(
                source, plan.model, plan.optimizer, plan.partitioner, plan.seed
            )
        self._origin = "random initialization"
        if create is not None:
            return create(plan.seed)
        return train_state.create_state(plan.model, plan.optimizer, plan.partitioner, plan.seed)

    def begin(self, peak: Peak) -> None:
        """Says and writes what will be trained, and opens the log."""
        plan, primary = self.plan, jax.process_index() == 0
        self.progress = Progress(plan.train_steps, self.start, shown=primary, label=self._label)
        summary = self._summary(peak)
        self.progress.say(summary)
        if primary:
            if plan.config_text is not None:
                (self._directory / "config.gin").write_text(plan.config_text())
            tree = inspection.parameter_tree(plan.model, plan.partitioner)
            table = inspection.parameter_table(tree)
            (self._directory / "model-info.txt").write_text(f"{summary}\n\n{table}\n")
            self._log = MetricsLog(plan.model_dir, self.start, plan.tensorboard, plan.wandb_project)
        self._ledger = Ledger(
            train_steps=plan.train_steps,
            log_period=plan.log_period,
            progress=self.progress,
            log=self._log,
            peak=peak,
            tokens=self._tokens,
            seconds=self._seconds,
        )

    # -- The steps -------------------------------------------------------------------------------

    def steps(self) -> range:
        """The updates to make, counted from the beginning of the run."""
        return range(self.start + 1, self.plan.train_steps + 1)

    def next_batch(self, step: int) -> Mapping[str, np.ndarray]:
        """This process's rows of the next batch; the first one is checked.

        Raises:
          UserError: the model does not know one of its tokens.
        """
        batch = next(self._iterator)
        if step == self.start + 1:
            shapes = _check_batch(batch, self.plan.model, self.plan.partitioner)
            positions = flops.positions(shapes)
            self._ledger.set_work(positions, self.plan.model.step_flops(shapes))
        return batch

    def add(self, step: int, metrics: Metrics) -> None:
        """`step` has been dispatched; waits for the one before it.

        Raises:
          Diverged: the loss is no longer a number.
        """
        with self._advised():
            self._ledger.add(step, metrics)
            if step == self.start + 1:
                self._ledger.forget_compilation()
                first = duration(self._ledger.seconds - self._seconds)
                self.progress.say(f"first step after {first}")

    def save_is_due(self, step: int) -> bool:
        """Whether there is a checkpoint after this step."""
        return self.plan.checkpoint_policy.due(step) or step == self.plan.train_steps

    def save(self, step: int, state: TrainState) -> None:
        """Writes a checkpoint; returns when the state may change."""
        with self._advised(), self._ledger.pause():
            metadata = {
                "seed": self.plan.seed,
                "tokens": self._ledger.tokens,
                "seconds": self._ledger.seconds,
                "parameters": self.plan.model.parameter_count(),
                "jax": jax.__version__,
            }
            position = merge_states(gather_json(self._iterator.get_state()))
            self._checkpointer.save(state, step, position, metadata)

    def pause(self) -> contextlib.AbstractContextManager[None]:
        """Keeps the time of a body out of the rates."""
        return self._ledger.pause()

    def validation_is_due(self, step: int) -> bool:
        """Whether the held-out splits are measured after this step."""
        plan = self.plan
        return step % plan.validation_period == 0 or step == plan.train_steps

    def validate(self, step: int, state: TrainState) -> None:
        """Measures the loss on each held-out split."""
        plan = self.plan
        with self._advised(), self._ledger.pause():
            for config in plan.validation:
                batches = _open_split(config, plan)
                values = mean_metrics(plan.model, state.params, batches, plan.partitioner)
                loss = f"{config.split} loss {values['loss']:.4f}"
                self.progress.say(f"step {step}/{plan.train_steps}  {loss}")
                if self._log:
                    self._log.write(step, config.split, {**values, "tokens": self._ledger.tokens})

    def close(self) -> None:
        """Waits for what is being written, and ends the background threads."""
        self._iterator.close()
        self._checkpointer.close()
        if self._log:
            self._log.close()
        if hasattr(self, "progress"):
            self.progress.close()

    def forget_after(self, step: int) -> None:
        """Deletes checkpoints of later steps, which the run will make again."""
        self._checkpointer.drop_after(step)

    @contextlib.contextmanager
    def _advised(self) -> Iterator[None]:
        try:
            yield
        except Diverged as error:
            kept = self._checkpointer.latest_step()
            advice = f"go back to the checkpoint of step {kept}" if kept else "start again"
            raise Diverged(f"{error}: lower the learning rate, or {advice}.") from error

    def _summary(self, peak: Peak) -> str:
        plan, start = self.plan, self.start
        count = f"{plan.model.parameter_count():,} parameters"
        return aligned(
            {
                "model": f"{type(plan.model).__name__}, {count}, from {self._origin}",
                "optimizer": plan.optimizer.name,
                "devices": _device_line(plan.partitioner, peak),
                "data": _data_line(plan.dataset),
                "steps": f"{start} of {plan.train_steps} done" if start else f"{plan.train_steps}",
                "writes to": str(plan.model_dir),
            }
        )


def device_peak(partitioner: Partitioner) -> Peak:
    """What the devices of a mesh could do at best."""
    return hardware.peak(list(partitioner.mesh.devices.flat))


def _open_split(config: DatasetConfig, plan: TrainingPlan) -> Iterator[Mapping[str, np.ndarray]]:
    """This process's rows of each batch of a split, of which the plan may limit the number."""
    index, count = plan.partitioner.data_shard()
    split = open_evaluation(
        config, architecture=plan.model.architecture, shard_index=index, shard_count=count
    )
    return (item.batch for item in itertools.islice(split, plan.validation_batches))


def _make_directory(directory: epath.Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".writable-{jax.process_index()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"MODEL_DIR '{directory}' cannot be written: {error.strerror or error}."
        ) from error


def _check_batch(
    batch: Mapping[str, np.ndarray], model: LanguageModel, partitioner: Partitioner
) -> dict[str, tuple[int, ...]]:
    """The global shapes of a batch, whose token ids the model must know."""
    _, count = partitioner.data_shard()
    for name, value in batch.items():
        if name.endswith("_tokens") and value.max(initial=0) >= model.vocab_size:
            raise UserError(
                f"{name} has token id {value.max()}, but the model's vocab_size is "
                f"{model.vocab_size}: raise it, or use the vocabulary that the model is for."
            )
    return {name: (value.shape[0] * count, *value.shape[1:]) for name, value in batch.items()}


def _device_line(partitioner: Partitioner, peak: Peak) -> str:
    devices = list(partitioner.mesh.devices.flat)
    axes = ", ".join(f"{name} {size}" for name, size in partitioner.mesh.shape.items() if size > 1)
    rate = f", peak {peak.flops / 1e12:.2f} TFLOP/s ({peak.source})" if peak.flops else ""
    mesh = f" as {axes}" if axes else ""
    return f"{len(devices)} x {devices[0].device_kind}{mesh}{rate}"


def _data_line(dataset: DatasetConfig) -> str:
    lengths = ", ".join(f"{name} {n}" for name, n in dataset.task_feature_lengths.items())
    return f"{dataset.task.name} {dataset.split}, batch {dataset.batch_size}, {lengths}"
