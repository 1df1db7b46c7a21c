"""Training, from a model, a dataset and an optimizer to checkpoints and metrics."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from etils import epath

from t5x_like import checkpoints, compilation_cache, hardware, inspection, storage, train_state
from t5x_like.checkpoints import Branch, Checkpointer, CheckpointPolicy, InitialCheckpoint
from t5x_like.data import DatasetConfig, merge_states, open_dataset, open_evaluation
from t5x_like.distributed import gather_json
from t5x_like.errors import UserError
from t5x_like.hardware import Peak
from t5x_like.ledger import Diverged, Ledger
from t5x_like.metrics_log import MetricsLog
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner
from t5x_like.preemption import Preempted, stop_on_signal
from t5x_like.progress import Progress, aligned, duration
from t5x_like.protocols import LanguageModel
from t5x_like.train_state import TrainState
from t5x_like.train_step import make_train_step
from t5x_like.validation import mean_metrics


def train(
    *,
    model: LanguageModel,
    model_dir: str,
    dataset: DatasetConfig,
    train_steps: int,
    optimizer: Optimizer,
    validation: Sequence[DatasetConfig] = (),
    validation_period: int = 1000,
    validation_batches: int | None = None,
    initial_checkpoint: InitialCheckpoint | Branch | None = None,
    num_microbatches: int = 1,
    seed: int = 0,
    partitioner: Partitioner | None = None,
    checkpoint_policy: CheckpointPolicy | None = None,
    log_period: int = 20,
    tensorboard: bool = True,
    wandb_project: str | None = None,
    config_text: Callable[[], str] | None = None,
) -> TrainState:
    """Trains until `train_steps`, going on from the newest checkpoint in `model_dir`.

    Args:
      model: what is trained.
      model_dir: where everything is written; created if need be.
      dataset: what is learned from.
      train_steps: updates in all, those of earlier starts included.
      optimizer: the update rule and its schedule.
      validation: splits whose loss is measured.
      validation_period: updates between two measurements; there is one at the end too.
      validation_batches: batches of each split to use; None for all.
      initial_checkpoint: where the parameters of a new run come from, or the whole state of
        another run; None for random parameters.
      num_microbatches: pieces that each batch is computed in.
      seed: of initialization and dropout.
      partitioner: the mesh; data parallel over all devices when None.
      checkpoint_policy: when to save and what to keep; the defaults when None.
      log_period: updates between two records.
      tensorboard: whether to write event files.
      wandb_project: the Weights & Biases project to log to; None for none.
      config_text: gives the text kept as `config.gin`.

    Returns:
      The state after the last update.

    Raises:
      UserError: something that was asked for cannot be.
      Preempted: a signal asked to stop; the state is saved.
      Diverged: the loss became infinite or not a number.
    """
    compilation_cache.enable()
    hardware.keep_freed_memory()
    partitioner = partitioner or Partitioner()
    checkpoint_policy = checkpoint_policy or CheckpointPolicy()
    _check_plan(train_steps, log_period, validation_period, num_microbatches, dataset, optimizer)
    directory = storage.location(model_dir)
    primary = jax.process_index() == 0

    # -- The data, the state, and how far an earlier start got ------------------------------
    shard_index, shard_count = partitioner.data_shard()
    iterator = open_dataset(
        dataset, architecture=model.architecture, shard_index=shard_index, shard_count=shard_count
    )
    _make_directory(directory)
    checkpointer = Checkpointer(model_dir, checkpoint_policy)
    start, tokens, seconds = checkpointer.latest_step() or 0, 0, 0.0
    branch = initial_checkpoint if isinstance(initial_checkpoint, Branch) else None
    if start or branch:
        target = train_state.abstract_state(model, optimizer, partitioner)
        if start or branch is None:
            state, position, metadata = checkpointer.restore(start, target)
            origin = f"checkpoint of step {start}"
        else:
            start, origin = branch.step, f"step {branch.step} of {branch.model_dir}"
            state, position, metadata = checkpoints.branch_state(branch, target)
        iterator.set_state(position)
        tokens, seconds = metadata["tokens"], metadata["seconds"]
    elif isinstance(initial_checkpoint, InitialCheckpoint):
        state = checkpoints.initial_state(initial_checkpoint, model, optimizer, partitioner, seed)
        origin = initial_checkpoint.path
    else:
        state = train_state.create_state(model, optimizer, partitioner, seed)
        origin = "random initialization"

    # -- What a person sees first, and what is kept of it -----------------------------------
    progress = Progress(train_steps, start, shown=primary)
    progress.follow("models")
    peak = hardware.peak(list(partitioner.mesh.devices.flat))
    summary = aligned(
        {
            **_model_lines(model, optimizer, origin),
            "devices": _device_line(partitioner, peak),
            "data": _data_line(dataset),
            "steps": f"{start} of {train_steps} done" if start else f"{train_steps}",
            "writes to": str(model_dir),
        }
    )
    progress.say(summary)
    log = None
    if primary:
        if config_text is not None:
            (directory / "config.gin").write_text(config_text())
        table = inspection.parameter_table(inspection.parameter_tree(model, partitioner))
        (directory / "model-info.txt").write_text(f"{summary}\n\n{table}\n")
        log = MetricsLog(model_dir, start, tensorboard, wandb_project)
    ledger = Ledger(
        train_steps=train_steps,
        log_period=log_period,
        progress=progress,
        log=log,
        peak=peak,
        tokens=tokens,
        seconds=seconds,
    )

    # -- What happens between steps ----------------------------------------------------------
    def save(step: int) -> None:
        with ledger.pause():
            metadata = {
                "seed": seed,
                "tokens": ledger.tokens,
                "seconds": ledger.seconds,
                "parameters": model.parameter_count(),
                "jax": jax.__version__,
            }
            position = merge_states(gather_json(iterator.get_state()))
            checkpointer.save(state, step, position, metadata)

    def validate(step: int) -> None:
        with ledger.pause():
            for config in validation:
                batches = _open_split(config, model, partitioner, validation_batches)
                values = mean_metrics(model, state.params, batches, partitioner)
                progress.say(f"step {step}/{train_steps}  {config.split} loss {values['loss']:.4f}")
                if log:
                    log.write(step, config.split, {**values, "tokens": ledger.tokens})

    # -- The loop ------------------------------------------------------------------------------
    train_step = make_train_step(
        model, optimizer, partitioner, seed=seed, num_microbatches=num_microbatches
    )
    with stop_on_signal() as stop:
        try:
            for step in range(start + 1, train_steps + 1):
                batch = next(iterator)
                if step == start + 1:
                    shapes = _check_batch(batch, model, partitioner)
                    ledger.set_work(inspection.positions(shapes), model.step_flops(shapes))
                state, metrics = train_step(state, partitioner.shard_batch(batch))
                ledger.add(step, metrics)
                if step == start + 1:
                    ledger.forget_compilation()
                    progress.say(f"first step after {duration(ledger.seconds - seconds)}")
                stopping = stop.after(step)
                if checkpoint_policy.due(step) or step == train_steps or stopping:
                    save(step)
                if stopping and step < train_steps:
                    reason = f"{stop.signal_name or 'a signal to another process'} received"
                    raise Preempted(f"{reason}: saved step {step}")
                if validation and (step % validation_period == 0 or step == train_steps):
                    validate(step)
        except Diverged as error:
            kept = checkpointer.latest_step()
            advice = f"go back to the checkpoint of step {kept}" if kept else "start again"
            raise Diverged(f"{error}: lower the learning rate, or {advice}.") from error
        finally:
            iterator.close()
            checkpointer.close()
            progress.close()
            if log:
                log.close()
    return state


def _open_split(
    config: DatasetConfig, model: LanguageModel, partitioner: Partitioner, limit: int | None
) -> Iterator[Mapping[str, np.ndarray]]:
    """This process's rows of each batch of a whole split, or of its first `limit` batches."""
    index, count = partitioner.data_shard()
    split = open_evaluation(
        config, architecture=model.architecture, shard_index=index, shard_count=count
    )
    return (item.batch for item in itertools.islice(split, limit))


def _check_plan(
    train_steps: int,
    log_period: int,
    validation_period: int,
    num_microbatches: int,
    dataset: DatasetConfig,
    optimizer: Optimizer,
) -> None:
    """Refuses what can be seen to fail before anything is built."""
    counts = {
        "TRAIN_STEPS": train_steps,
        "train.log_period": log_period,
        "train.validation_period": validation_period,
        "NUM_MICROBATCHES": num_microbatches,
        "BATCH_SIZE": dataset.batch_size,
    }
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{name} is {value!r}: it must be a whole number of 1 or more.")
    if dataset.batch_size % num_microbatches:
        raise UserError(
            f"NUM_MICROBATCHES {num_microbatches} does not divide BATCH_SIZE {dataset.batch_size}."
        )
    last = optimizer.schedule.last_step
    if last is not None and last < train_steps:
        raise UserError(
            f"the learning rate schedule ends at step {last}, before TRAIN_STEPS {train_steps}: "
            "lengthen its total_steps or shorten the run."
        )


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


def _model_lines(model: LanguageModel, optimizer: Optimizer, origin: str) -> dict[str, str]:
    return {
        "model": f"{type(model).__name__}, {model.parameter_count():,} parameters, from {origin}",
        "optimizer": optimizer.name,
    }


def _device_line(partitioner: Partitioner, peak: Peak) -> str:
    devices = list(partitioner.mesh.devices.flat)
    axes = ", ".join(f"{name} {size}" for name, size in partitioner.mesh.shape.items() if size > 1)
    rate = f", peak {peak.flops / 1e12:.2f} TFLOP/s ({peak.source})" if peak.flops else ""
    mesh = f" as {axes}" if axes else ""
    return f"{len(devices)} x {devices[0].device_kind}{mesh}{rate}"


def _data_line(dataset: DatasetConfig) -> str:
    lengths = ", ".join(f"{name} {n}" for name, n in dataset.task_feature_lengths.items())
    return f"{dataset.task.name} {dataset.split}, batch {dataset.batch_size}, {lengths}"
