"""The gradient noise scale, against drawn gradients and the gradients of each piece."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_like import optimizers
from t5x_like.schedules import Constant
from t5x_like.training import state as train_state
from t5x_like.training.step import make_train_step, split_microbatches
from t5x_like.training.watching.noise_scale import NAME, noise_and_signal


@pytest.mark.parametrize("weights", [[64.0] * 4, [16.0, 32.0, 64.0, 0.0]], ids=["alike", "uneven"])
def test_means_over_steps_are_the_noise_and_the_signal_of_drawn_gradients(weights):
    """G has norm 2, a token's gradient a covariance of trace 300: mean over 20,000 steps."""
    rng = np.random.default_rng(0)
    weights = np.array(weights)
    mean = np.array([1.2, -1.6, 0.0])
    spread = np.sqrt([200.0, 90.0, 10.0])
    steps = 20_000
    with np.errstate(divide="ignore"):
        errors = rng.standard_normal((steps, 4, 3)) * spread / np.sqrt(weights)[:, None]
    pieces = np.where(weights[:, None] > 0, mean + errors, 0.0)
    whole = (weights[:, None] * pieces).sum(1) / weights.sum()
    found = jax.vmap(noise_and_signal, in_axes=(0, None, 0))(
        jnp.asarray((pieces**2).sum(-1)), jnp.asarray(weights), jnp.asarray((whole**2).sum(-1))
    )
    noise, signal = (np.asarray(values, np.float64) for values in found)
    for values, expected in ((noise, 300.0), (signal, 4.0)):
        error = values.std() / np.sqrt(steps)
        assert abs(values.mean() - expected) < 4 * error < 0.1 * expected
    assert noise.sum() / signal.sum() == pytest.approx(75.0, rel=0.1)


def test_one_piece_with_weight_tells_nothing():
    found = noise_and_signal(jnp.array([3.0, 0.0]), jnp.array([5.0, 0.0]), jnp.float32(3.0))
    assert [float(value) for value in found] == [0.0, 0.0]


def test_a_step_tells_the_noise_of_its_pieces_whose_weights_differ(model, partitioner, batch):
    """By hand: the gradient of each piece's own mean loss, and that of the whole batch."""
    import optax

    optimizer = optimizers.Optimizer("SGD", Constant(1.0), lambda axes: optax.sgd(1.0))
    state = train_state.create_state(model, optimizer, partitioner, seed=0)
    params = state.params

    @jax.jit
    def gradient(params, part):
        def mean_loss(params):
            logits = model.apply({"params": params}, **part)
            logs = jax.nn.log_softmax(logits)
            chosen = jnp.take_along_axis(logs, part["decoder_target_tokens"][..., None], -1)
            weights = part["decoder_loss_weights"]
            return -jnp.sum(chosen[..., 0] * weights) / weights.sum()

        return jax.grad(mean_loss)(params)

    def squared_norm(part):
        leaves = jax.tree.leaves(gradient(params, part))
        return sum(float(np.sum(np.square(leaf, dtype=np.float64))) for leaf in leaves)

    pieces = split_microbatches({name: jnp.asarray(value) for name, value in batch.items()}, 4)
    parts = [{name: value[i] for name, value in pieces.items()} for i in range(4)]
    weights = np.array([float(part["decoder_loss_weights"].sum()) for part in parts])
    assert len(set(weights)) > 1
    small = np.mean([squared_norm(part) for part in parts])
    big = squared_norm(batch)
    noise = (small - big) / (np.mean(1 / weights) - 1 / weights.sum())
    signal = big - noise / weights.sum()

    step = make_train_step(model, optimizer, partitioner, num_microbatches=4, noise_scale=True)
    _, metrics = step(state, partitioner.shard_batch(batch))
    np.testing.assert_allclose(metrics[NAME], (noise, signal), rtol=2e-3)
