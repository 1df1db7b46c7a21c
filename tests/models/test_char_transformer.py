"""The character Transformer: positions at each layer, auxiliary losses and their schedule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.char_transformer import CharTransformer
from models.errors import ModelError
from t5x_like import protocols
from t5x_like.training.state import TrainState
from t5x_like.training.step import mean_gradient
from tests.models.families import drawn

V = 13
MODEL = CharTransformer(
    vocab_size=V, embed_dim=8, mlp_dim=12, num_heads=2, num_layers=4, max_length=6, total_steps=1000
)
BATCH = {
    "decoder_input_tokens": jnp.array([[0, 3, 5, 7, 2]]),
    "decoder_target_tokens": jnp.array([[3, 5, 7, 2, 4]]),
}


def at(step, batch=BATCH):
    return batch | {"row_step": jnp.full(1, step)}


@functools.cache
def measured(step):
    """The loss and the metrics of a training step, and every layer's output."""
    sums, metrics = jax.jit(MODEL.loss)(drawn(MODEL), at(step))
    return float(sums["loss"]), {name: float(a / b) for name, (a, b) in metrics.items()}


@functools.cache
def losses_of_layers():
    """Sums over the positions, `[layer][target]`, from log-probabilities."""
    x_lbte, kernels = MODEL.apply({"params": drawn(MODEL)}, **BATCH, method="_all_layers")
    log_p = np.asarray(jax.nn.log_softmax(jnp.einsum("lbte,lkev->lkbtv", x_lbte, kernels)))[:, :, 0]
    targets = np.asarray(BATCH["decoder_target_tokens"][0])
    # The last position has no character after the next.
    return np.array(
        [
            [-layer[0][range(5), targets].sum(), -layer[1][range(4), targets[1:]].sum()]
            for layer in log_p
        ]
    )


@pytest.mark.parametrize(("layers", "count"), [(64, 235438080), (12, 44251136)])
def test_the_papers_counts_with_the_auxiliary_matrices(layers, count):
    """Al-Rfou et al. 2018, table 1: 235M and 44M; without those that training alone uses 219M, 41M.

    A layer: 12·512² and 13·512 of norms and biases; 512 positions; two matrices of 512·256.
    """
    model = CharTransformer(vocab_size=256, num_layers=layers)
    assert model.parameter_count() == count
    in_training_alone = (2 * layers - 1) * 512 * 256
    assert count - in_training_alone == {64: 218791936, 12: 41236480}[layers]


@pytest.mark.parametrize(
    ("step", "layers"), [(0, (1, 2, 3, 4)), (124, (1, 2, 3, 4)), (125, (2, 3, 4)),
                         (300, (3, 4)), (375, (4,)), (999, (4,))]
)  # fmt: skip
def test_layer_l_of_4_counts_until_l_eighths_of_the_training(step, layers):
    """At 0.3 of it layers 3 (to 0.375) and 4 remain; the last never stops."""
    shares = MODEL._shares(jnp.int32(step))
    expected = [[1.0, 0.5] if layer in layers else [0.0, 0.0] for layer in (1, 2, 3, 4)]
    np.testing.assert_array_equal(shares, expected)


@pytest.mark.slow
def test_the_loss_is_that_of_the_layers_that_count_and_half_of_their_second_target():
    of = losses_of_layers()
    loss, metrics = measured(300)
    assert loss == pytest.approx(of[2:, 0].sum() + 0.5 * of[2:, 1].sum(), rel=1e-5)
    assert metrics["layer_loss"] == pytest.approx(of[2, 0] / 5, rel=1e-5)
    assert metrics["second_target_loss"] == pytest.approx(0.5 * of[2:, 1].sum() / 5, rel=1e-5)
    assert metrics["cross_entropy"] == pytest.approx(of[3, 0] / 5, rel=1e-5)


@pytest.mark.slow
def test_evaluation_measures_the_last_layers_next_character():
    of = losses_of_layers()
    sums, _ = MODEL.loss(drawn(MODEL), BATCH)
    assert sums["loss"] == pytest.approx(of[3, 0], rel=1e-5)
    rows, _ = MODEL.row_metrics(drawn(MODEL), BATCH)
    assert rows["loss"][0][0] == pytest.approx(of[3, 0], rel=1e-5)


@pytest.mark.slow
def test_the_second_target_is_of_the_same_text():
    """Two texts in a row of three and two: pairs of targets at 2 + 1 positions, and not at 4."""
    batch = BATCH | {"decoder_segment_ids": jnp.array([[1, 1, 1, 2, 2]]),
                     "decoder_positions": jnp.array([[0, 1, 2, 0, 1]])}  # fmt: skip
    two_heads = MODEL.clone(layer_losses=False, second_target_weight=1.0)
    params = drawn(MODEL)
    zero = jax.tree.map(lambda a: a, params)
    zero["output"] = {"kernel": params["output"]["kernel"].at[:, 1].set(0.0)}
    _, metrics = jax.jit(two_heads.loss)(zero, at(0, batch))
    # Of a matrix of zeros every character has ln 13.
    assert metrics["second_target_loss"][0] == pytest.approx(3 * np.log(V), rel=1e-5)


@pytest.mark.slow
def test_each_layer_adds_positions_of_its_own():
    """A vector in place of the positions of layer 1 moves into the embeddings; of layer 2 not."""
    params = drawn(MODEL)
    table = params["decoder"]["layers"]["positions"]["embedding"]
    assert table.shape == (4, 6, 8)
    logits = MODEL.logits(params, BATCH)
    for layer, equal in ((0, True), (1, False)):
        moved = jax.tree.map(lambda a: a, params)
        positions = moved["decoder"]["layers"]["positions"]
        positions["embedding"] = table.at[layer].add(1.0)
        if equal:
            embedding = params["token_embedder"]["embedding"] - 1.0
            moved["token_embedder"] = {"embedding": embedding}
        assert np.allclose(MODEL.logits(moved, BATCH), logits, atol=1e-4) == equal


def test_the_engine_tells_a_training_step_its_number():
    assert isinstance(MODEL, protocols.UsesStep)
    state = TrainState(jnp.int32(300), drawn(MODEL), None)
    _, metrics, _ = jax.jit(mean_gradient(MODEL))(state, BATCH, jax.random.key(0))
    assert float(metrics["layer_loss"][0]) == pytest.approx(losses_of_layers()[2, 0], rel=1e-4)


def test_a_negative_weight_is_refused():
    with pytest.raises(ModelError, match=r"second_target_weight is -1.0: it must be 0 or more"):
        MODEL.clone(second_target_weight=-1.0)
