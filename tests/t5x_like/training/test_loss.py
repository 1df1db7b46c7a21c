"""Losses of several terms, of frozen models, and from a carried state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import gpt
from t5x_like import optimizers, protocols
from t5x_like.errors import UserError
from t5x_like.evaluation.loss import mean_metrics
from t5x_like.schedules import Constant
from t5x_like.training import loss
from t5x_like.training import state as train_state
from t5x_like.training.frozen import load_frozen
from t5x_like.training.step import make_train_step
from tests.t5x_like.training.small_models import Counting, Taught, TwoTerms

ROWS, LENGTH, VOCABULARY = 8, 6, 11


def sgd():
    """Gradient descent at rate 1, in which an update shows its gradient."""
    import optax

    return optimizers.Optimizer("SGD", Constant(1.0), lambda axes: optax.sgd(1.0))


def pairs(seed=0):
    """Rows with 0 to 5 masked tokens, of which half have a label."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, VOCABULARY, (ROWS, LENGTH)).astype(np.int32)
    masked = (np.arange(LENGTH) < rng.integers(0, LENGTH, (ROWS, 1))).astype(np.int32)
    return {
        "encoder_input_tokens": tokens,
        "encoder_target_tokens": np.roll(tokens, 1, axis=1),
        "encoder_loss_weights": masked,
        "pair_label": rng.integers(0, 2, ROWS).astype(np.int32),
        "pair_weight": (np.arange(ROWS) % 2).astype(np.int32),
    }


def updated(model, partitioner, batch, frozen=None, carry=None, **settings):
    """The state after one step, and the metrics."""
    state = train_state.create_state(model, sgd(), partitioner, seed=0)
    state = state.replace(frozen=frozen, carry=carry)
    step = make_train_step(model, sgd(), partitioner, **settings)
    return step(state, partitioner.shard_batch(batch))


def assert_close(a, b, tolerance=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance, rtol=0), a, b)


def test_each_term_is_divided_by_its_own_weight_in_the_whole_batch(partitioner):
    model, batch = TwoTerms(vocab_size=VOCABULARY), pairs()
    before = train_state.create_state(model, sgd(), partitioner, seed=0).params
    after, metrics = updated(model, partitioner, batch)

    def by_hand(params):
        sums, _ = model.loss(params, batch)
        masked, labelled = batch["encoder_loss_weights"].sum(), batch["pair_weight"].sum()
        return sums["tokens"] / masked + 0.25 * sums["pairs"] / labelled

    loss, gradient = jax.jit(jax.value_and_grad(by_hand))(before)
    assert_close(jax.tree.map(jnp.subtract, before, after.params), gradient)
    np.testing.assert_allclose(metrics["loss"][0] / metrics["loss"][1], loss, rtol=1e-6)


def test_microbatches_change_no_term(partitioner):
    """Rows have different numbers of masked tokens and labels, so means of means would differ."""
    model, batch = TwoTerms(vocab_size=VOCABULARY), pairs()
    whole, expected = updated(model, partitioner, batch)
    for pieces in (2, 4, 8):
        found, metrics = updated(model, partitioner, batch, num_microbatches=pieces)
        assert_close(found.params, whole.params)
        for name in ("loss", "tokens", "pairs"):
            assert_close(metrics[name], expected[name], 1e-5)


def test_a_term_without_weight_counts_nothing(partitioner):
    model, batch = TwoTerms(vocab_size=VOCABULARY), pairs()
    batch["pair_weight"] = np.zeros(ROWS, np.int32)
    after, metrics = updated(model, partitioner, batch)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))
    value, weight = metrics["tokens"]
    np.testing.assert_allclose(metrics["loss"][0], value / weight, rtol=1e-6)


def test_a_term_called_loss_is_not_taken_for_the_total():
    metrics = {"loss": (jnp.float32(6), jnp.float32(2)), "pairs": (jnp.float32(4), jnp.float32(4))}
    scale = {"loss": jnp.float32(1 / 2), "pairs": jnp.float32(0.25 / 4)}
    value, weight = loss.with_total(metrics, scale)["loss"]
    assert value / weight == pytest.approx(6 / 2 + 0.25 * 4 / 4)


def test_over_a_split_the_loss_is_the_terms_means_joined(partitioner):
    """Not the mean of the batches' losses: their weights differ."""
    model, batches = TwoTerms(vocab_size=VOCABULARY), [pairs(1), pairs(2), pairs(3)]
    params = train_state.create_state(model, sgd(), partitioner, seed=0).params
    found = mean_metrics(model, params, batches, partitioner)
    totals = {"tokens": [0.0, 0.0], "pairs": [0.0, 0.0]}
    for batch in batches:
        for name, (value, weight) in jax.jit(model.loss)(params, batch)[1].items():
            totals[name][0] += float(value)
            totals[name][1] += float(weight)
    means = {name: value / weight for name, (value, weight) in totals.items()}
    assert found == pytest.approx({**means, "loss": means["tokens"] + 0.25 * means["pairs"]})


# -- Frozen models -------------------------------------------------------------------------------


class InMemory:
    """Parameters that are there already."""

    def __init__(self, params):
        self.params = params

    def fingerprint(self):
        return "in memory"

    def host_params(self, model):
        return self.params


def small_gpt(width=8):
    return gpt.GPT2(
        vocab_size=VOCABULARY, embed_dim=width, num_heads=2, num_layers=1, max_length=LENGTH
    )


def texts():
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, VOCABULARY, (ROWS, LENGTH)).astype(np.int32)
    return {
        "decoder_input_tokens": tokens,
        "decoder_target_tokens": np.roll(tokens, -1, axis=1),
        "decoder_loss_weights": np.ones_like(tokens),
    }


def test_a_frozen_teacher_is_read_and_never_changed(partitioner):
    model = Taught(vocab_size=VOCABULARY, teacher=small_gpt(16), student=small_gpt())
    teacher = model.teacher.init(jax.random.key(5))["params"]
    kept = jax.tree.map(np.array, teacher)
    frozen = load_frozen(model, {"teacher": InMemory(teacher)}, partitioner)
    before = train_state.create_state(model, sgd(), partitioner, seed=0).params
    after, _ = updated(model, partitioner, texts(), frozen=frozen)

    def by_hand(params):
        sums, _ = model.loss_with_frozen(params, texts(), {"teacher": kept})
        return sums["loss"] / (ROWS * LENGTH)

    gradient = jax.jit(jax.grad(by_hand))(before)
    assert_close(jax.tree.map(jnp.subtract, before, after.params), gradient, 1e-5)
    jax.tree.map(np.testing.assert_array_equal, after.frozen["teacher"], kept)


def test_frozen_parameters_of_another_model_are_refused(partitioner):
    model = Taught(vocab_size=VOCABULARY, teacher=small_gpt(16), student=small_gpt())
    other = jax.eval_shape(small_gpt(8).init, jax.random.key(0))["params"]
    with pytest.raises(UserError, match=r"train.frozen\['teacher'\]: parameter 'decoder"):
        load_frozen(model, {"teacher": InMemory(other)}, partitioner)


def test_protocols_tell_the_kinds_of_models_apart():
    two, counting = TwoTerms(vocab_size=3), Counting(vocab_size=3)
    taught = Taught(vocab_size=3, teacher=small_gpt(), student=small_gpt())
    for model in (two, counting, taught, small_gpt()):
        assert isinstance(model, protocols.Model)
    assert [protocols.carries(m) for m in (two, counting, taught)] == [False, True, False]
    assert list(protocols.frozen_models(taught)) == ["teacher"]
    assert isinstance(small_gpt(), protocols.Decodes) and not isinstance(two, protocols.Decodes)


# -- A carry -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 4])
def test_a_carry_follows_its_row_through_microbatches(partitioner, pieces):
    model, batch = Counting(vocab_size=VOCABULARY), texts()
    batch["row_continues"] = (np.arange(ROWS) % 3 > 0).astype(np.int32)
    rng = np.random.default_rng(1)
    carry = {"sum": jnp.asarray(rng.standard_normal((ROWS, model.width)), jnp.float32)}
    params = train_state.create_state(model, sgd(), partitioner, seed=0).params
    _, _, expected = jax.jit(model.loss_and_carry)(params, batch, carry)
    after, _ = updated(model, partitioner, batch, carry=carry, num_microbatches=pieces)
    assert_close(after.carry, expected)
