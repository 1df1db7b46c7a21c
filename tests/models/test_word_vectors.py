"""word2vec and GloVe: losses and gradients by hand, and pair by pair."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.errors import ModelError
from models.glove import GloVe
from models.word_vectors import CBOW, SkipGram
from t5x_like import protocols
from t5x_like.data import formats
from t5x_like.data.formats import LONGEST_PATH

V, E = 11, 4


def tables(inputs, outputs):
    return {
        "token_embedder": {"embedding": np.asarray(inputs, np.float32)},
        "output_embedder": {"embedding": np.asarray(outputs, np.float32)},
    }


def row(tokens, windows, *, segments=None, noise=None, paths=None):
    """A batch of one row."""
    batch = {
        "encoder_input_tokens": np.array([tokens]),
        "encoder_segment_ids": np.array([segments or [1] * len(tokens)]),
        "word_windows": np.array([windows]),
    }
    if noise is not None:
        batch["noise_tokens"] = np.array([noise])
    if paths is not None:
        nodes, signs = np.zeros((2, 1, len(tokens), LONGEST_PATH), int)
        for place, path in paths.items():
            for i, (node, sign) in enumerate(path):
                nodes[0, place, i], signs[0, place, i] = node, sign
        batch |= {"path_nodes": nodes, "path_signs": signs}
    return batch


@functools.partial(jax.jit, static_argnums=0)
def measured(model, params, batch):
    """The summed loss, its weight, and the gradient of their quotient."""

    def mean(params):
        sums, metrics = model.loss(params, batch)
        weight = model.loss_weights(batch)["loss"]
        assert metrics.keys() == {"loss"}
        return sums["loss"] / weight, (sums["loss"], weight)

    gradient, (total, weight) = jax.grad(mean, has_aux=True)(params)
    return total, weight, gradient


def mean_loss(model, params, batch):
    total, weight, _ = measured(model, params, batch)
    return total / weight


# The context's word is 1, the word 2, the noise 3.
INPUTS = [(0, 0), (1, 0), (7, 7), (7, 7)]
OUTPUTS = [(0, 0), (7, 7), (0.5, 0.5), (-1, 0.5)]
PAIR = dict(vocab_size=4, embed_dim=2, window=1, negatives=1)


@pytest.mark.parametrize("cls", [SkipGram, CBOW])
def test_a_pair_and_one_word_of_noise(cls):
    # -log s(0.5) - log s(1) = 0.474077 + 0.313262, and (s(0.5) - 1) v, s(-1) v and so on.
    model, params = cls(**PAIR), tables(INPUTS, OUTPUTS)
    batch = row([1, 2], [0, 1], noise=[3, 0])
    loss, weight, gradient = measured(model, params, batch)
    assert weight == 1 and loss == pytest.approx(0.787339, abs=2e-6)
    of_inputs = gradient["token_embedder"]["embedding"]
    of_outputs = gradient["output_embedder"]["embedding"]
    np.testing.assert_allclose(of_inputs[1], (-0.457712, -0.054300), atol=2e-6)
    np.testing.assert_allclose(of_outputs[2], (-0.377541, 0), atol=2e-6)
    np.testing.assert_allclose(of_outputs[3], (0.268941, 0), atol=2e-6)
    assert not of_inputs[2:].any() and not of_outputs[:2].any()


@pytest.mark.parametrize("cls", [SkipGram, CBOW])
def test_a_path_of_two_nodes(cls):
    # The same numbers: p = s(0.5) s(1) = 0.455054.
    model = cls(**PAIR, output="hierarchical_softmax")
    params = tables(INPUTS, [(0.5, 0.5), (-1, 0.5), (0, 0), (0, 0)])
    batch = row([1, 2], [0, 1], paths={1: [(0, 1), (1, -1)]})
    assert np.exp(-mean_loss(model, params, batch)) == pytest.approx(0.455054, abs=1e-6)


def drawn_batch(output, rows=2, length=23, seed=0):
    rng = np.random.default_rng(seed)
    batch = {
        "encoder_input_tokens": rng.integers(1, V, (rows, length)),
        # Two documents, and the row's end is empty.
        "encoder_segment_ids": 1 + (np.arange(length) > 9) * np.ones((rows, 1), int),
        "word_windows": rng.integers(1, 4, (rows, length)),
    }
    batch = {name: np.where(np.arange(length) < 20, x, 0) for name, x in batch.items()}
    if output == "negative_sampling":
        batch["noise_tokens"] = rng.integers(1, V, (rows, length))
    else:
        nodes = np.zeros((rows, length, LONGEST_PATH), int)
        signs = np.zeros_like(nodes)
        depth = rng.integers(1, 12, (rows, length, 1))
        there = np.arange(LONGEST_PATH) < depth
        nodes[there] = rng.integers(0, V, there.sum())
        signs[there] = rng.choice([-1, 1], there.sum())
        batch |= {"path_nodes": nodes, "path_signs": signs}
    return batch


def softplus(x):
    return np.logaddexp(0, x)


def reference(model, params, batch):
    """The summed loss and its weight, word by word."""
    into, out = (np.asarray(params[f"{n}_embedder"]["embedding"]) for n in ("token", "output"))
    total = weight = 0.0
    tokens, segments = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
    for b, t in np.ndindex(tokens.shape):
        reach = batch["word_windows"][b, t]
        places = range(max(0, t - reach), min(tokens.shape[1], t + reach + 1))
        context = [
            into[tokens[b, j]] for j in places if j != t and segments[b, j] == segments[b, t]
        ]
        if not segments[b, t] or not context:
            continue
        for h in [np.mean(context, axis=0)] if isinstance(model, CBOW) else context:
            weight += 1
            if model.output == "negative_sampling":
                start = t // model.block_size * model.block_size
                noise = batch["noise_tokens"][b, start : start + model.block_size]
                total += softplus(-out[tokens[b, t]] @ h)
                others = [n for n in noise if n != tokens[b, t]]
                share = model.negatives / len(noise)
                total += share * sum(softplus(out[n] @ h) for n in others)
            else:
                path = zip(batch["path_nodes"][b, t], batch["path_signs"][b, t], strict=True)
                total += sum(softplus(-sign * out[node] @ h) for node, sign in path if sign)
    return total, weight


@pytest.mark.parametrize(
    ("cls", "output", "block_size"),
    [
        (SkipGram, "negative_sampling", 5),
        (SkipGram, "negative_sampling", 64),
        (SkipGram, "hierarchical_softmax", 5),
        (CBOW, "negative_sampling", 5),
        (CBOW, "hierarchical_softmax", 64),
    ],
)
def test_blocks_are_their_pairs_one_by_one(cls, output, block_size):
    """Windows reach over the ends of blocks, and not over those of documents and rows."""
    model = cls(vocab_size=V, embed_dim=E, window=3, output=output, block_size=block_size)
    rng = np.random.default_rng(1)
    params = tables(*rng.standard_normal((2, V, E)))
    batch = drawn_batch(output)
    total, weight = reference(model, params, batch)
    found, of_pairs, _ = measured(model, params, batch)
    assert of_pairs == weight
    np.testing.assert_allclose(found, total, rtol=1e-5)


def test_what_is_beyond_the_models_window_is_not_seen():
    params = tables(*np.random.default_rng(1).standard_normal((2, V, E)))
    batch = drawn_batch("negative_sampling")
    sizes = dict(vocab_size=V, embed_dim=E, block_size=8)
    near = batch | {"word_windows": np.minimum(batch["word_windows"], 2)}
    assert mean_loss(SkipGram(**sizes, window=2), params, batch) == pytest.approx(
        float(mean_loss(SkipGram(**sizes, window=3), params, near)), rel=1e-6
    )


def test_the_cost_of_a_pair_of_glove():
    # f(25) = 0.25^0.75 = 0.353553; 1 + 0.5 + 0.7 - log 25 = -1.018876; the second is no pair.
    model = GloVe(vocab_size=3, embed_dim=2)
    params = {
        "token_embedder": {"embedding": jnp.array([(9, 9), (1, 1), (0, 0)], jnp.float32)},
        "context_embedder": {"embedding": jnp.array([(9, 9), (0, 0), (0.5, 0.5)], jnp.float32)},
        "token_bias": {"bias": jnp.array([9, 0.5, 0])},
        "context_bias": {"bias": jnp.array([9, 0, 0.7])},
    }
    batch = {
        "encoder_input_tokens": jnp.array([[1, 0]]),
        "context_tokens": jnp.array([[2, 0]]),
        "cooccurrences": jnp.array([[25.0, 0.0]]),
    }
    loss, weight, gradient = measured(model, params, batch)
    assert weight == 1 and loss == pytest.approx(0.367027, abs=1e-6)
    # 2 f (w·w' + …) = -0.720454, to the biases as it is.
    assert gradient["token_bias"]["bias"] == pytest.approx([0, -0.720454, 0], abs=1e-5)
    assert not np.isnan(gradient["token_embedder"]["embedding"]).any()
    np.testing.assert_array_equal(model.token_vectors(params)[1:], [(1, 1), (0.5, 0.5)])


def test_more_meetings_than_the_most_weigh_no_more():
    model = GloVe(vocab_size=2, embed_dim=1, x_max=10.0)
    zeros = {"embedding": jnp.zeros((2, 1))}
    params = {"token_embedder": zeros, "context_embedder": zeros}
    params |= {f"{side}_bias": {"bias": jnp.zeros(2)} for side in ("token", "context")}
    batch = {
        "encoder_input_tokens": jnp.array([[1]]),
        "context_tokens": jnp.array([[1]]),
        "cooccurrences": jnp.array([[1000.0]]),
    }
    assert mean_loss(model, params, batch) == pytest.approx(np.log(1000) ** 2, rel=1e-6)
    # Where all meetings weigh the same, those that fill a row up weigh nothing.
    even = model.clone(alpha=0.0)
    params["token_bias"]["bias"] += 3
    alone = float(mean_loss(even, params, batch))
    filled = {name: jnp.pad(a, ((0, 0), (0, 5))) for name, a in batch.items()}
    assert mean_loss(even, params, filled) == pytest.approx(alone, rel=1e-6)


MODELS = {
    "skip_gram": lambda **o: SkipGram(vocab_size=V, embed_dim=E, **o),
    "cbow": lambda **o: CBOW(vocab_size=V, embed_dim=E, output="hierarchical_softmax", **o),
    "glove": lambda **o: GloVe(vocab_size=V, embed_dim=E, **o),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_each_fulfils_the_engines_protocols(make):
    model = make()
    assert isinstance(model, protocols.EmbedsTokens)
    assert model.batch_format in formats.names()
    params = model.init(jax.random.key(0))["params"]
    shapes = nn.unbox(model.abstract_params())
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    assert model.token_vectors(params).shape == (V, E)
    vectors = model.apply({"params": params}, encoder_input_tokens=jnp.array([[3, 5]]))
    table = params["token_embedder"]["embedding"]
    np.testing.assert_array_equal(vectors[0], table[np.array([3, 5])])


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_batch_of_empty_rows_has_no_weight_and_no_loss(make):
    model = make()
    params = model.init(jax.random.key(0))["params"]
    batch = formats.example_batch(model.batch_format, {"targets": 12}, 2)
    batch = jax.tree.map(jnp.asarray, batch)
    total, weight = jax.jit(lambda p: (model.loss(p, batch)[0], model.loss_weights(batch)))(params)
    assert total == weight == {"loss": 0}


def test_the_first_values_are_those_of_the_released_code():
    params = SkipGram(vocab_size=500, embed_dim=20).init(jax.random.key(0))["params"]
    inputs = np.asarray(params["token_embedder"]["embedding"])
    assert np.abs(inputs).max() <= 0.5 / 20 and np.abs(inputs).max() > 0.49 / 20
    assert not params["output_embedder"]["embedding"].any()


def test_products_of_matrices_are_counted():
    # A block of 4 with a window of 1: 6 words of context by 4 words and 4 of noise.
    model = SkipGram(vocab_size=V, embed_dim=E, window=1, block_size=4)
    shapes = {"encoder_input_tokens": (1, 8), "noise_tokens": (1, 8)}
    shapes |= {"encoder_segment_ids": (1, 8), "word_windows": (1, 8)}
    products = 2 * 2 * (6 * E * 8 + 6 * 4 * 4)
    assert sum(part.full for part in model.forward_flops(shapes).values()) == products


def test_what_cannot_be_built_or_read_is_told_in_a_line():
    with pytest.raises(ModelError, match="output is 'softmax': 'negative_sampling' or"):
        SkipGram(vocab_size=V, output="softmax")
    with pytest.raises(ModelError, match=r"dropout_rate is 0\.1: it must be 0"):
        CBOW(vocab_size=V, dropout_rate=0.1)
    with pytest.raises(ModelError, match=r"x_max is 0\.0: it must be above 0"):
        GloVe(vocab_size=V, x_max=0.0)
    with pytest.raises(ModelError, match=r"alpha is -1\.0: it must be 0 or more"):
        GloVe(vocab_size=V, alpha=-1.0)
    model = SkipGram(vocab_size=V, output="hierarchical_softmax")
    batch = jax.tree.map(jnp.asarray, drawn_batch("negative_sampling"))
    with pytest.raises(
        ModelError, match="reads path_nodes: is it a batch of the format 'words_and"
    ):
        model.loss(model.init(jax.random.key(0))["params"], batch)
