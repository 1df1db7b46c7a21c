"""Training, from a model, a dataset and an optimizer to checkpoints and metrics."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from t5x_like.anomalies import Anomaly, AnomalyPolicy
from t5x_like.checkpoints import Branch, CheckpointPolicy, InitialCheckpoint
from t5x_like.data import DatasetConfig
from t5x_like.distributed.preemption import Preempted, end_on_signal, stop_on_signal
from t5x_like.host import compilation_cache, memory
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import LanguageModel
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.run import TrainingRun
from t5x_like.training.state import TrainState
from t5x_like.training.step import make_train_step
from t5x_like.training.summary import device_peak


def train_alone(plan: TrainingPlan) -> TrainState:
    """Trains one run with all devices; see `train`."""
    compilation_cache.enable()
    run = TrainingRun(plan, guarded=True)
    with stop_on_signal() as stop, contextlib.closing(run):
        with end_on_signal():  # there is nothing to save yet
            state = run.resume_newest()
            run.begin(device_peak(plan.partitioner))
            run.progress.follow("models")
            train_step = make_train_step(
                plan.model,
                plan.optimizer,
                plan.partitioner,
                seed=plan.seed,
                num_microbatches=plan.num_microbatches,
                anomaly_policy=plan.anomaly_policy,
            )
        trained = False
        while not trained:
            try:
                for step in run.steps():
                    batch = plan.partitioner.shard_batch(run.next_batch(step))
                    state, metrics = train_step(state, batch)
                    run.add(step, metrics)
                    stopping = stop.after(step) and step < plan.train_steps
                    # Before the checkpoint: a run that has its last one has been measured too.
                    if run.validation_is_due(step) and not stopping:
                        run.validate(step, state)
                    if run.save_is_due(step) or stopping:
                        run.save(step, state)
                    if stopping:
                        who = stop.signal_name or "a signal to another process"
                        raise Preempted(f"{who} received: saved step {step}")
                trained = True
            except Anomaly as anomaly:
                state = run.react(anomaly, state)
    return state


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
    anomaly_policy: AnomalyPolicy | None = None,
    allow_config_change: bool = False,
    log_period: int = 20,
    tensorboard: bool = True,
    wandb_project: str | None = None,
    config_text: Callable[[], str] | None = None,
    execute: Callable[[TrainingPlan], Any] = train_alone,
) -> Any:
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
      anomaly_policy: what is done when a loss is no number, or far too high; the defaults,
        which stop, when None.
      allow_config_change: whether to go on from a checkpoint of a run with another model, data,
        optimizer or seed.
      log_period: updates between two records.
      tensorboard: whether to write event files.
      wandb_project: the Weights & Biases project to log to; None for none.
      config_text: gives the text kept as `config.gin`.
      execute: what trains.

    Returns:
      What `execute` gives; of `train_alone`, the state after the last update.

    Raises:
      UserError: something that was asked for cannot be.
      Preempted: a signal asked to stop; the state is saved.
      Diverged: a step went wrong, and the policy stops then.
    """
    memory.keep_freed_memory()  # before a device is asked for, which starts threads
    plan = TrainingPlan(
        model=model,
        model_dir=model_dir,
        dataset=dataset,
        train_steps=train_steps,
        optimizer=optimizer,
        validation=validation,
        validation_period=validation_period,
        validation_batches=validation_batches,
        initial_checkpoint=initial_checkpoint,
        num_microbatches=num_microbatches,
        seed=seed,
        partitioner=partitioner or Partitioner(),
        checkpoint_policy=checkpoint_policy or CheckpointPolicy(),
        anomaly_policy=anomaly_policy or AnomalyPolicy(),
        allow_config_change=allow_config_change,
        log_period=log_period,
        tensorboard=tensorboard,
        wandb_project=wandb_project,
        config_text=config_text,
    )
    return execute(plan)
