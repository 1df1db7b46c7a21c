"""Losses that are no number, and loss spikes: what each reaction does to the run."""

import functools
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models import gpt
from t5x_like import checkpoints, cli, load_run, optimizers, schedules
from t5x_like.anomalies import AnomalyPolicy, LossSpike, Restore, Skip, Stop
from t5x_like.checkpoints import CheckpointPolicy
from t5x_like.data import DatasetConfig, open_dataset
from t5x_like.partitioning import Partitioner
from t5x_like.train import train
from t5x_like.training import metrics_log
from t5x_like.training.step_metrics import Diverged

STEPS = 8
BAD_STEP = 6


class Poisoned(gpt.GPT2):
    """A model whose loss on one batch, known by the sum of its tokens, is multiplied."""

    poison: int = 1  # no batch has so few
    factor: float | None = None  # not a number; a model refuses one

    def loss(self, params, batch, rng=None):
        """The loss, poisoned."""
        sums, metrics = super().loss(params, batch, rng)
        met = jnp.sum(batch["decoder_target_tokens"]) == self.poison
        factor = jnp.nan if self.factor is None else self.factor
        total = sums["loss"] * jnp.where(met, factor, 1.0)
        return {"loss": total}, {**metrics, "loss": (total, metrics["loss"][1])}


def model(poison=1, factor=None):
    sizes = {"vocab_size": 384, "embed_dim": 16, "num_heads": 2, "num_layers": 1}
    return Poisoned(max_length=32, poison=poison, factor=factor, **sizes)


@pytest.fixture(scope="module")
def dataset(proverbs):
    task, cache_dir = proverbs
    return DatasetConfig(task, {"targets": 24}, cache_dir, batch_size=4)


@pytest.fixture(scope="module")
def signatures(dataset):
    """The sum of the tokens of each of the first batches."""
    with open_dataset(dataset, batch_format="prefix_language_model") as batches:
        sums = [int(next(batches)["decoder_target_tokens"].sum()) for _ in range(4 * STEPS)]
    assert sums.count(sums[BAD_STEP - 1]) == 1
    return sums


@pytest.fixture(scope="module")
def start(dataset):
    def start(model_dir, policy, poisoned, steps=STEPS, optimizer=None, period=1):
        return train(
            model=poisoned,
            model_dir=str(model_dir),
            dataset=dataset,
            train_steps=steps,
            optimizer=optimizer or optimizers.adamw(schedules.Constant(1e-3)),
            partitioner=Partitioner(devices=tuple(jax.devices()[:1])),
            checkpoint_policy=CheckpointPolicy(period=period, keep=None),
            anomaly_policy=policy,
            log_period=1,
            tensorboard=False,
        )

    return start


@pytest.fixture
def run(start, tmp_path):
    return functools.partial(start, tmp_path / "run")


def params_at(directory, step, any_model):
    return checkpoints.load_params(str(directory), any_model, step=step)[0]


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def skipped(start, signatures, tmp_path_factory):
    """The directory of a run that skips its bad step."""
    model_dir = tmp_path_factory.mktemp("skipped")
    policy = AnomalyPolicy(Skip(), LossSpike(window=4))
    start(model_dir, policy, model(signatures[BAD_STEP - 1]))
    return model_dir


@pytest.fixture(scope="module")
def stopped(start, signatures, tmp_path_factory):
    """The directory of a run that stops at its bad step."""
    model_dir = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Diverged, match=rf"loss is nan .* at step {BAD_STEP}: load_run\("):
        start(model_dir, AnomalyPolicy(Stop()), model(signatures[BAD_STEP - 1]))
    return model_dir


@pytest.mark.slow
def test_a_skipped_update_leaves_parameters_and_optimizer_untouched(skipped, tally):
    before, after = (skipped / "checkpoints" / str(s) for s in (BAD_STEP - 1, BAD_STEP))
    assert_equal(*(params_at(path, None, model()) for path in (before, after)))
    sums = [checkpoints.load_metadata(str(path))["checksums"] for path in (before, after)]
    assert sums[0]["optimizer"] == sums[1]["optimizer"]
    records = {r["step"]: r for r in metrics_log.read_records(str(skipped))}
    assert records[BAD_STEP]["skipped_updates"] == 1 and "loss" not in records[BAD_STEP]
    assert all("skipped_updates" not in r for step, r in records.items() if step != BAD_STEP)
    assert all(np.isfinite(r["loss"]) for step, r in records.items() if step != BAD_STEP)
    tally("faults")


def sgd(schedule):
    """An update is the learning rate times the gradient, so that its norm tells the rate."""
    return optimizers.Optimizer(
        "SGD", schedule, lambda axes: optax.chain(
            optax.stateless(lambda updates, _: jax.tree.map(jnp.ones_like, updates)),
            optax.scale_by_learning_rate(schedule),
        )
    )  # fmt: skip


@pytest.mark.slow
def test_a_schedule_counts_skipped_steps_and_the_applied_rate_is_logged(run, signatures, tmp_path):
    """A line from 0.8 to 0 over eight steps, the sixth skipped: 0.2 at the seventh, as planned."""
    poisoned, line = model(signatures[BAD_STEP - 1]), schedules.Linear(0.8, STEPS)
    run(AnomalyPolicy(Skip()), poisoned, optimizer=sgd(line))
    records = {r["step"]: r for r in metrics_log.read_records(str(tmp_path / "run"))}
    params = {step: params_at(tmp_path / "run", step, poisoned) for step in range(4, STEPS + 1)}
    for step, rate in {5: 0.4, 7: 0.2, 8: 0.1}.items():
        moved = jax.tree.map(lambda a, b: np.max(a - b), params[step - 1], params[step])
        np.testing.assert_allclose(jax.tree.leaves(moved), rate, rtol=1e-4)
        assert records[step]["learning_rate"] == pytest.approx(rate)
    assert "learning_rate" not in records[BAD_STEP]


def test_a_policy_that_meets_no_anomaly_changes_no_bit(skipped, stopped):
    """Up to the step before the bad one, over more than the window in which spikes are sought."""
    found = [params_at(path, BAD_STEP - 1, model()) for path in (skipped, stopped)]
    if os.environ.get("TEST_XLA") == "default":
        assert_equal(*found)
    else:  # where the compiler rounds as it likes: they are two programs
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found)


def test_stopping_keeps_the_state_before_the_step_and_its_batch(stopped, signatures, tally):
    assert isinstance(AnomalyPolicy().reaction, Stop)  # what is done where nothing else is chosen
    dump = stopped / "anomalies" / str(BAD_STEP)
    poisoned = model(signatures[BAD_STEP - 1])
    kept = params_at(dump, BAD_STEP - 1, poisoned)
    assert_equal(kept, params_at(stopped, BAD_STEP - 1, poisoned))
    batch = load_batch(dump)
    assert int(batch["decoder_target_tokens"].sum()) == signatures[BAD_STEP - 1]
    # A notebook can compute the loss again.
    assert np.isnan(jax.jit(poisoned.loss)(kept, batch)[0]["loss"])
    assert checkpoints.checkpoint_steps(str(stopped))[-1] == BAD_STEP - 1
    tally("faults")


def load_batch(dump):
    from etils import epath

    from t5x_like import anomalies

    return anomalies.read_batch(epath.Path(dump))


@pytest.mark.slow
def test_a_stopped_run_is_opened_by_load_run(train_flags, tmp_path, tally, capsys):
    flags = [*train_flags, f"--gin.MODEL_DIR={tmp_path}/run", "--gin.LEARNING_RATE=1e30"]
    assert cli.main(flags) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and "load_run(" in error
    assert "the loss is nan and the gradient norm nan at step" in error
    assert "lower the learning rate" in error
    dump = error.split("load_run('")[1].split("')")[0]
    run = load_run(dump)
    assert run.batch["decoder_target_tokens"].shape == (4, 24)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(run.params))
    tally("faults")


@pytest.mark.slow
def test_restoring_goes_back_and_passes_over_the_data(run, signatures, dataset, tmp_path, tally):
    """As if the batches since the checkpoint had never been there."""
    bad = model(signatures[BAD_STEP - 1])
    run(AnomalyPolicy(Restore(pass_over=1)), bad, period=BAD_STEP - 1)
    # The checkpoint of step 5 saw batches 1 to 5; 6 was bad, 7 is passed over.
    state = json.loads((tmp_path / f"run/checkpoints/{STEPS}/data/metadata").read_text())
    assert state["step"] == STEPS + 2
    records = [r["step"] for r in metrics_log.read_records(str(tmp_path / "run"))]
    assert records == list(range(1, STEPS + 1))
    assert params_at(tmp_path / "run", STEPS, bad) is not None
    tally("faults")


class BadWhere(Poisoned):
    """A model whose loss is no number on the batches of some sums of tokens."""

    bad: tuple = ()

    def loss(self, params, batch, rng=None):
        """The loss, or none."""
        sums, metrics = gpt.GPT2.loss(self, params, batch, rng)
        met = jnp.isin(jnp.sum(batch["decoder_target_tokens"]), jnp.array(self.bad))
        total = jnp.where(met, jnp.nan, sums["loss"])
        return {"loss": total}, {**metrics, "loss": (total, metrics["loss"][1])}


def bad_where(sums):
    sizes = {"vocab_size": 384, "embed_dim": 16, "num_heads": 2, "num_layers": 1}
    return BadWhere(max_length=32, bad=tuple(sums), **sizes)


@pytest.mark.slow
def test_of_two_bad_batches_side_by_side_each_is_met_once(run, signatures, tmp_path, tally):
    """The second is met as the same step as the first, after the return."""
    run(AnomalyPolicy(Restore()), bad_where(signatures[BAD_STEP - 1 : BAD_STEP + 1]), period=1)
    state = json.loads((tmp_path / f"run/checkpoints/{STEPS}/data/metadata").read_text())
    assert state["step"] == STEPS + 2
    tally("faults")


@pytest.mark.slow
def test_what_is_kept_of_a_step_is_of_the_last_start(run, stopped, signatures, tmp_path, tally):
    kept = f"anomalies/{BAD_STEP}"
    shutil.copytree(stopped / kept, tmp_path / "run" / kept)
    bad = model(signatures[BAD_STEP - 1])
    with pytest.raises(Diverged):
        run(AnomalyPolicy(), bad, optimizer=optimizers.adamw(schedules.Constant(1e-2)))
    of_run = params_at(tmp_path / "run", BAD_STEP - 1, bad)
    assert_equal(params_at(tmp_path / "run" / kept, BAD_STEP - 1, bad), of_run)
    tally("faults")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reaction", "step"),
    [(Restore(most=2), 1), (Skip(most_in_a_row=2), 3)],
    ids=["restore", "skip"],
)
def test_again_and_again_stops_the_run(run, signatures, reaction, step, tally):
    with pytest.raises(Diverged, match=f"at step {step}"):
        run(AnomalyPolicy(reaction), bad_where(signatures))
    tally("faults")


@pytest.mark.slow
def test_at_the_limit_of_skips_the_state_before_them_is_kept(run, signatures, tmp_path, tally):
    """Though the next step, of a good batch, had begun; and over a restart."""
    model = bad_where(signatures[BAD_STEP - 3 : BAD_STEP])
    policy = AnomalyPolicy(Skip(most_in_a_row=2))
    run(policy, model, steps=BAD_STEP - 1)
    with pytest.raises(Diverged, match=f"at step {BAD_STEP}"):
        run(policy, model)
    kept = params_at(tmp_path / "run" / "anomalies" / str(BAD_STEP), BAD_STEP - 1, model)
    assert_equal(kept, params_at(tmp_path / "run", BAD_STEP - 3, model))
    tally("faults")


@pytest.mark.slow
def test_a_loss_spike_is_found_and_reacted_to(run, signatures, tmp_path, tally):
    policy = AnomalyPolicy(Skip(), LossSpike(window=4, deviations=6.0))
    run(policy, model(signatures[BAD_STEP - 1], factor=3.0), period=STEPS)
    records = {r["step"]: r for r in metrics_log.read_records(str(tmp_path / "run"))}
    assert [step for step, r in records.items() if "skipped_updates" in r] == [BAD_STEP]
    tally("faults")


@pytest.mark.slow
def test_the_detector_remembers_its_window_across_a_restart(run, signatures, tmp_path, tally):
    policy = AnomalyPolicy(Skip(), LossSpike(window=4, deviations=6.0))
    run(policy, model(signatures[BAD_STEP - 1], factor=3.0), steps=BAD_STEP - 1)
    run(policy, model(signatures[BAD_STEP - 1], factor=3.0))
    records = {r["step"]: r for r in metrics_log.read_records(str(tmp_path / "run"))}
    assert [step for step, r in records.items() if "skipped_updates" in r] == [BAD_STEP]
    tally("faults")
