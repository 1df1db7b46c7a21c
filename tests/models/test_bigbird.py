"""What is BigBird's own: sparse attention in an encoder, its random blocks, its global tokens."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.memory import bigbird_steps
from models import heads
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
SENTENCES = ETC.clone(reads_sentences=True)
HARD = SENTENCES.clone(max_distance=2, hard_global_to_long=True, hard_long_to_global=True)
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


def reference(model, params, row, seen, labels=None):
    """Plain NumPy, float64: BERT's layers, with how often each query lists each key.

    Args:
      model: sizes.
      params: float64.
      row: tokens, `[n]`.
      seen: for each layer `[heads, n, n]`, global tokens first.
      labels: of relative positions, `[n, n]`; None are those without sentences.
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
            of_keys = part["labels"][stands(model, len(x)) if labels is None else labels]
            scores += np.einsum("thd,tshd->hts", q, of_keys) / math.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True)) * counts
        # A global token that is of no sentence sees nothing.
        weights /= np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)
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


# [CLS], sentences of 5, 2 and 4 tokens, a separator, one of 3, and a separator: of a row of 19, the
# last two tokens of which pad. The fourth sentence is the last global token's, as the third is.
ONE_TEXT = np.array([0, *[1] * 5, *[2] * 2, *[3] * 4, 0, *[4] * 3, 0, 0, 0])
OF_ONE = np.array([1] * 17 + [0] * 2)
# A text of one sentence behind one of two, as rows of several texts would be.
TWO_TEXTS = np.array([0, *[1] * 5, 0, *[2] * 4, 0, 0, *[3] * 5, 0])
OF_TWO = np.array([1] * 12 + [2] * 7)
# Two sentences alone: the third global token is not there.
FEW = np.array([0, *[1] * 7, *[2] * 10, 0])


def by_hand(model, sentences, texts):
    """Which tokens see which, global ones first, and the label of each pair, pair by pair."""
    g = model.num_global_tokens
    own = [*range(1, g + 1), *(min(x, g) for x in sentences)]
    texts = [0] * g + list(texts)
    for place in range(g, len(own)):
        if own[place]:
            texts[own[place] - 1] = texts[place]
    n = len(own)
    seen, labels = np.zeros((n, n)), np.zeros((n, n), int)
    for t in range(n):
        for s in range(n):
            query, key = t < g, s < g
            allowed = texts[t] == texts[s]
            if query and not key and model.hard_global_to_long:
                allowed &= own[s] in (0, own[t])
            if key and not query and model.hard_long_to_global:
                allowed &= own[t] in (0, own[s])
            if not query and not key:
                allowed &= abs((t - g) // model.block_size - (s - g) // model.block_size) <= 1
            seen[t, s] = allowed
            labels[t, s] = max(-2, min(2, s - t)) + 2
            if query != key:
                labels[t, s] = (5 if query else 6) + 2 * (own[t] == own[s])
    return seen, labels


@pytest.mark.parametrize(
    "model",
    [
        HARD,
        HARD.clone(hard_long_to_global=False),
        pytest.param(HARD.clone(hard_global_to_long=False), marks=pytest.mark.slow),
        pytest.param(SENTENCES, marks=pytest.mark.slow),
    ],
    ids=["hard", "global to long", "long to global", "soft, learned positions"],
)
def test_global_tokens_of_sentences_are_those_of_the_definition(model):
    """Hidden states beside a dense mask that is made by hand (Ainslie et al. 2020, section 3.2)."""
    params = drawn(model)
    doubles = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    for sentences, texts in ((ONE_TEXT, OF_ONE), (TWO_TEXTS, OF_TWO), (FEW, np.ones(LENGTH, int))):
        row = np.asarray(tokens())[0] * (texts > 0)
        seen, labels = by_hand(model, sentences, texts)
        expected = reference(model, doubles, row, [np.tile(seen, (H, 1, 1))] * 2, labels)
        batch = {"encoder_input_tokens": row[None], "encoder_sentence_ids": sentences[None]}
        batch = jax.tree.map(jnp.asarray, batch | {"encoder_segment_ids": texts[None]})
        found = hidden(model, params, batch)[0]
        real = texts > 0
        np.testing.assert_allclose(found[real], expected[real], atol=2e-4)
        if texts.min() == 0:
            # The token that pads says the same.
            del batch["encoder_segment_ids"]
            again = hidden(model, params, batch)[0]
            np.testing.assert_allclose(found[real], again[real], atol=1e-5)


@pytest.mark.parametrize("field", ["hard_global_to_long", "hard_long_to_global", "reads_sentences"])
def test_without_any_of_its_parts_a_hard_mask_gives_something_else(field):
    params = drawn(HARD)
    batch = {"encoder_input_tokens": tokens(), "encoder_sentence_ids": jnp.asarray(ONE_TEXT[None])}
    found = hidden(HARD, params, batch)
    if field == "reads_sentences":
        # Which sentence each token is of: one shorter, the next one longer.
        other = batch | {"encoder_sentence_ids": jnp.asarray(np.roll(ONE_TEXT, 1)[None])}
        again = hidden(HARD, params, other)
    else:
        again = hidden(HARD.clone(**{field: False}), params, batch)
    assert np.abs(found - again).max() > 1e-2


def test_a_sentences_tokens_reach_others_through_its_global_token_alone():
    """With both masks hard: two layers, from the first sentence to no other but by windows."""
    params = drawn(HARD)
    row, ids = tokens(), np.array([*[1] * 8, *[2] * 8, *[3] * 3])
    batch = {"encoder_input_tokens": row, "encoder_sentence_ids": jnp.asarray(ids[None])}
    changed = batch | {"encoder_input_tokens": row.at[0, 0].set(3)}
    moved = np.abs(hidden(HARD, params, batch) - hidden(HARD, params, changed)).max(axis=-1)[0]
    # Windows of neighbouring blocks of two reach token 3 in a layer, 5 in two; of the rest of the
    # sentence the global token tells.
    assert np.flatnonzero(moved > 1e-6).tolist() == [*range(8)]
    soft = HARD.clone(hard_long_to_global=False, hard_global_to_long=False)
    moved = np.abs(hidden(soft, params, batch) - hidden(soft, params, changed)).max(axis=-1)[0]
    assert (moved > 1e-6).all()


@pytest.mark.slow
def test_gradients_reach_the_global_tokens_of_sentences_alone():
    params = drawn(HARD)
    batch = {"encoder_input_tokens": tokens(), "encoder_sentence_ids": jnp.asarray(FEW[None])}
    gradient = jax.jit(jax.grad(lambda p: (hidden(HARD, p, batch) ** 3).sum()))(params)
    of_globals = np.abs(gradient["global_embedder"]["embedding"]).max(axis=-1)
    assert (of_globals > 0).tolist() == [True, True, False]
    first, _ = layers(gradient["encoder"]["layers"])
    assert (np.abs(first["self_attention"]["labels"]) > 0).all()


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


@pytest.mark.slow
def test_training_draws_blocks_whatever_evaluation_does():
    """With a rate so small that nothing is dropped."""
    model = ITC.clone(dropout_rate=1e-7)
    still = model.clone(random_in_evaluation=False)
    params, batch = drawn(ITC), {"encoder_input_tokens": tokens()}
    training = [hidden(m, params, batch, jax.random.key(0)) for m in (model, still)]
    np.testing.assert_array_equal(*training)
    np.testing.assert_allclose(training[0], hidden(model, params, batch), atol=1e-5)
    assert np.abs(training[1] - hidden(still, params, batch)).max() > 1e-3


@pytest.mark.slow
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


def test_attention_of_texts_leaves_global_tokens_out():
    """Places are those of the text's tokens, which a person is shown beside them."""
    look = jax.jit(ETC.attention_weights)
    weights = look(drawn(ETC), {"encoder_input_tokens": tokens()})["encoder"]
    assert weights.shape == (2, 1, H, LENGTH, LENGTH)
    np.testing.assert_array_equal(weights[0, 0] > 0, of_globals()[:, 3:, 3:] > 0)
    assert (weights.sum(-1) < 1).all()


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
        ({"reads_sentences": True}, "reads_sentences is True: only with num_global_tokens"),
        (
            {"num_global_tokens": 4, "num_random_blocks": 0, "hard_long_to_global": True},
            "hard_long_to_global is True: it needs sentences, reads_sentences = True",
        ),
        (
            {
                "num_global_tokens": 4,
                "num_random_blocks": 0,
                "reads_sentences": True,
                "head": heads.MultipleChoice(),
            },
            "reads_sentences is True: the head's rows do not say their sentences",
        ),
    ],
)
def test_what_it_cannot_be_built_with_is_said_in_one_line(fields, said):
    with pytest.raises(ModelError, match=said):
        BigBird(**SIZES | fields)


def test_a_batch_without_sentences_is_refused_by_name():
    with pytest.raises(ModelError, match="reads encoder_sentence_ids: is"):
        HARD.apply({"params": {}}, encoder_input_tokens=tokens())


@pytest.mark.slow
@pytest.mark.parametrize(
    "own",
    [
        {"num_random_blocks": 3},
        {"num_random_blocks": 0, "num_global_tokens": 16, "max_distance": 4,
         "reads_sentences": True, "hard_global_to_long": True, "hard_long_to_global": True},
    ],
    ids=["ITC", "ETC with hard masks"],
)  # fmt: skip
def test_a_compiled_step_needs_memory_in_proportion_to_its_row(own):
    """Four times the row, four times the temporaries or less, where all pairs would take 16."""
    fields = SIZES | {"block_size": 16} | own
    del fields["max_length"]
    short, long = (
        step["temporary_bytes"] for step in bigbird_steps((512, 2048), **fields).values()
    )
    assert long < 4.2 * short
