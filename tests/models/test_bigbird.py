"""What is BigBird's own: sparse attention in an encoder, its random blocks, its global tokens."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.memory import bigbird_steps
from models.bigbird import BigBird
from models.errors import ModelError
from models.layers.attention.window_patterns import random_blocks
from tests.models.families import drawn
from tests.models.reference_decoders import affine, gelu, layer_norm, layers

V, H = 61, 3
SIZES = dict(
    vocab_size=V, embed_dim=24, mlp_dim=40, num_heads=H, num_layers=2, max_length=64, block_size=2,
    num_random_blocks=1,
)  # fmt: skip
ITC = BigBird(**SIZES)
ETC = BigBird(**SIZES | {"num_random_blocks": 0, "num_global_tokens": 3})
RELATIVE = ETC.clone(max_distance=2)
LENGTH = 19


def tokens(length=LENGTH, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(1, V, (1, length)))


@functools.partial(jax.jit, static_argnums=0)
def hidden(model, params, batch, key=None):
    rngs = {} if key is None else {"dropout": key}
    return model.apply(
        {"params": params}, **batch, enable_dropout=key is not None, rngs=rngs,
        method="hidden_states",
    )  # fmt: skip


def reference(model, params, row, seen):
    """Plain NumPy, float64: BERT's layers, with how often each query lists each key.

    Args:
      model: sizes.
      params: float64.
      row: tokens, `[n]`.
      seen: for each layer `[heads, n, n]`, global tokens first.
    """
    x = params["token_embedder"]["embedding"][row]
    x = x + params["token_type_embedder"]["embedding"][0]
    if model.max_distance is None:
        x = x + params["position_embedder"]["embedding"][: len(row)]
    if model.num_global_tokens:
        x = np.concatenate([params["global_embedder"]["embedding"], x])
    epsilon = model.norm_epsilon
    x = layer_norm(x, params["embedding_norm"], epsilon)
    for layer, counts in zip(layers(params["encoder"]["layers"]), seen, strict=True):
        part = layer["self_attention"]
        q, k, v = (
            affine(part[name], x).reshape(len(x), H, -1) for name in ("query", "key", "value")
        )
        scores = np.einsum("thd,shd->hts", q, k) / math.sqrt(q.shape[-1])
        if model.max_distance is not None:
            of_keys = part["labels"][stands(model, len(x))]
            scores += np.einsum("thd,tshd->hts", q, of_keys) / math.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True)) * counts
        weights /= weights.sum(axis=-1, keepdims=True)
        y = np.einsum("hts,shd->thd", weights, v).reshape(len(x), -1)
        x = layer_norm(x + affine(part["out"], y), layer["self_attention_norm"], epsilon)
        y = affine(layer["mlp"]["wo"], gelu(affine(layer["mlp"]["wi"], x)))
        x = layer_norm(x + y, layer["mlp_norm"], epsilon)
    return x[model.num_global_tokens :]


def stands(model, length):
    """The label of each pair: a distance of -2 to 2, or global query and text, or text and global.

    Shaw et al. 2018, equation 4: q (k + a).
    """
    labels = np.zeros((length, length), int)
    for t in range(length):
        for s in range(length):
            of_query, of_key = t < model.num_global_tokens, s < model.num_global_tokens
            distance = max(-2, min(2, s - t)) + 2
            labels[t, s] = distance if of_query == of_key else (5 if of_query else 6)
    return labels


def of_blocks(layer, drawn=True):
    """How often tokens of a row of 20, ten blocks of two, list each other."""
    table = random_blocks(layer, H, 20, 2, 1, 64)
    counts = np.zeros((H, 10, 10))
    for i in range(10):
        for j in range(10):
            counts[:, i, j] = i in (0, 9) or j in (0, 9) or abs(i - j) <= 1
        if 0 < i < 9:
            for head in range(H):
                counts[head, i, table[head, i - 1, 0] if drawn else 0] += 1
    return counts.repeat(2, axis=1).repeat(2, axis=2)[:, :LENGTH, :LENGTH]


def of_globals():
    place = np.arange(LENGTH) // 2
    counts = np.ones((H, LENGTH + 3, LENGTH + 3))
    counts[:, 3:, 3:] = abs(place[:, None] - place[None, :]) <= 1
    return counts


@pytest.mark.parametrize(
    ("model", "seen"),
    [
        pytest.param(ITC, [of_blocks(0), of_blocks(1)], id="ITC"),
        pytest.param(
            ITC.clone(random_in_evaluation=False),
            [of_blocks(0, drawn=False)] * 2,
            id="ITC, nothing drawn",
        ),
        pytest.param(ETC, [of_globals()] * 2, id="ETC"),
        pytest.param(RELATIVE, [of_globals()] * 2, id="ETC, relative"),
    ],
)
def test_hidden_states_are_those_of_the_definition(model, seen):
    """A row of 19 tokens, which fills nine blocks of two and a half."""
    params = drawn(model)
    row = tokens()
    doubles = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    expected = reference(model, doubles, np.asarray(row[0]), seen)
    found = hidden(model, params, {"encoder_input_tokens": row})[0]
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_short_rows_are_read_by_full_attention():
    """Up to seven blocks, as in the released code."""
    params, full = drawn(ITC), ITC.clone(attention_type="original_full")
    for length, same in ((14, True), (15, False)):
        batch = {"encoder_input_tokens": tokens(length)}
        difference = np.abs(hidden(ITC, params, batch) - hidden(full, params, batch)).max()
        assert (difference < 1e-5) == same


@pytest.mark.parametrize("model", [ITC, ETC, RELATIVE], ids=["ITC", "ETC", "ETC, relative"])
def test_padding_and_other_texts_change_nothing(model):
    params = drawn(model)
    row, segments = tokens(30), jnp.asarray([[1] * 21 + [0] * 9])
    batch = {"encoder_input_tokens": row, "encoder_segment_ids": segments}
    other = jnp.where(segments == 1, row, 7)
    found = hidden(model, params, batch)
    again = hidden(model, params, batch | {"encoder_input_tokens": other})
    np.testing.assert_array_equal(found[:, :21], again[:, :21])
    packed = batch | {"encoder_segment_ids": jnp.where(segments == 1, 1, 2)}
    np.testing.assert_allclose(found[:, :21], hidden(model, params, packed)[:, :21], atol=1e-5)


def test_training_draws_blocks_whatever_evaluation_does():
    """With a rate so small that nothing is dropped."""
    model = ITC.clone(dropout_rate=1e-7)
    still = model.clone(random_in_evaluation=False)
    params, batch = drawn(ITC), {"encoder_input_tokens": tokens()}
    training = [hidden(m, params, batch, jax.random.key(0)) for m in (model, still)]
    np.testing.assert_array_equal(*training)
    np.testing.assert_allclose(training[0], hidden(model, params, batch), atol=1e-5)
    assert np.abs(training[1] - hidden(still, params, batch)).max() > 1e-3


def test_the_embeddings_norm_comes_after_dropout():
    """A norm that gives its bias alone gives it whatever was dropped before."""
    model = ITC.clone(dropout_rate=0.5, num_layers=1)
    params = jax.jit(model.init)(jax.random.key(0))["params"]
    bias = jnp.arange(24.0)
    params["embedding_norm"] = {"scale": jnp.zeros(24), "bias": bias}
    # Layers that add nothing.
    for part in ("out", "wo"):
        branch = "self_attention" if part == "out" else "mlp"
        kernel = params["encoder"]["layers"][branch][part]["kernel"]
        params["encoder"]["layers"][branch][part]["kernel"] = jnp.zeros_like(kernel)
    found = hidden(model, params, {"encoder_input_tokens": tokens()}, jax.random.key(1))
    normed = jnp.broadcast_to((bias - bias.mean()) / bias.std(), found.shape)
    np.testing.assert_allclose(found, normed, atol=1e-5)


def test_a_far_token_is_reached_through_the_global_ones():
    """One layer reaches the neighbouring blocks alone, two layers all."""
    one, two = (ETC.clone(num_layers=n) for n in (1, 2))
    row = tokens()
    changed = row.at[0, 15].set(3)

    def moved(model):
        params = drawn(model)
        found = [hidden(model, params, {"encoder_input_tokens": x})[0] for x in (row, changed)]
        return np.abs(found[0] - found[1]).max(axis=-1) > 1e-6

    assert np.flatnonzero(moved(one)).tolist() == [12, 13, 14, 15, 16, 17]
    assert moved(two).all()


@pytest.mark.slow
def test_gradients_reach_the_global_tokens_and_the_labels():
    params = drawn(RELATIVE)
    batch = {"encoder_input_tokens": tokens()}
    gradient = jax.jit(jax.grad(lambda p: (hidden(RELATIVE, p, batch) ** 3).sum()))(params)
    assert (np.abs(gradient["global_embedder"]["embedding"]) > 0).all()
    # Of the last layer no global query is read.
    first, _ = layers(gradient["encoder"]["layers"])
    assert (np.abs(first["self_attention"]["labels"]) > 0).all()


def test_attention_weights_can_be_looked_at():
    look = jax.jit(ITC.attention_weights)
    weights = look(drawn(ITC), {"encoder_input_tokens": tokens()})["encoder"]
    assert weights.shape == (2, 1, H, LENGTH, LENGTH)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    for layer in range(2):
        np.testing.assert_array_equal(weights[layer, 0] > 0, of_blocks(layer) > 0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"attention_type": "sliding"}, "it must be block_sparse or original_full"),
        ({"num_global_tokens": 4}, "num_random_blocks is 1: with num_global_tokens"),
        (
            {"num_global_tokens": 4, "num_random_blocks": 0, "attention_type": "original_full"},
            "num_global_tokens is 4: original_full attention has none",
        ),
        ({"block_size": 0}, "block_size is 0"),
        ({"max_distance": 12}, "max_distance is 12: only with num_global_tokens"),
    ],
)
def test_what_it_cannot_be_built_with_is_said_in_one_line(fields, said):
    with pytest.raises(ModelError, match=said):
        BigBird(**SIZES | fields)


@pytest.mark.slow
def test_a_compiled_step_needs_memory_in_proportion_to_its_row():
    """Four times the row, four times the temporaries or less, where all pairs would take 16."""
    fields = SIZES | {"block_size": 16, "num_random_blocks": 3}
    del fields["max_length"]
    short, long = (
        step["temporary_bytes"] for step in bigbird_steps((512, 2048), **fields).values()
    )
    assert long < 4.2 * short
