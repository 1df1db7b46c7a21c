"""Recurrent language models: dropout, initial values, the carry, and PyTorch's logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.errors import ModelError
from models.layers.dropout import Dropout
from models.layers.linear import uniform
from models.layers.recurrent.cells import GRU, LSTM, RNN, SigmoidRNN
from models.layers.recurrent.stack import RecurrentLayer
from models.recurrent import RecurrentLM
from t5x_like import protocols

V, E, F = 61, 24, 32
small = functools.partial(RecurrentLM, vocab_size=V, embed_dim=E, hidden_dim=F, init_scale=0.4)


def initial(model):
    return jax.jit(model.init)(jax.random.key(0))["params"]


@functools.partial(jax.jit, static_argnums=0)
def states_of(model, params, tokens):
    return model.apply({"params": params}, decoder_input_tokens=tokens, method="hidden_states")


def rows_of(length, rows=2, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda: jnp.asarray(rng.integers(1, V, (rows, length)))  # noqa: E731
    return {"decoder_input_tokens": draw(), "decoder_target_tokens": draw()}


def part(batch, start, end):
    return {name: a[:, start:end] for name, a in batch.items()}


@functools.partial(jax.jit, static_argnums=0)
def loss_and_carry(model, params, batch, carry, rng=None):
    return model.loss_and_carry(params, batch, carry, rng)


# -- Counts and initial values ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "layer"),
    [
        # i inputs and h units: g h (i + h) and a bias for each unit and gate.
        (RNN(), F * (E + F) + F),
        (SigmoidRNN(), F * (E + F) + F),
        (LSTM(), 4 * F * (E + F) + 4 * F),
        (GRU(reset_after=False), 3 * F * (E + F) + 3 * F),
        # The candidate has a second bias, inside what the reset gate multiplies.
        (GRU(), 3 * F * (E + F) + 4 * F),
    ],
)
def test_parameters_of_a_layer_by_hand(cell, layer):
    model = small(cell=cell, num_layers=1)
    assert model.parameter_count() == V * E + layer + F * V + V
    assert model.parameter_count(embeddings=False) == layer
    assert small(cell=cell, num_layers=1, use_output_bias=False).parameter_count() == (
        model.parameter_count() - V
    )
    tied = small(cell=cell, num_layers=1, hidden_dim=None, tied_output=True)
    untied = small(cell=cell, num_layers=1, hidden_dim=None)
    assert untied.parameter_count() - tied.parameter_count() == V * E


def test_all_parameters_are_drawn_evenly_between_plus_and_minus_the_scale():
    """Zaremba et al. 2014, section 4.1."""
    model = RecurrentLM(vocab_size=300, embed_dim=100, init_scale=0.05)
    for a in jax.tree.leaves(initial(model)):
        assert np.abs(a).max() <= 0.05
        assert np.abs(a).max() > 0.05 * 0.97
        assert np.std(a) == pytest.approx(0.05 / 3**0.5, rel=0.1)


# -- Dropout ---------------------------------------------------------------------------------------


def test_dropout_is_on_what_enters_a_layer_and_the_output_and_never_on_the_state():
    """Zaremba et al. 2014, section 3.1: the corrupted flow is that between layers."""
    model = small(num_layers=1, dropout_rate=0.5)
    params = initial(model)
    tokens = rows_of(40)["decoder_input_tokens"]

    # A layer that does not see its input: nothing but the output is dropped.
    blind = jax.tree.map(lambda a: a, params)
    blind["decoder"]["layers_0"]["kernel"] *= 0
    clean, noisy = (run(model, blind, tokens) for run in (states_of, dropped_states))
    kept = noisy != 0
    np.testing.assert_allclose(noisy[kept], 2 * clean[kept], rtol=1e-6)
    assert kept.mean() == pytest.approx(0.5, abs=0.05)

    # With the input seen, what is kept differs: that was dropped too.
    clean, noisy = (run(model, params, tokens) for run in (states_of, dropped_states))
    kept = noisy != 0
    assert np.abs(noisy[kept] - 2 * clean[kept]).mean() > 0.01


@functools.partial(jax.jit, static_argnums=0)
def dropped_states(model, params, tokens):
    return model.apply(
        {"params": params},
        decoder_input_tokens=tokens,
        enable_dropout=True,
        rngs={"dropout": jax.random.key(1)},
        method="hidden_states",
    )


def test_variational_dropout_drops_the_same_units_at_all_tokens_of_a_row():
    """Gal and Ghahramani 2016: a mask for each row."""
    model = small(num_layers=1, dropout_rate=0.5, input_dropout_rate=0.0, variational_dropout=True)
    params = initial(model)
    tokens = rows_of(12)["decoder_input_tokens"]
    kept = np.asarray(dropped_states(model, params, tokens) != 0)
    assert (kept == kept[:, :1]).all()
    assert (kept[0] != kept[1]).any() and 0 < kept.mean() < 1
    clean = states_of(model, params, tokens)
    noisy = dropped_states(model, params, tokens)
    np.testing.assert_allclose(noisy[kept], 2 * clean[kept], rtol=1e-5)
    each = small(num_layers=1, dropout_rate=0.5, input_dropout_rate=0.0)
    kept = np.asarray(dropped_states(each, params, tokens) != 0)
    assert (kept != kept[:, :1]).any()


@pytest.mark.slow
def test_inputs_and_what_goes_between_layers_have_rates_of_their_own():
    """A layer whose input is dropped nearly whole reads its bias alone."""
    tokens = rows_of(3)["decoder_input_tokens"]
    rates = {"dropout_rate": 0.0, "input_dropout_rate": 0.0, "between_dropout_rate": 0.0}
    params = initial(small())
    plain = dropped_states(small(**rates), params, tokens)
    for name, blind in (("input_dropout_rate", "layers_0"), ("between_dropout_rate", "layers_1")):
        noisy = dropped_states(small(**(rates | {name: 0.9999})), params, tokens)
        without = jax.tree.map(lambda a: a, params)
        without["decoder"][blind]["kernel"] *= 0
        np.testing.assert_allclose(
            noisy, dropped_states(small(**rates), without, tokens), atol=1e-6
        )
        assert np.abs(noisy - plain).max() > 1e-3


def test_embedding_dropout_drops_words_wherever_they_are_and_not_the_output():
    """Merity et al. 2018, section 4.3: a word's vector is zeros, or 1 / (1 - p) as large."""
    options = {"num_layers": 1, "hidden_dim": None, "tied_output": True}
    model = small(**options, embedding_dropout_rate=0.5)
    params = initial(model)
    tokens = jnp.tile(jnp.arange(1, 21), 2)[:, None]  # each word in two rows

    def with_vectors(factor):
        table = {"embedding": params["token_embedder"]["embedding"] * factor}
        return dropped_states(small(**options), params | {"token_embedder": table}, tokens)

    noisy = dropped_states(model, params, tokens)
    np.testing.assert_array_equal(noisy[:20], noisy[20:])
    dropped = np.abs(noisy - with_vectors(0)).max((1, 2)) < 1e-6
    assert 3 < dropped[:20].sum() < 17
    np.testing.assert_allclose(noisy[~dropped], with_vectors(2)[~dropped], atol=1e-6)
    np.testing.assert_array_equal(
        model.apply({"params": params}, method="output_kernel"),
        params["token_embedder"]["embedding"].T,
    )


def test_recurrent_dropout_drops_entries_of_the_matrices_once_for_all_rows_and_tokens():
    """Merity et al. 2018, section 2. A small state of one unit a row shows a row of the matrix."""
    layer = RecurrentLayer(RNN(), F, uniform(0.4), weight_dropout=Dropout(0.5))
    x, state = jnp.zeros((F, 2, 1)), {"hidden": 0.01 * jnp.eye(F)}
    params = nn.unbox(layer.init(jax.random.key(0), x, state))["params"]
    params["bias"] *= 0
    key = jax.random.key(1)
    h, _ = jax.jit(layer.apply)({"params": params}, x, state, None, key)
    matrix = params["recurrent_kernel"][:, 0]
    kept = np.asarray(h[:, 0] != 0)
    assert kept.mean() == pytest.approx(0.5, abs=0.06)
    used = np.where(kept, 2 * matrix, 0)
    np.testing.assert_allclose(h[:, 0], np.tanh(0.01 * used), atol=1e-7)
    np.testing.assert_allclose(h[:, 1], np.tanh(h[:, 0] @ used), atol=1e-6)

    def loss(params):
        return layer.apply({"params": params}, x, state, None, key)[0].sum()

    gradient = jax.jit(jax.grad(loss))(params)["recurrent_kernel"][:, 0]
    np.testing.assert_array_equal(gradient != 0, kept)


def test_a_models_recurrent_matrices_are_dropped_in_training_alone():
    model = small(recurrent_dropout_rate=0.5)
    params = initial(model)
    tokens = rows_of(4)["decoder_input_tokens"]
    plain = dropped_states(small(), params, tokens)
    np.testing.assert_array_equal(states_of(model, params, tokens), plain)
    noisy = dropped_states(model, params, tokens)
    np.testing.assert_allclose(noisy, dropped_states(model, params, tokens))
    assert np.abs(noisy - plain).max() > 1e-3


@pytest.mark.slow
def test_penalties_are_of_what_comes_out_and_of_its_change_in_training_alone():
    """Merity et al. 2018, section 4.6, over two texts of three and two tokens, and padding."""
    model = small(num_layers=1, dropout_rate=0.5, input_dropout_rate=0.0)
    params, key = initial(model), jax.random.key(1)
    batch = rows_of(6, rows=1) | {
        "decoder_segment_ids": jnp.array([[1, 1, 1, 2, 2, 0]]),
        "decoder_loss_weights": jnp.array([[1, 1, 1, 1, 1, 0]]),
    }
    seen = {name: batch[name] for name in ("decoder_input_tokens", "decoder_segment_ids")}
    states = functools.partial(model.apply, {"params": params}, **seen, method="hidden_states")
    raw = np.asarray(states())[0]
    dropped = np.asarray(states(enable_dropout=True, rngs={"dropout": key}))[0]
    activation = np.square(dropped[:5]).mean()
    change = np.square(raw[1:] - raw[:-1])[[0, 1, 3]].mean()  # within each text
    penalized = model.clone(activation_penalty=2.0, temporal_penalty=3.0)
    plain, _ = model.loss(params, batch, key)
    loss, metrics = penalized.loss(params, batch, key)
    assert metrics["activation_penalty"][0] / 5 == pytest.approx(2 * activation, rel=1e-5)
    assert metrics["temporal_penalty"][0] / 5 == pytest.approx(3 * change, rel=1e-5)
    added = 5 * (2 * activation + 3 * change)
    assert loss["loss"] == pytest.approx(float(plain["loss"]) + added, rel=1e-5)
    carried = penalized.loss_and_carry(params, batch, model.initial_carry(1), key)[0]
    assert carried["loss"] == pytest.approx(float(loss["loss"]), rel=1e-6)
    assert penalized.loss(params, batch)[0] == model.loss(params, batch)[0]
    # Rows of one text each, padded: as of the same text with its segment.
    one = {name: batch[name] for name in ("decoder_input_tokens", "decoder_target_tokens")}
    weights = {"decoder_loss_weights": jnp.array([[0, 1, 1, 1, 0, 0]])}
    segments = {"decoder_segment_ids": jnp.array([[1, 1, 1, 1, 0, 0]])}
    _, unpacked = penalized.loss(params, one | weights, key)
    _, packed = penalized.loss(params, one | weights | segments, key)
    for name in ("activation_penalty", "temporal_penalty"):
        assert unpacked[name][0] == pytest.approx(float(packed[name][0]), rel=1e-6)
    with pytest.raises(ModelError, match="temporal_penalty is -1"):
        small(temporal_penalty=-1.0)


# -- The carry -------------------------------------------------------------------------------------


def test_a_long_row_in_parts_that_hand_on_their_state_has_the_same_loss():
    model = small()
    params, batch = initial(model), rows_of(12)
    carry = model.initial_carry(2)
    assert all(a.shape == (2, F) and not a.any() for a in jax.tree.leaves(carry))
    whole, metrics, final = loss_and_carry(model, params, batch, carry)
    parts, weight = 0.0, 0.0
    for start in (0, 4, 8):
        loss, counted, carry = loss_and_carry(model, params, part(batch, start, start + 4), carry)
        parts, weight = parts + loss["loss"], weight + counted["loss"][1]
    assert parts == pytest.approx(float(whole["loss"]), rel=1e-6)
    assert weight == metrics["loss"][1] == 24
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), carry, final)
    # Without the state the second part is another text.
    alone, *_ = loss_and_carry(model, params, part(batch, 4, 8), model.initial_carry(2))
    carry = loss_and_carry(model, params, part(batch, 0, 4), model.initial_carry(2))[2]
    joined, *_ = loss_and_carry(model, params, part(batch, 4, 8), carry)
    assert abs(alone["loss"] - joined["loss"]) > 1e-3


@pytest.mark.slow
def test_the_loss_is_that_of_a_state_of_zeros():
    model = small(dropout_rate=0.3)
    params, batch = initial(model), rows_of(6)
    for rng in (None, jax.random.key(3)):
        loss, metrics = jax.jit(model.loss)(params, batch, rng)
        again, counted, _ = loss_and_carry(model, params, batch, model.initial_carry(2), rng)
        assert loss == again
        assert metrics == counted


def test_no_gradient_flows_into_the_state_of_the_batch_before():
    model = small()
    params, batch = initial(model), rows_of(6)
    carry = jax.tree.map(lambda a: a + 0.1, model.initial_carry(2))
    loss = lambda carry: loss_and_carry(model, params, batch, carry)[0]["loss"]  # noqa: E731
    gradient = jax.jit(jax.grad(loss))(carry)
    assert not any(a.any() for a in jax.tree.leaves(gradient))


def test_rows_that_do_not_continue_begin_with_a_state_of_zeros():
    model = small(carries=True)
    params, batch = initial(model), rows_of(6)
    carry = jax.tree.map(lambda a: a + 0.5, model.initial_carry(2))
    batch["row_continues"] = jnp.array([0, 1])
    mixed = loss_and_carry(model, params, batch, carry)[2]
    fresh = loss_and_carry(model, params, batch, model.initial_carry(2))[2]
    batch["row_continues"] = jnp.array([1, 1])
    continued = loss_and_carry(model, params, batch, carry)[2]
    for row, expected in enumerate((fresh, continued)):
        jax.tree.map(lambda a, b, r=row: np.testing.assert_array_equal(a[r], b[r]), mixed, expected)
    assert np.abs(fresh["layers_0"]["hidden"] - continued["layers_0"]["hidden"]).max() > 1e-3


def test_a_model_that_carries_takes_contiguous_rows():
    assert small(carries=True).batch_format == "contiguous_language_model"
    assert small().batch_format == "causal_language_model"
    assert protocols.carries(small(carries=True))
    assert not protocols.carries(small())


def test_the_carry_passes_through_padding():
    """A row that has run out of text hands on the state of its last token."""
    model = small()
    params, batch = initial(model), rows_of(6)
    carry = model.initial_carry(2)
    batch["decoder_segment_ids"] = jnp.array([[1] * 4 + [0] * 2, [0] * 6])
    _, _, final = loss_and_carry(model, params, batch, carry)
    _, _, after_four = loss_and_carry(model, params, part(batch, 0, 4), carry)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), final, after_four)
    assert not any(a[1].any() for a in jax.tree.leaves(final))


# -- The output ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_output_bias_is_added_in_the_loss_in_chunks_of_it_and_in_decoding():
    model = small(use_output_bias=True)
    params, batch = initial(model), rows_of(6)
    bias = params["logit_bias"]["bias"]
    without = small(use_output_bias=False)
    rest = {name: tree for name, tree in params.items() if name != "logit_bias"}
    logits = jax.jit(model.logits)(params, batch)
    np.testing.assert_allclose(logits, jax.jit(without.logits)(rest, batch) + bias, atol=1e-6)

    def gradient(model):
        return jax.jit(jax.value_and_grad(lambda params: model.loss(params, batch)[0]["loss"]))(
            params
        )

    loss, _ = whole = gradient(model)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        whole,
        gradient(model.clone(logit_chunks=3)),
    )
    log_p = jax.nn.log_softmax(logits)
    targets = batch["decoder_target_tokens"][..., None]
    expected = float(-jnp.take_along_axis(log_p, targets, -1).sum())
    assert loss == pytest.approx(expected, rel=1e-6)


def test_a_tied_output_reads_the_embeddings():
    model = small(hidden_dim=None, tied_output=True, use_output_bias=False)
    params, batch = initial(model), rows_of(6)
    x = states_of(model, params, batch["decoder_input_tokens"])
    expected = x @ params["token_embedder"]["embedding"].T
    np.testing.assert_allclose(jax.jit(model.logits)(params, batch), expected, atol=1e-6)


def test_mistakes_are_told_in_one_line():
    with pytest.raises(ModelError, match=r"RecurrentLM.cell is 'lstm'.*cells.LSTM\(\)"):
        small(cell="lstm")
    with pytest.raises(ModelError, match=r"32 units.*embed_dim is 24: set last_dim to 24"):
        small(tied_output=True)
    assert small(tied_output=True, last_dim=E).parameter_count()
    with pytest.raises(ModelError, match=r"recurrent_dropout_rate is 1.0: it must be at least 0"):
        small(recurrent_dropout_rate=1.0)
    with pytest.raises(ModelError, match=r"init_scale is -1.0: it must be above 0"):
        small(init_scale=-1.0)


# -- Against PyTorch -------------------------------------------------------------------------------


@pytest.mark.interop
@pytest.mark.parametrize(
    ("cell", "name"), [(RNN(), "RNN"), (LSTM(), "LSTM"), (GRU(), "GRU")], ids=["rnn", "lstm", "gru"]
)
def test_logits_and_gradients_are_pytorchs(cell, name):
    """Embedding, two layers and output, with the weights copied."""
    torch = pytest.importorskip("torch")
    model = small(cell=cell)
    params, batch = initial(model), rows_of(9)
    embedding = torch.nn.Embedding(V, E)
    layers = getattr(torch.nn, name)(E, F, 2, batch_first=True)
    output = torch.nn.Linear(F, V)
    tensor = lambda a: torch.tensor(np.asarray(a))  # noqa: E731
    stacked = lambda a: tensor(a).flatten(1).T  # noqa: E731
    with torch.no_grad():
        embedding.weight.copy_(tensor(params["token_embedder"]["embedding"]))
        output.weight.copy_(tensor(params["output"]["kernel"]).T)
        output.bias.copy_(tensor(params["logit_bias"]["bias"]))
        for i in range(2):
            ours = params["decoder"][f"layers_{i}"]
            getattr(layers, f"weight_ih_l{i}").copy_(stacked(ours["kernel"]))
            getattr(layers, f"weight_hh_l{i}").copy_(stacked(ours["recurrent_kernel"]))
            getattr(layers, f"bias_ih_l{i}").copy_(tensor(ours["bias"]).flatten())
            second = getattr(layers, f"bias_hh_l{i}").zero_()
            if "recurrent_bias" in ours:
                second[-F:] = tensor(ours["recurrent_bias"]).flatten()
    expected = output(layers(embedding(tensor(batch["decoder_input_tokens"])))[0])
    np.testing.assert_allclose(model.logits(params, batch), expected.detach(), atol=1e-5)

    targets = tensor(batch["decoder_target_tokens"]).long()
    torch.nn.functional.cross_entropy(expected.flatten(0, 1), targets.flatten()).backward()
    loss = lambda params: model.loss(params, batch)[0]["loss"] / targets.numel()  # noqa: E731
    gradients = jax.jit(jax.grad(loss))(params)
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    close(gradients["token_embedder"]["embedding"], embedding.weight.grad)
    close(gradients["output"]["kernel"].T, output.weight.grad)
    close(gradients["logit_bias"]["bias"], output.bias.grad)
    for i in range(2):
        ours = gradients["decoder"][f"layers_{i}"]
        close(stacked(ours["kernel"]), getattr(layers, f"weight_ih_l{i}").grad)
        close(stacked(ours["recurrent_kernel"]), getattr(layers, f"weight_hh_l{i}").grad)
        close(tensor(ours["bias"]).flatten(), getattr(layers, f"bias_ih_l{i}").grad)
        if "recurrent_bias" in ours:
            second = getattr(layers, f"bias_hh_l{i}").grad[-F:]
            close(tensor(ours["recurrent_bias"]).flatten(), second)
