"""Trains several runs as one program, if they differ only in seeds and optimizer numbers.

`python -m t5x_like.scaling.sweeps.vectorized CELL.gin CELL.gin ...` writes what `t5x-like train`
writes for each of the files. The states are stacked along a first axis, the runs, and one compiled
step is mapped over it: by `jax.vmap` on accelerators, which small models do not fill; sequentially
on CPUs, whose caches could not hold all states.
"""

import contextlib
import dataclasses
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from t5x_like import config, train
from t5x_like.checkpoints import CheckpointPolicy
from t5x_like.distributed.preemption import stop_on_signal
from t5x_like.errors import UserError
from t5x_like.host import compilation_cache, xla_flags
from t5x_like.optimizers import follows_validation
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Metrics, carries
from t5x_like.scaling.sweeps.trace_merging import NotMergeable, merge_traces
from t5x_like.training import state as train_state
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.run import TrainingRun
from t5x_like.training.state import TrainState
from t5x_like.training.step import mean_gradient, state_update
from t5x_like.training.step_metrics import Diverged
from t5x_like.training.summary import device_peak

JointStep = Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, Metrics]]
"""Stacked states and batches to the next states and stacked metrics."""


def train_together(gin_files: Sequence[str]) -> None:
    """Trains the run of each gin file, each with its own data, files and checkpoints.

    Finished runs are left as they are. The others resume from the newest step of which all have a
    checkpoint; later ones are deleted. Each run therefore keeps at least two checkpoints. The
    caches of the tasks must exist.

    Args:
      gin_files: for `t5x-like train`, with a MODEL_DIR each.

    Raises:
      UserError: the runs differ in more than seeds, directories and optimizer numbers.
      Preempted: a signal asked to stop; all states are saved.
      Diverged: at the end, if the loss of a run became non-finite; the others are finished.
    """
    plans = training_plans(gin_files)
    compilation_cache.enable()
    if jax.process_count() > 1:
        raise UserError("runs are trained together by one process: start them on one host.")
    with contextlib.ExitStack() as opened:
        runs = [
            opened.enter_context(contextlib.closing(TrainingRun(plan, Path(plan.model_dir).name)))
            for plan in plans
        ]
        runs = [run for run in runs if run.plan.train_steps not in run.saved_steps()]
        if runs:
            _train(runs)


def training_plans(gin_files: Sequence[str]) -> list[TrainingPlan]:
    """Makes the plan that `t5x-like train` would make for each of the files.

    Raises:
      UserError: they cannot be trained together; the message names the first binding that
        differs.
    """
    plans, origins = [], []
    for gin_file in gin_files:
        with config.isolated():
            config.parse([gin_file])
            bound = [name for name in xla_flags.VARIABLES if config.has_macro(name)]
            xla_flags.apply({name: config.macro(name) for name in bound})
            config.check(train.train)
            origins.append(config.reached(train.train))
            plan = config.built(train.train, TrainingPlan)
            if plan.evaluations:
                raise UserError(
                    f"{gin_file} has EVALUATIONS: runs that are trained together are measured "
                    "when they are done, with SUITES, or trained one by one."
                )
            text = config.operative_text()
            plans.append(
                dataclasses.replace(
                    plan,
                    config_text=lambda text=text: text,
                    checkpoint_policy=_shared(plan.checkpoint_policy),
                )
            )
    for gin_file, origin in zip(gin_files[1:], origins[1:], strict=True):
        _check_difference((gin_files[0], origins[0]), (gin_file, origin))
    return plans


def _shared(policy: CheckpointPolicy) -> CheckpointPolicy:
    """Keeps the last checkpoint but one, which all runs have even if the last was interrupted."""
    return dataclasses.replace(policy, keep=policy.keep and max(policy.keep, 2))


def joint_step(plans: Sequence[TrainingPlan], at_once: int) -> JointStep:
    """Compiles the step of all runs, which donates the states.

    Args:
      plans: of the runs.
      at_once: how many runs are computed at the same time, by `jax.vmap`.

    Raises:
      UserError: the optimizers differ in more than numbers.
    """
    plan = plans[0]
    if carries(plan.model) or plan.frozen:
        raise UserError(
            f"runs of {type(plan.model).__name__} are trained one by one: it carries a state from "
            "batch to batch, or reads frozen models."
        )
    state = train_state.abstract_state(plan.model, plan.optimizer, plan.partitioner)
    if follows_validation(state.opt_state):
        raise UserError(
            f"runs of '{plan.optimizer.name}' are trained one by one: it follows the validation "
            "loss."
        )
    gradient = mean_gradient(plan.model, plan.num_microbatches, noise_scale=plan.noise_scale)
    updates = [state_update(plan.model, each.optimizer) for each in plans]
    try:
        update = merge_traces(updates, state, state.params)
    except NotMergeable as error:
        raise UserError(
            f"the optimizers of these runs differ in more than numbers ({error}): "
            "train them one by one."
        ) from error

    def one(run: tuple[TrainState, Any, jax.Array, jax.Array]) -> tuple[TrainState, Metrics]:
        state, batch, seed_key, which = run
        key = jax.random.fold_in(seed_key, state.step)
        gradients, metrics, _ = gradient(state, batch, key)
        state, own_metrics = update(which, state, gradients)
        return state, {**metrics, **own_metrics}

    keys = jnp.stack([jax.random.key(each.seed) for each in plans])

    def step(states: TrainState, batches: Any) -> tuple[TrainState, Metrics]:
        stacked = (states, batches, keys, jnp.arange(len(plans)))
        if at_once >= len(plans):
            return jax.vmap(lambda *run: one(run))(*stacked)
        return jax.lax.map(one, stacked, batch_size=at_once if at_once > 1 else None)

    placed = stacked_shardings(train_state.shardings(state))
    batches = stacked_shardings(plan.partitioner.batch_sharding)
    return jax.jit(
        step,
        in_shardings=(placed, batches),
        out_shardings=(placed, plan.partitioner.replicated),
        donate_argnums=0,
    )


def stacked_shardings(shardings: Any) -> Any:
    """Shardings of arrays with a first axis of runs, which is not divided among devices."""
    return jax.tree.map(
        lambda one: NamedSharding(one.mesh, PartitionSpec(None, *one.spec)), shardings
    )


def runs_at_once(partitioner: Partitioner, runs: int) -> int:
    """The number of runs that a mesh computes at the same time."""
    return 1 if partitioner.mesh.devices.flat[0].platform == "cpu" else runs


def _train(runs: Sequence[TrainingRun]) -> None:
    plans = [run.plan for run in runs]
    plan, partitioner = plans[0], plans[0].partitioner
    compiled = joint_step(plans, runs_at_once(partitioner, len(runs)))
    states = _resumed(runs)
    peak = device_peak(partitioner)
    for run in runs:
        run.begin(peak)
    runs[0].progress.follow("models")
    placed = train_state.shardings(
        train_state.abstract_state(plan.model, plan.optimizer, partitioner)
    )
    take = jax.jit(lambda states, i: jax.tree.map(lambda x: x[i], states), out_shardings=placed)
    batch_sharding = stacked_shardings(partitioner.batch_sharding)
    diverged: dict[TrainingRun, Diverged] = {}
    in_flight: list[tuple[int, Metrics]] = []

    def for_each_run(act: Callable[[int, TrainingRun], object]) -> None:
        """Calls an action for each run; one that has diverged does not stop the others."""
        for i, run in enumerate(runs):
            if run in diverged:
                continue
            try:
                act(i, run)
            except Diverged as error:
                diverged[run] = error
                run.progress.say(str(error))

    def account() -> None:
        while in_flight:
            add(*in_flight.pop(0))

    def add(step: int, metrics: Metrics) -> None:
        # One transfer for all runs is faster.
        fetched = jax.device_get(metrics)
        for_each_run(lambda i, run: run.add(step, jax.tree.map(lambda x: x[i], fetched)))

    def between_steps(act: Callable[[int, TrainingRun], object]) -> None:
        account()
        with contextlib.ExitStack() as paused:
            # Also while another run acts.
            for_each_run(lambda i, run: paused.enter_context(run.pause()))
            for_each_run(act)

    def validate(step: int, states: TrainState) -> None:
        between_steps(lambda i, run: run.validate(step, take(states, i)))

    def save(step: int, states: TrainState) -> None:
        between_steps(lambda i, run: run.save(step, take(states, i)))

    with stop_on_signal() as stop:
        for step in runs[0].steps():
            batches = [run.next_batch(step) for run in runs]
            stacked = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
            with partitioner.activate():
                states, metrics = compiled(states, jax.device_put(stacked, batch_sharding))
            account()
            in_flight.append((step, metrics))
            stopping = stop.after(step) and step < plan.train_steps
            if step == runs[0].start + 1:
                account()
            if runs[0].validation_is_due(step) and not stopping:
                validate(step, states)
            if runs[0].save_is_due(step) or stopping:
                save(step, states)
            if stopping:
                raise stop.preempted(step)
            if len(diverged) == len(runs):
                break
    if diverged:
        raise Diverged("; ".join(f"{run.plan.model_dir}: {e}" for run, e in diverged.items()))


def _resumed(runs: Sequence[TrainingRun]) -> TrainState:
    """Restores the runs' states at the same step, stacked."""
    plan = runs[0].plan
    common = max(set.intersection(*(set(run.saved_steps()) for run in runs)), default=None)
    create = train_state.state_maker(plan.model, plan.optimizer, plan.partitioner)
    states = []
    for run in runs:
        run.forget_after(common or 0)
        states.append(run.resume(common, create))
    if len({run.start for run in runs}) > 1:
        starts = ", ".join(f"{run.plan.model_dir} at {run.start}" for run in runs)
        raise UserError(f"runs that are trained together start at one step: {starts}.")
    target = train_state.abstract_state(plan.model, plan.optimizer, plan.partitioner)
    placed = stacked_shardings(train_state.shardings(target))
    stack = jax.jit(lambda *all: jax.tree.map(lambda *x: jnp.stack(x), *all), out_shardings=placed)
    return stack(*states)


# -- What may differ -----------------------------------------------------------------------------

Origin = Mapping[str, Mapping[str, Any]]
"""As `config.reached` gives it."""


def _check_difference(first: tuple[str, Origin], second: tuple[str, Origin]) -> None:
    for argument in sorted(first[1].keys() | second[1].keys()):
        bound = [origin.get(argument, {}) for _, origin in (first, second)]
        for name in sorted(bound[0].keys() | bound[1].keys()):
            values = [each.get(name) for each in bound]
            if repr(values[0]) != repr(values[1]) and not _may_differ(argument, name, values):
                found = " and ".join(
                    f"{value!r} in {file}"
                    for value, (file, _) in zip(values, (first, second), strict=True)
                )
                raise UserError(
                    f"{name} is {found}: runs that are trained together differ in SEED, "
                    "MODEL_DIR and numbers of the optimizer only."
                )


def _may_differ(argument: str, name: str, values: Sequence[Any]) -> bool:
    if argument in ("model_dir", "seed", "initial_checkpoint"):
        return True
    if argument in ("dataset", "validation"):
        return name == "SEED" or name.endswith("DatasetConfig.seed")
    return argument == "optimizer" and all(type(value) in (int, float) for value in values)


# -- As a program --------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Runs `train_together`; the exit codes are those of `t5x-like train`."""
    try:
        if not arguments:
            raise UserError("give gin files of runs that differ in seeds and numbers only.")
        train_together(arguments)
        return 0
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if code is None:
            traceback.print_exc()
            return 1
        print(f"t5x-like: error: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
