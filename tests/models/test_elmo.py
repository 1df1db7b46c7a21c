"""ELMo: its words, its two directions, its mixes and its size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.elmo import ELMo
from models.errors import ModelError
from models.heads import Classification, MultipleChoice, Tagging
from models.layers.characters.character_cnn import CharacterCNN
from models.layers.linear import uniform
from models.layers.recurrent.cells import ProjectedLSTM
from models.layers.recurrent.stack import RecurrentLayer
from models.layers.stacks.scalar_mix import scalar_mix
from t5x_like import protocols
from tests.models.families import FAMILIES, batch_for, drawn

make = FAMILIES["elmo"]


@functools.partial(jax.jit, static_argnums=0)
def vectors_of(model, params, batch):
    return model.predict(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def loss_and_carry(model, params, batch, carry):
    return model.loss_and_carry(params, batch, carry)


@pytest.fixture(scope="module")
def case():
    """A model, parameters of which every one matters, and a batch of two rows of ten words."""
    model = make()
    return model, drawn(model), batch_for(model)


def test_its_count_is_that_of_the_released_model_and_its_softmax_the_papers():
    model = ELMo(vocab_size=793_471)
    matrix = 512 * 793_471
    assert matrix == 406_257_152
    assert model.parameter_count() - matrix - model.vocab_size == 93_600_864
    characters, filters = 262 * 16, 16 * (32 + 64 + 192 + 512 + 1280 + 3072 + 7168) + 2048
    highways, projection = 2 * 2 * (2048 * 2048 + 2048), 2048 * 512 + 512
    lstm = 4 * 4096 * (512 + 512) + 4 * 4096 + 4096 * 512
    assert (characters, filters, highways, projection, lstm) == (
        4_192, 199_168, 16_785_408, 1_049_088, 18_890_752,
    )  # fmt: skip
    assert characters + filters + highways + projection + 4 * lstm == 93_600_864


def test_a_mix_of_three_layers_by_hand():
    """Weights 1/4, 1/2, 1/4 of (1, 1), (2, 0), (0, 4), and twice their sum."""
    layers = jnp.array([(1.0, 1.0), (2.0, 0.0), (0.0, 4.0)])
    mixed = scalar_mix(layers, jnp.array([0, np.log(2), 0]), 2.0)
    np.testing.assert_allclose(mixed, (2.5, 2.5), rtol=1e-6)


@pytest.mark.slow
def test_what_it_gives_is_the_mix_of_its_layers(case):
    model, params, batch = case
    found = vectors_of(model, params, batch)
    assert isinstance(model, protocols.Predicts)
    layers = np.asarray(found["layers"])
    np.testing.assert_array_equal(layers[..., 0, :6], layers[..., 0, 6:])  # the word's own
    np.testing.assert_allclose(found["hidden_states"], layers.mean(axis=-2), atol=1e-6)
    mixed = make(mix_scores=(0.0, float(np.log(2)), 0.0), mix_scale=2.0)
    by_hand = np.einsum("btle,l->bte", layers, (0.5, 1.0, 0.5))
    hidden = jax.jit(mixed.predict)(params, batch)["hidden_states"]
    np.testing.assert_allclose(hidden, by_hand, atol=1e-5)


# -- Directions ------------------------------------------------------------------------------------


def test_either_direction_knows_its_own_side_alone(case):
    model, params, batch = case
    before = np.asarray(vectors_of(model, params, batch)["layers"])
    changed = batch | {"encoder_characters": batch["encoder_characters"].at[:, 4].set(99)}
    differs = np.asarray(vectors_of(model, params, changed)["layers"]) != before
    forward, backward = differs[..., 1:, :6].any((0, 2, 3)), differs[..., 1:, 6:].any((0, 2, 3))
    assert np.flatnonzero(forward).tolist() == [4, 5, 6, 7, 8, 9]
    assert np.flatnonzero(backward).tolist() == [0, 1, 2, 3, 4]
    # A word's own vector is of its characters.
    assert np.flatnonzero(differs[..., 0, :].any((0, 2))).tolist() == [4]


@pytest.mark.slow
def test_texts_of_a_row_are_as_each_is_alone_and_padding_is_nothing(case):
    model, params, batch = case
    segments = jnp.array([[1] * 4 + [5] * 6, [2] * 7 + [0] * 3])
    packed = vectors_of(model, params, batch | {"encoder_segment_ids": segments})["layers"]
    characters = batch["encoder_characters"]
    for row, start, stop in ((0, 0, 4), (0, 4, 10), (1, 0, 7)):
        # Alone in a row of the same length, so that one program does for all.
        length = stop - start
        text = characters[row, start:stop]
        one = batch | {
            "encoder_characters": jnp.zeros_like(characters).at[0, :length].set(text),
            "encoder_segment_ids": jnp.zeros((2, 10), int).at[0, :length].set(1),
        }
        expected = vectors_of(model, params, one)["layers"][0]
        np.testing.assert_allclose(packed[row, start:stop], expected[:length], atol=1e-6)


@pytest.mark.slow
def test_the_loss_is_the_sum_of_both_directions(case):
    model, params, batch = case
    # Three words and two; at a text's ends there is no word to tell.
    segments = jnp.array([[1, 1, 1, 2, 2, 0, 0, 0, 0, 0], [0] * 10])
    weights = jnp.array([[0, 1, 1, 1, 0, 1, 1, 1, 1, 1], [1] * 10])
    batch = batch | {"encoder_segment_ids": segments, "encoder_loss_weights": weights}
    assert {k: float(v) for k, v in model.loss_weights(batch).items()} == {
        # Words 1, 2 and not 4; words 1 and 3, and not 0.
        "forward": 2.0,
        "backward": 2.0,
    }
    logits = jax.jit(model.apply)({"params": params}, **batch)
    log_p = np.asarray(jax.nn.log_softmax(logits))
    target = np.asarray(batch["encoder_input_tokens"])[0]
    sums, metrics = jax.jit(model.loss)(params, batch)
    forward = -log_p[0, 0, 0, target[1]] - log_p[0, 0, 1, target[2]]
    backward = -log_p[1, 0, 2, target[1]] - log_p[1, 0, 4, target[3]]
    assert sums["forward"] == pytest.approx(float(forward), rel=1e-5)
    assert sums["backward"] == pytest.approx(float(backward), rel=1e-5)
    assert model.loss_terms == {"forward": 1.0, "backward": 1.0}
    assert metrics["forward"] == (sums["forward"], 2)


# -- The carry -------------------------------------------------------------------------------------


def part(batch, start, stop):
    """Words of every row, whose rows all continue what was before them."""
    rows = batch["encoder_input_tokens"].shape[0]
    words = {name: x[:, start:stop] for name, x in batch.items()}
    return words | {"row_continues": jnp.ones(rows, jnp.int32)}


def close(found, expected, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


def test_a_row_in_halves_has_the_forward_states_of_the_whole(case):
    _, params, batch = case
    model = make(carries=True)
    empty = model.initial_carry(2)
    assert jax.tree.map(jnp.shape, empty) == {
        f"layers_{i}": {"hidden": (2, 6), "cell": (2, 9)} for i in range(2)
    }
    # Word 5 is told by no half from the words before it.
    weights = batch["encoder_loss_weights"].at[:, 5].set(0)
    whole, _, final = loss_and_carry(
        model, params, part(batch | {"encoder_loss_weights": weights}, 0, 10), empty
    )
    halves = part(batch, 0, 5), part(batch, 5, 10)
    first, _, carry = loss_and_carry(model, params, halves[0], empty)
    second, _, ended = loss_and_carry(model, params, halves[1], carry)
    close(ended, final)
    assert first["forward"] + second["forward"] == pytest.approx(float(whole["forward"]), rel=1e-5)
    # Without the state the second half is another text; backward it has none.
    alone, *_ = loss_and_carry(model, params, halves[1], empty)
    assert abs(alone["forward"] - second["forward"]) > 1e-3
    assert alone["backward"] == second["backward"]


@pytest.mark.slow
def test_rows_that_begin_anew_have_a_state_of_zeros_and_padding_keeps_it(case):
    _, params, batch = case
    model = make(carries=True)
    empty = model.initial_carry(2)
    full = jax.tree.map(lambda a: a + 0.5, empty)
    half = part(batch, 0, 5)
    fresh, continued = (loss_and_carry(model, params, half, carry)[2] for carry in (empty, full))
    mixed = loss_and_carry(model, params, half | {"row_continues": jnp.array([0, 1])}, full)[2]
    for row, expected in enumerate((fresh, continued)):
        close(*(jax.tree.map(lambda a, r=row: a[r], tree) for tree in (mixed, expected)))
    assert np.abs(fresh["layers_0"]["hidden"] - continued["layers_0"]["hidden"]).max() > 1e-3
    # Two texts, of which the second has no state; and padding alone.
    segments = jnp.array([[1, 1, 2, 2, 0], [0] * 5])
    padded = loss_and_carry(model, params, half | {"encoder_segment_ids": segments}, full)[2]
    close(jax.tree.map(lambda a: a[1], padded), jax.tree.map(lambda a: a[1], full))
    characters = half["encoder_characters"]
    second = half | {
        "encoder_characters": jnp.roll(characters, -2, axis=1),
        "encoder_segment_ids": jnp.array([[1, 1, 0, 0, 0], [0] * 5]),
    }
    alone = loss_and_carry(model, params, second, empty)[2]
    close(*(jax.tree.map(lambda a: a[0], tree) for tree in (padded, alone)))


@pytest.mark.slow
def test_the_loss_is_that_of_a_state_of_zeros_and_no_gradient_flows_into_the_carry(case):
    _, params, batch = case
    model = make(carries=True)
    half = part(batch, 0, 5)
    made = loss_and_carry(model, params, half, model.initial_carry(2))[:2]
    close(made, jax.jit(model.loss)(params, half), atol=1e-5)
    carry = jax.tree.map(lambda a: a + 0.1, model.initial_carry(2))
    loss = lambda carry: model.loss_and_carry(params, half, carry)[0]["forward"]  # noqa: E731
    assert not any(a.any() for a in jax.tree.leaves(jax.jit(jax.grad(loss))(carry)))


def test_with_a_carry_it_reads_contiguous_rows():
    assert make(carries=True).batch_format == "contiguous_spelled_words"
    assert make().batch_format == "spelled_words"
    assert protocols.carries(make(carries=True)) and not protocols.carries(make())


# -- Heads -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_head_of_tags_reads_the_learned_mix(case):
    """Weights 1/4, 1/2, 1/4 and a scale of 2, as above, and a linear layer."""
    model, params, batch = case
    headed = make(head=Tagging(("O", "B-x", "I-x")))
    own = drawn(headed)
    assert set(params) - set(own) == {"output", "logit_bias"}
    assert set(own) - set(params) == {"mix", "output_head"}
    own = {name: params.get(name, value) for name, value in own.items()}
    own["mix"] = {"scores": jnp.array([0, np.log(2), 0]), "scale": jnp.float32(2)}
    found = vectors_of(headed, own, batch)
    layers = np.asarray(vectors_of(model, params, batch)["layers"])
    mixed = np.einsum("btle,l->bte", layers, (0.5, 1.0, 0.5))
    np.testing.assert_allclose(found["hidden_states"], mixed, atol=1e-5)
    layer = own["output_head"]["output"]
    tags = (mixed @ layer["kernel"] + layer["bias"]).argmax(-1)
    np.testing.assert_array_equal(found["tags"], tags)
    assert headed.batch_format == "spelled_token_classification"
    fresh = jax.jit(headed.init)(jax.random.key(0))["params"]["mix"]
    assert fresh["scores"].tolist() == [0, 0, 0] and fresh["scale"] == 1


@pytest.mark.slow
def test_a_head_of_rows_reads_the_mean_of_a_text(case):
    _, _, batch = case
    model = make(head=Classification(("no", "yes")), task_dim=5)
    params = drawn(model)
    segments = jnp.ones((2, 10), int).at[0, 7:].set(0)
    batch = batch | {"encoder_segment_ids": segments, "label": jnp.array([1, 0])}
    batch |= {"label_weight": jnp.ones(2, int)}
    found = vectors_of(model, params, batch)
    assert found["hidden_states"].shape == (2, 10, 10)
    np.testing.assert_allclose(found["pooled"][0], found["hidden_states"][0, :7].mean(0), atol=1e-6)
    sums, metrics = jax.jit(model.loss)(params, batch)
    by_hand = -np.log(np.asarray(found["probabilities"])[[0, 1], [1, 0]]).sum()
    assert sums["loss"] == pytest.approx(by_hand, rel=1e-5)
    assert metrics["loss"] == (sums["loss"], 2) and model.loss_weights(batch)["loss"] == 2


# -- Layers ----------------------------------------------------------------------------------------


def test_a_words_vector_follows_the_papers_equations():
    """Kim et al. 2016, equations 5 and 6, and 8 of highway layers, character by character."""
    layer = CharacterCNN(9, 2, (3, 4), 1, 5)
    rng = np.random.default_rng(0)
    words = rng.integers(0, 9, (1, 2, 6))
    shapes = jax.eval_shape(layer.init, jax.random.key(0), words)
    params = jax.tree.map(lambda x: 0.7 * rng.standard_normal(x.shape), nn.unbox(shapes))
    found = layer.apply(params, words)
    p = params["params"]
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    for word, vector in zip(words[0], np.asarray(found)[0], strict=True):
        x = p["embedder"]["embedding"][word]
        read = []
        for width in (1, 2):
            kernel = p[f"filter_{width}"]
            along = [
                np.tensordot(x[i : i + width], kernel, ((0, 1), (0, 1))) + p[f"filter_{width}_bias"]
                for i in range(6 - width + 1)
            ]
            read.append(np.maximum(np.max(along, axis=0), 0))
        y = np.concatenate(read)
        highway = p["highway_0"]
        gate = sigmoid(y @ highway["gate"]["kernel"] + highway["gate_bias"])
        new = np.maximum(y @ highway["transform"]["kernel"] + highway["transform"]["bias"], 0)
        y = gate * new + (1 - gate) * y
        expected = y @ p["projection"]["kernel"] + p["projection"]["bias"]
        np.testing.assert_allclose(vector, expected, atol=1e-5)


@pytest.mark.interop
def test_projected_lstms_and_their_gradients_are_pytorchs():
    torch = pytest.importorskip("torch")
    rows, length, inputs, units, projected = 3, 7, 5, 6, 4
    cell = ProjectedLSTM(projected, cell_clip=None, projection_clip=None)
    layer = RecurrentLayer(cell, units, uniform(0.8))
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((rows, length, inputs)), jnp.float32)
    state = cell.initial_state(rows, units)
    params = nn.unbox(layer.init(jax.random.key(0), x, state))["params"]
    theirs = torch.nn.LSTM(inputs, units, proj_size=projected, batch_first=True)
    tensor = lambda a: torch.tensor(np.asarray(a))  # noqa: E731
    stacked = lambda a: tensor(a).flatten(1).T  # noqa: E731
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(stacked(params["kernel"]))
        theirs.weight_hh_l0.copy_(stacked(params["recurrent_kernel"]))
        theirs.weight_hr_l0.copy_(tensor(params["projection"]).T)
        theirs.bias_ih_l0.copy_(tensor(params["bias"]).flatten())
        theirs.bias_hh_l0.zero_()
    hidden, (last_hidden, last_cell) = theirs(tensor(x))
    (hidden**2).sum().backward()

    def loss(params):
        hidden, last = layer.apply({"params": params}, x, state)
        return (hidden**2).sum(), (hidden, last)

    gradients, (found, last) = jax.jit(jax.grad(loss, has_aux=True))(params)
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    close(found, hidden.detach())
    close(last["hidden"], last_hidden[0].detach())
    close(last["cell"], last_cell[0].detach())
    close(stacked(gradients["kernel"]), theirs.weight_ih_l0.grad)
    close(stacked(gradients["recurrent_kernel"]), theirs.weight_hh_l0.grad)
    close(tensor(gradients["projection"]).T, theirs.weight_hr_l0.grad)
    close(tensor(gradients["bias"]).flatten(), theirs.bias_ih_l0.grad)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"filters": ()}, "1 to 50 numbers"),
        ({"filters": (0, 0)}, "1 to 50 numbers"),
        ({"filters": (3, -1)}, "1 to 50 numbers"),
        ({"cell_clip": 0.0}, "above 0, or None"),
        ({"projection_clip": -1.0}, "above 0, or None"),
        ({"mix_scores": (1.0, 2.0)}, "3 numbers are needed"),
        ({"task_dim": 4}, "no head"),
        ({"head": MultipleChoice()}, "Tagging, Classification or Regression"),
        ({"head": Tagging(("O", "B-x")), "carries": True}, "carries is True"),
    ],
)
def test_what_cannot_be_built_is_refused(options, said):
    with pytest.raises(ModelError, match=said):
        make(**options)
