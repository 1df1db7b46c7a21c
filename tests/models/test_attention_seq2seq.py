"""Recurrent encoder-decoders with attention: NumPy from the papers' equations, counts, coverage."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.attention_seq2seq import AttentionSeq2Seq
from models.errors import ModelError
from models.layers.recurrent.alignment import Dot
from models.layers.recurrent.cells import GRU, LSTM
from t5x_like import protocols
from tests.models.families import drawn

V = 19
RNNSEARCH = AttentionSeq2Seq(vocab_size=V, embed_dim=5, encoder_dim=3, hidden_dim=4, maxout_dim=3)
LUONG = AttentionSeq2Seq(
    vocab_size=V, cell=LSTM(), attention=Dot(), query="current", embed_dim=5, encoder_dim=2,
    hidden_dim=4, num_decoder_layers=2, maxout_dim=None, source_start=False,
)  # fmt: skip
GNMT = AttentionSeq2Seq(
    vocab_size=V, cell=LSTM(), embed_dim=5, encoder_dim=3, hidden_dim=4, num_encoder_layers=3,
    num_decoder_layers=3, residual=True, maxout_dim=None, source_start=False,
    share_embeddings=True,
)  # fmt: skip

SOURCE, TARGET = [3, 7, 2, 11], [5, 1, 8]
BATCH = {
    "encoder_input_tokens": jnp.array([[*SOURCE, 0, 0]]),
    "decoder_input_tokens": jnp.array([TARGET]),
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


# Each cell from the sum of the products with everything but its own state, `[gates, units]`.


def gru(layer, read, state):
    """Cho et al. 2014, with z the share of the state before."""
    (h,), u = state, layer["recurrent_kernel"]
    r, z = (sigmoid(read[gate] + h @ u[:, gate]) for gate in range(2))
    n = np.tanh(read[2] + (r * h) @ u[:, 2])
    return ((1 - z) * n + z * h,)


def lstm(layer, read, state):
    h, c = state
    i, f, g, o = read + np.einsum("f,fqh->qh", h, layer["recurrent_kernel"])
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def read_of(layer, x, context=None):
    read = np.einsum("e,eqf->qf", x, layer["kernel"]) + layer["bias"]
    return (
        read if context is None else read + np.einsum("e,eqf->qf", context, layer["context_kernel"])
    )


def run(cell, layer, vectors):
    """The hidden states of a layer over a text, from zeros."""
    state = (np.zeros(layer["bias"].shape[-1]),) * (2 if cell is lstm else 1)
    states = []
    for x in vectors:
        state = cell(layer, read_of(layer, x), state)
        states.append(state[0])
    return states


def encode(cell, encoder, vectors, residual=False):
    bottom = encoder["layers_0"]
    forward = run(cell, bottom["forward"], vectors)
    backward = run(cell, bottom["backward"], vectors[::-1])[::-1]
    states = [np.concatenate(both) for both in zip(forward, backward, strict=True)]
    for i in range(1, len(encoder)):
        before, states = states, run(cell, encoder[f"layers_{i}"], states)
        if residual and i >= 2:
            states = [a + b for a, b in zip(before, states, strict=True)]
    return np.array(states), backward[0]


def additive(decoder, query, memory):
    hidden = np.tanh(query @ decoder["score_query"] + memory @ decoder["score_key"])
    return softmax(hidden @ decoder["score_vector"]) @ memory


@functools.cache
def parameters(model):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), drawn(model))


def logits(model):
    return np.asarray(jax.jit(model.logits)(drawn(model), BATCH)[0])


def test_rnnsearch_is_that_of_the_papers_appendix():
    """Bahdanau et al. 2015, A.1.2 and A.2.2: s_i of s_{i-1}, y_{i-1} and c_i, and maxout of all."""
    p = parameters(RNNSEARCH)
    decoder, layer = p["decoder"], p["decoder"]["layers_0"]
    vectors = [p["source_embedder"]["embedding"][token] for token in SOURCE]
    memory, first_backward = encode(gru, p["encoder"], vectors)
    state = np.tanh(first_backward @ p["start"]["kernel"] + p["start"]["bias"])
    found = []
    for token in TARGET:
        y = p["token_embedder"]["embedding"][token]
        context = additive(decoder, state, memory)
        deep = np.concatenate([state, y, context]) @ p["deep_output"]["kernel"]
        t = (deep + p["deep_output"]["bias"]).reshape(-1, 2).max(-1)
        found.append(t @ p["output"]["kernel"] + p["logit_bias"]["bias"])
        (state,) = gru(layer, read_of(layer, y, context), (state,))
    np.testing.assert_allclose(logits(RNNSEARCH), found, atol=1e-4)


def test_luongs_attentional_vector_is_fed_to_the_next_token():
    """Luong et al. 2015, equation 5 and section 3.3, with dot scores of the state after."""
    p = parameters(LUONG)
    decoder = p["decoder"]
    layers = [decoder["layers_0"], decoder["layers_1"]]
    vectors = [p["source_embedder"]["embedding"][token] for token in SOURCE]
    memory, _ = encode(lstm, p["encoder"], vectors)
    states, fed, found = [(np.zeros(4), np.zeros(4))] * 2, np.zeros(4), []
    for token in TARGET:
        x = p["token_embedder"]["embedding"][token]
        states[0] = lstm(layers[0], read_of(layers[0], x, fed), states[0])
        states[1] = lstm(layers[1], read_of(layers[1], states[0][0]), states[1])
        top = states[1][0]
        context = softmax(memory @ top) @ memory
        fed = np.tanh(np.concatenate([context, top]) @ decoder["join"])
        found.append(fed @ p["output"]["kernel"] + p["logit_bias"]["bias"])
    np.testing.assert_allclose(logits(LUONG), found, atol=1e-4)


def test_gnmts_first_layer_asks_and_every_layer_reads_the_context():
    """Wu et al. 2016, section 3: the third layer's input is added to its output, on both sides."""
    p = parameters(GNMT)
    decoder, table = p["decoder"], p["token_embedder"]["embedding"]
    memory, _ = encode(lstm, p["encoder"], [table[token] for token in SOURCE], residual=True)
    states, found = [(np.zeros(4), np.zeros(4))] * 3, []
    for token in TARGET:
        x, context = table[token], additive(decoder, states[0][0], memory)
        for i in range(3):
            layer = decoder[f"layers_{i}"]
            states[i] = lstm(layer, read_of(layer, x, context), states[i])
            x = states[i][0] + (x if i == 2 else 0)
        found.append(x @ p["output"]["kernel"] + p["logit_bias"]["bias"])
    np.testing.assert_allclose(logits(GNMT), found, atol=1e-4)


@pytest.mark.slow
def test_the_vectors_of_a_source_are_what_its_encoder_has_read():
    """As CoVe's are those of a translation model's encoder (McCann et al. 2017, section 3)."""
    p = parameters(RNNSEARCH)
    vectors = [p["source_embedder"]["embedding"][token] for token in SOURCE]
    found = RNNSEARCH.contextual_vectors(drawn(RNNSEARCH), BATCH)
    assert found.shape == (1, 6, 6)
    np.testing.assert_allclose(found[0, :4], encode(gru, p["encoder"], vectors)[0], atol=1e-5)


def test_the_parameters_of_rnnsearch_by_hand():
    """Bahdanau et al. 2015, A.1 and A.2.3: n = n' = 1000, m = 620, l = 500, 30,000 words a side."""
    k, n, m, maxout = 30000, 1000, 620, 500
    each_way = 3 * (n * (m + n) + n)
    decoder = 3 * (n * (m + n + 2 * n) + n)
    alignment = n * n + 2 * n * n + n
    start = n * n + n
    output = 2 * maxout * (n + m + 2 * n) + 2 * maxout + k * maxout + k
    model = AttentionSeq2Seq(vocab_size=k)
    assert model.parameter_count() == (
        2 * k * m + 2 * each_way + decoder + alignment + start + output
    )


def test_the_coverage_of_a_source_of_three_tokens():
    """Of p = ((.7, .2, .1), (.6, .3, .1)) the sums are 1.3, .5, .2: 0.2 Σ log min = -0.460517."""
    assert isinstance(RNNSEARCH, protocols.CoversSource)
    cache = {
        "attended": jnp.array([[1.3, 0.5, 0.2, 0.0]]),
        "source": {"segments_bs": jnp.array([[1, 1, 1, 0]])},  # the last is padding
    }
    assert 0.2 * RNNSEARCH.log_coverage(cache)[0] == pytest.approx(-0.460517, abs=1e-6)


@pytest.mark.slow
def test_the_cache_adds_up_the_attention_of_the_tokens_that_were_read():
    params = drawn(RNNSEARCH)
    alignment = RNNSEARCH.attention_weights(params, BATCH)["cross"]
    assert alignment.shape == (1, 1, 1, 3, 6)
    cache = RNNSEARCH.init_cache(
        params, BATCH | {"decoder_input_tokens": jnp.array([[0, 0, 5]]),
                         "decoder_segment_ids": jnp.array([[0, 0, 1]])}, 4
    )  # fmt: skip
    np.testing.assert_allclose(cache["attended"][0], alignment[0, 0, 0, 0], atol=1e-6)
    cache = RNNSEARCH.extend(params, cache, jnp.array([TARGET[1:]]))[1]
    np.testing.assert_allclose(cache["attended"], alignment.sum((0, 2, 3)), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": "next"}, r"query is 'next': it must be one of \('previous', 'current'\)"),
        ({"num_bidirectional_layers": 2}, "num_encoder_layers, which is 1"),
        ({"query": "current"}, "maxout_dim is 500: with query 'current' it must be None"),
        (
            {"num_decoder_layers": 2},
            "maxout_dim is 500: with more than one decoder layer it must be",
        ),
        ({"tied_output": True}, "has 500 units and embed_dim is 620"),
        ({"attention": Dot()}, "have 2000 units .* decoder's 1000"),
        ({"attention": "dot"}, r"such as alignment.Additive\(\)"),
        ({"cell": GRU}, r"such as cells.LSTM\(\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(options, message):
    with pytest.raises(ModelError, match=message):
        AttentionSeq2Seq(vocab_size=V, **options)


@pytest.mark.slow
@pytest.mark.parametrize("maxout_dim", [64, None])
def test_what_the_output_reads_is_dropped(maxout_dim):
    model = AttentionSeq2Seq(
        vocab_size=V, embed_dim=5, encoder_dim=3, hidden_dim=64, maxout_dim=maxout_dim,
        init_scale=1.0, dropout_rate=0.5,
    )  # fmt: skip
    params = model.init(jax.random.key(0))["params"]
    read = functools.partial(model.apply, {"params": params}, **BATCH, method="hidden_states")
    dropped = read(enable_dropout=True, rngs={"dropout": jax.random.key(1)})
    assert 0.35 < float((dropped == 0).mean()) < 0.65
    assert float((read() == 0).mean()) < 0.1
