"""NT-ASGD: when the average begins, what is in it, and a run that was stopped meanwhile."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.recurrent import RecurrentLM
from t5x_like import optimizers
from t5x_like.checkpoints import CheckpointPolicy, averages
from t5x_like.data import DatasetConfig
from t5x_like.errors import UserError
from t5x_like.optimizers import Optimizer, after_validation, measured_params
from t5x_like.schedules import Constant
from t5x_like.train import train_plan
from t5x_like.training.plan import TrainingPlan

ONE_UP = Optimizer("one up", Constant(1.0), lambda _: optax.stateless(lambda u, _: u))


def begun_after(losses, patience):
    """The number of the validation after which the average begins; None if it does not."""
    rule = optimizers.nonmonotonic_average(ONE_UP, patience).build({"w": (None,)})
    state = rule.init({"w": jnp.zeros(1)})
    for number, loss in enumerate(losses, 1):
        state = after_validation(state, loss)
        if jax.tree.leaves(state[-1].begun)[0]:
            return number
    return None


@pytest.mark.parametrize(
    ("losses", "patience", "number"),
    [
        # Above the least of all but the last two before it: 3 > 2 with 2 among the first.
        ([5, 2, 4, 4, 3], 2, 5),
        # 2.5 is above 2, which is one of the last two; then 2.6 is above it and it is not.
        ([5, 4, 2, 2.5, 2.4, 2.6], 2, 6),
        # As many as the patience must be there, and one before them.
        ([1, 9, 9, 9], 2, 4),
        ([1, 9, 9], 2, None),
        ([5, 4, 3, 2, 1], 1, None),
        # What is no number begins nothing.
        ([5, float("nan"), 6, 4], 3, None),
    ],
)
def test_it_begins_as_algorithm_1_says(losses, patience, number):
    assert begun_after(losses, patience) == number
    # The algorithm: v is above the least of logs[0 .. t - n - 1], where t are there.
    plain = [
        t + 1 for t, v in enumerate(losses) if t > patience and v > min(losses[: t - patience])
    ]
    assert (plain[0] if plain else None) == number


def test_it_is_the_mean_of_the_parameters_since_and_the_parameters_before():
    """Parameters 1, 2, then the average begins, 3, 4, 5: 3, 3.5, 4."""
    rule = optimizers.nonmonotonic_average(ONE_UP, patience=1).build({"w": (None,)})
    params, found = {"w": jnp.zeros(1), "kept": jnp.full(1, 7.0)}, []
    state = rule.init({"w": params["w"]})
    for step in range(5):
        if step == 2:
            for loss in (1.0, 2.0, 3.0):
                state = after_validation(state, loss)
        updates, state = rule.update({"w": jnp.ones(1)}, state, {"w": params["w"]})
        params |= optax.apply_updates({"w": params["w"]}, updates)
        found.append(float(measured_params(params, state)["w"][0]))
    assert found == [1, 2, 3, 3.5, 4]
    assert params["w"] == 5 and measured_params(params, state)["kept"] == 7
    assert measured_params(params, optax.sgd(1.0).init(params)) is params


def test_a_patience_of_no_validation_is_refused():
    with pytest.raises(UserError, match="patience is 0: a number of validations"):
        optimizers.nonmonotonic_average(ONE_UP, 0)


def test_weight_decay_is_added_to_the_gradient_once_that_is_scaled():
    """PyTorch's: a gradient of norm 5 at 1 is (0.6, 0.8), and 0.1 of (1, -1) is added."""
    rule = optimizers.sgd(Constant(2.0), global_norm=1.0, weight_decay=0.1).build({"w": (None,)})
    params, gradient = {"w": jnp.array([1.0, -1.0])}, {"w": jnp.array([3.0, 4.0])}
    updates, _ = rule.update(gradient, rule.init(params), params)
    np.testing.assert_allclose(updates["w"], (-2 * 0.7, -2 * 0.7), rtol=1e-6)
    with pytest.raises(UserError, match="weight_decay is -1: it must be 0 or more"):
        optimizers.sgd(Constant(1.0), weight_decay=-1)


@pytest.mark.slow
def test_a_run_that_was_stopped_begins_to_average_where_it_would_have(
    proverbs, partitioner, tmp_path
):
    """At a rate so high that the loss rises, with a validation after each update."""
    task, cache_dir = proverbs
    data = DatasetConfig(task, {"targets": 24}, str(cache_dir), "train", 4, prefetch=0)
    plan = TrainingPlan(
        model=RecurrentLM(vocab_size=384, embed_dim=8),
        model_dir=str(tmp_path / "whole"),
        dataset=data,
        train_steps=8,
        optimizer=optimizers.nonmonotonic_average(optimizers.sgd(Constant(300.0)), patience=1),
        validation=[dataclasses.replace(data, split="validation")],
        validation_period=1,
        partitioner=partitioner,
        checkpoint_policy=CheckpointPolicy(period=1),
        log_period=1,
        tensorboard=False,
    )
    state = train_plan(plan)
    average = state.opt_state[-1]
    assert average.begun and 0 < average.updates < 8
    parts = functools.partial(dataclasses.replace, plan, model_dir=str(tmp_path / "parts"))
    train_plan(parts(train_steps=3))
    jax.tree.map(np.testing.assert_array_equal, train_plan(parts()).opt_state, state.opt_state)

    # What is measured, and what becomes a run of its own, is the mean.
    lines = map(json.loads, (tmp_path / "whole/metrics.jsonl").read_text().splitlines())
    measured = {line["step"]: line["loss"] for line in lines if line["split"] == "validation"}
    lines = map(json.loads, (tmp_path / "parts/metrics.jsonl").read_text().splitlines())
    again = {line["step"]: line["loss"] for line in lines if line["split"] == "validation"}
    assert again == measured
    mean = averages.kept_moving_average(str(tmp_path / "whole"), plan.model, 8)
    jax.tree.map(np.testing.assert_array_equal, mean, average.moving_average)
