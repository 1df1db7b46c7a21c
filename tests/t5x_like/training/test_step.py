import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_like import optimizers
from t5x_like.errors import UserError
from t5x_like.evaluation.loss import mean_metrics
from t5x_like.schedules import Constant
from t5x_like.training import state as train_state
from t5x_like.training.step import make_train_step


def sgd(rate=1.0):
    """Gradient descent, in which an update shows its gradient."""
    import optax

    return optimizers.Optimizer("SGD", Constant(rate), lambda axes: optax.sgd(rate))


def run(model, partitioner, batch, steps=1, optimizer=None, **kwargs):
    optimizer = optimizer or sgd()
    state = train_state.create_state(model, optimizer, partitioner, seed=0)
    step = make_train_step(model, optimizer, partitioner, **kwargs)
    for _ in range(steps):
        state, metrics = step(state, partitioner.shard_batch(batch))
    return state, metrics


def assert_trees_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_the_gradient_is_that_of_the_mean_over_all_target_tokens(model, partitioner, batch):
    before = train_state.create_state(model, sgd(), partitioner, seed=0).params
    after, metrics = run(model, partitioner, batch)

    def mean_loss(params):
        logits = model.apply({"params": params}, **batch)
        chosen = jax.nn.log_softmax(logits)[
            np.arange(8)[:, None], np.arange(12), batch["decoder_target_tokens"]
        ]
        weights = batch["decoder_loss_weights"]
        return -jnp.sum(chosen * weights) / weights.sum()

    loss, gradient = jax.jit(jax.value_and_grad(mean_loss))(before)
    assert_trees_close(
        jax.tree.map(jnp.subtract, before, after.params), gradient, rtol=1e-3, atol=1e-6
    )
    np.testing.assert_allclose(metrics["loss"][0] / metrics["loss"][1], loss, rtol=1e-5)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["gradient_norm"][0], norm, rtol=1e-4)
    assert metrics["loss"][1] == batch["decoder_loss_weights"].sum()


def test_microbatches_give_the_update_of_the_whole_batch(model, partitioner, batch):
    # The rows' weights differ, so a mean of the pieces' means would be another update.
    whole, metrics = run(model, partitioner, batch, steps=3)
    for pieces in (2, 8):
        pieced, metrics_of_pieces = run(model, partitioner, batch, steps=3, num_microbatches=pieces)
        assert_trees_close(whole.params, pieced.params, rtol=1e-4, atol=1e-6)
        assert metrics["loss"][1] == metrics_of_pieces["loss"][1]


def test_microbatches_that_do_not_divide_the_batch_are_refused(model, partitioner, batch):
    with pytest.raises(UserError, match="NUM_MICROBATCHES 3 does not divide BATCH_SIZE 8"):
        run(model, partitioner, batch, num_microbatches=3)


def test_dropout_is_a_function_of_seed_and_step(model, partitioner, batch):
    noisy = dataclasses.replace(model, dropout_rate=0.3)

    def losses(seed, steps):
        state = train_state.create_state(noisy, sgd(), partitioner, seed=0)
        step = make_train_step(noisy, sgd(1e-9), partitioner, seed=seed)
        found = []
        for _ in range(steps):
            state, metrics = step(state, partitioner.shard_batch(batch))
            found.append(float(metrics["loss"][0]))
        return found

    first, second = losses(seed=5, steps=2)
    assert losses(seed=5, steps=1) == [first]
    assert len({first, second, *losses(seed=6, steps=1)}) == 3


def test_a_batch_without_targets_leaves_the_parameters_finite(model, partitioner, batch):
    empty = {**batch, "decoder_loss_weights": np.zeros_like(batch["decoder_loss_weights"])}
    state, _ = run(model, partitioner, empty)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_the_state_is_donated(model, partitioner, batch):
    optimizer = sgd()
    state = train_state.create_state(model, optimizer, partitioner, seed=0)
    make_train_step(model, optimizer, partitioner)(state, partitioner.shard_batch(batch))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_the_step_and_the_learning_rate_are_counted(model, partitioner, batch):
    schedule = Constant(0.5, warmup_steps=5)
    optimizer = optimizers.adamw(schedule)
    state, metrics = run(model, partitioner, batch, steps=2, optimizer=optimizer)
    assert int(state.step) == 2
    np.testing.assert_allclose(metrics["learning_rate"][0], 0.5 * 2 / 5, rtol=1e-6)


def test_validation_weighs_tokens_not_batches(model, partitioner, batch):
    params = train_state.create_state(model, sgd(), partitioner, seed=0).params
    halves = [{k: v[:4] for k, v in batch.items()}, {k: v[4:] for k, v in batch.items()}]
    padding = {k: np.zeros_like(v) for k, v in halves[0].items()}
    whole = mean_metrics(model, params, [batch], partitioner)
    parts = mean_metrics(model, params, [*halves, padding], partitioner)
    np.testing.assert_allclose(parts["loss"], whole["loss"], rtol=1e-5)


def test_an_empty_validation_split_is_refused(model, partitioner):
    params = train_state.create_state(model, sgd(), partitioner, seed=0).params
    with pytest.raises(UserError, match="no example with a target"):
        mean_metrics(model, params, [], partitioner)
