"""Training, from a model, a dataset and an optimizer to checkpoints and metrics."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

from t5x_like.alignment import back_translation
from t5x_like.anomalies import Anomaly
from t5x_like.distributed.preemption import end_on_signal, stop_on_signal
from t5x_like.host import command, compilation_cache, memory
from t5x_like.protocols import TranslatesBack
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.run import TrainingRun
from t5x_like.training.state import TrainState
from t5x_like.training.step import TrainStep, make_train_step
from t5x_like.training.summary import device_peak, last_saved


def train(**settings: Any) -> TrainState:
    """Trains until `train_steps`, resuming from the newest checkpoint in `model_dir`.

    Args:
      **settings: the attributes of `TrainingPlan`; gin binds them as `train.train.NAME`.

    Returns:
      The state after the last update.

    Raises:
      UserError: something that was asked for cannot be.
      Preempted: a signal asked to stop; the state is saved.
      Diverged: a step went wrong, and the policy stops then.
    """
    memory.keep_freed_memory()  # before a device is asked for, which starts threads
    return train_plan(TrainingPlan(**settings))


# gin, and `help`, see the settings by name.
train.__signature__ = inspect.signature(TrainingPlan).replace(  # type: ignore[attr-defined]
    return_annotation=TrainState
)


def _step_of(plan: TrainingPlan) -> TrainStep:
    if isinstance(plan.model, TranslatesBack):
        return back_translation.BackTranslation(plan)
    return make_train_step(
        plan.model,
        plan.optimizer,
        plan.partitioner,
        seed=plan.seed,
        num_microbatches=plan.num_microbatches,
        anomaly_policy=plan.anomaly_policy,
        noise_scale=plan.noise_scale,
    )


def train_plan(
    plan: TrainingPlan, make_step: Callable[[TrainingPlan], TrainStep] = _step_of
) -> TrainState:
    """Trains one run with all devices; see `train`.

    Args:
      plan: what is to be done.
      make_step: gives what makes one step of the run; its metrics tell of anomalies.
    """
    compilation_cache.enable()
    run = TrainingRun(plan, guarded=True)
    with stop_on_signal() as stop, contextlib.closing(run):
        stop.last_words = functools.partial(last_saved, plan.model_dir)
        with end_on_signal():  # there is nothing to save yet
            state = run.resume_newest()
            run.begin(device_peak(plan.partitioner))
            run.progress.follow("models")
            state = run.catch_up(state)
            train_step = make_step(plan)
        trained = False
        while not trained:
            try:
                for step in run.steps():
                    batch = plan.partitioner.shard_batch(run.next_batch(step))
                    state, metrics = train_step(state, batch)
                    run.add(step, metrics)
                    stopping = stop.after(step) and step < plan.train_steps
                    # Before the checkpoint: a run that has its last one has been validated too.
                    if run.validation_is_due(step) and not stopping:
                        state = run.validate(step, state)
                    if run.save_is_due(step) or stopping:
                        run.save(step, state)
                    if stopping:
                        raise stop.preempted(step)
                    run.evaluate(step, state)
                trained = True
            except Anomaly as anomaly:
                state = run.react(anomaly, state)
    return state


if __name__ == "__main__":
    command.run("train")
