"""The neural probabilistic language model against its equation in NumPy, and packed rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.nnlm import NNLM

V, M, H, N = 61, 6, 9, 4
small = functools.partial(NNLM, vocab_size=V, order=N, embed_dim=M, hidden_dim=H, init_scale=0.4)


def initial(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: jnp.asarray(0.4 * rng.standard_normal(a.shape), a.dtype), shapes)


def tokens_of(rows, length, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(1, V, (rows, length)))


def by_hand(params, text):
    """Logits after each word of one text: Bengio et al. 2003, equation 1."""
    table = np.asarray(params["token_embedder"]["embedding"])
    u, w = np.split(np.asarray(params["output"]["kernel"]), [H])
    logits = []
    for t in range(len(text)):
        window = [table[text[t - k]] if t >= k else np.zeros(M) for k in range(N - 1)]
        x = np.concatenate(window)
        h = np.tanh(params["decoder"]["bias"] + x @ np.asarray(params["decoder"]["kernel"]))
        logits.append(params["logit_bias"]["bias"] + h @ u + x @ w)
    return np.stack(logits)


def test_the_logits_are_the_equations():
    model = small()
    params, tokens = initial(model), tokens_of(2, 7)
    logits = jax.jit(model.logits)(params, {"decoder_input_tokens": tokens})
    for row in range(2):
        np.testing.assert_allclose(logits[row], by_hand(params, np.asarray(tokens[row])), atol=1e-5)


def test_a_window_does_not_reach_across_the_beginning_of_its_text():
    model = small()
    params, tokens = initial(model), tokens_of(1, 9)
    segments = jnp.array([[1, 1, 1, 1, 1, 2, 2, 3, 0]])
    batch = {"decoder_input_tokens": tokens, "decoder_segment_ids": segments}
    logits = jax.jit(model.logits)(params, batch)[0]
    for start, end in ((0, 5), (5, 7), (7, 8)):
        text = np.asarray(tokens[0, start:end])
        np.testing.assert_allclose(logits[start:end], by_hand(params, text), atol=1e-5)


@pytest.mark.parametrize("order", [2, 3, N])
def test_a_prompt_padded_on_the_left_is_continued_as_a_row_without_padding(order):
    model = small(order=order)
    params, tokens = initial(model), tokens_of(2, 6)
    expected = jax.jit(model.logits)(params, {"decoder_input_tokens": tokens})[:, 2:]
    prompt = {
        "decoder_input_tokens": jnp.pad(tokens[:, :2], ((0, 0), (3, 0)), constant_values=7),
        "decoder_segment_ids": jnp.array([[0, 0, 0, 1, 1]] * 2),
    }
    cache = jax.jit(model.init_cache, static_argnums=2)(params, prompt, 16)
    first, cache = jax.jit(model.decode_step)(params, cache, tokens[:, 2])
    rest, _ = jax.jit(model.extend)(params, cache, tokens[:, 3:])
    np.testing.assert_allclose(jnp.concatenate([first[:, None], rest], axis=1), expected, atol=1e-5)


def test_the_number_of_parameters_is_that_of_the_paper():
    """|V| (1 + n m + h) + h (1 + (n - 1) m), section 2; without direct connections less W."""
    model = NNLM(vocab_size=17_964, order=5, embed_dim=30, hidden_dim=100)
    assert model.parameter_count() == 17_964 * (1 + 150 + 100) + 100 * (1 + 120) == 4_521_064
    indirect = model.clone(direct=False)
    assert model.parameter_count() - indirect.parameter_count() == 17_964 * 4 * 30


def test_an_order_of_one_has_no_window():
    with pytest.raises(ModelError, match=r"NNLM.order is 1: it must be 2 or more"):
        small(order=1)


@pytest.mark.interop
def test_logits_and_gradients_are_those_of_torchs_layers():
    torch = pytest.importorskip("torch")
    model = small()
    params, tokens = initial(model), tokens_of(2, 7)
    targets = tokens_of(2, 7, seed=3)
    theirs = jax.tree.map(lambda a: torch.tensor(np.asarray(a), requires_grad=True), params)
    vectors = torch.nn.functional.embedding(
        torch.tensor(np.asarray(tokens)).long(), theirs["token_embedder"]["embedding"]
    )
    padded = torch.nn.functional.pad(vectors, (0, 0, N - 2, 0))
    x = torch.cat([padded[:, i : i + 7] for i in range(N - 2, -1, -1)], -1)
    linear = torch.nn.functional.linear
    h = torch.tanh(linear(x, theirs["decoder"]["kernel"].T, theirs["decoder"]["bias"]))
    kernel, bias = theirs["output"]["kernel"], theirs["logit_bias"]["bias"]
    expected = linear(torch.cat([h, x], -1), kernel.T, bias)
    batch = {"decoder_input_tokens": tokens, "decoder_target_tokens": targets}
    np.testing.assert_allclose(model.logits(params, batch), expected.detach().numpy(), atol=1e-5)
    torch.nn.functional.cross_entropy(
        expected.flatten(0, 1), torch.tensor(np.asarray(targets)).long().flatten()
    ).backward()
    loss = lambda params: model.loss(params, batch)[0]["loss"] / targets.size  # noqa: E731
    gradients = jax.jit(jax.grad(loss))(params)
    jax.tree.map(
        lambda ours, their: np.testing.assert_allclose(ours, their.grad.numpy(), atol=1e-5),
        gradients,
        theirs,
    )
