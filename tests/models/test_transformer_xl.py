"""Transformer-XL: the paper's equations in NumPy, memory in training and in decoding."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.layers.attention.distances import align_distances
from models.layers.attention.masks import Mask
from models.transformer_xl import TransformerXL
from t5x_like import protocols
from tests.models.families import drawn
from tests.models.reference_decoders import affine, layer_norm, layers

V, E = 37, 24
small = functools.partial(
    TransformerXL, vocab_size=V, embed_dim=E, num_heads=3, head_dim=10, mlp_dim=40, num_layers=2,
    memory_length=6,
)  # fmt: skip
# What the released weights have: tails of narrower vectors, u and v of each layer.
adaptive = functools.partial(
    small, cutoffs=(9, 20), divisor=2, table_dim=20, shared_biases=False, carries=True
)

TERMS = ("a", "b", "c", "d", "memory", "clamp", "scale", "first projection", "tail projection",
         "tails", "token biases", "tail biases", "feed-forward biases")  # fmt: skip


def reference(model, params, tokens, memory, without=None):
    """Dai et al. 2019, section 3.3, and Grave et al. 2017, in float64, one pair at a time.

    Args:
      model: whose sizes these are.
      params: its parameters.
      tokens: int `[t]`, one row.
      memory: what entered each layer before, `[layers, m, e]`.
      without: one of `TERMS` that is left out.

    Returns:
      Log-probabilities `[t, v]`, and what entered each layer, `[layers, t, e]`.
    """
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    embed, output = params["token_embedder"], params["output"]
    bounds = [0, *model.cutoffs, V]
    x = np.zeros((len(tokens), E))
    for i, token in enumerate(tokens):
        c = sum(token >= bound for bound in bounds[1:-1])
        if model.divisor == 1:
            x[i] = embed["embedding_0"][token]
        else:
            x[i] = embed[f"embedding_{c}"][token - bounds[c]] @ embed[f"projection_{c}"]
    if without != "scale":
        x = x * math.sqrt(E)
    stacked = params["decoder"]["layers"]
    if model.shared_biases:
        relative = stacked["self_attention"]["relative"]
        for name in ("content_bias", "distance_bias"):
            relative[name] = np.repeat(relative[name], model.num_layers, axis=0)
    inputs = []
    for layer, past in zip(layers(stacked), memory, strict=True):
        inputs.append(x)
        past = past[len(past) :] if without == "memory" else past
        x = layer_norm(
            x + attended(model, layer["self_attention"], x, past, without),
            layer["self_attention_norm"],
            model.norm_epsilon,
        )
        mlp = layer["mlp"]
        if without == "feed-forward biases":
            mlp = {name: {"kernel": part["kernel"]} for name, part in mlp.items()}
        hidden = affine(mlp["wo"], np.maximum(affine(mlp["wi"], x), 0))
        x = layer_norm(x + hidden, layer["mlp_norm"], model.norm_epsilon)
    return log_probabilities(model, embed, output, x, without), np.stack(inputs)


def attended(model, part, x, past, without):
    """Terms a to d of every query and every key that it sees, memory first."""
    h, d = model.num_heads, model.head_dim
    seen, m = np.concatenate([past, x]), len(past)
    q = affine(part["query"], x).reshape(-1, h, d)
    k, v = (affine(part[name], seen).reshape(-1, h, d) for name in ("key", "value"))
    relative = part["relative"]
    found = np.zeros((len(x), h, d))
    for i in range(len(x)):
        first = max(0, m + i + 1 - model.memory_length) if model.same_length else 0
        keys = range(first, m + i + 1)
        for head in range(h):
            scores = []
            for j in keys:
                distance = m + i - j
                if model.clamp_length is not None and without != "clamp":
                    distance = min(distance, model.clamp_length)
                angles = distance / 10000 ** (np.arange(0, E, 2) / E)
                r = np.concatenate([np.sin(angles), np.cos(angles)]) @ relative["kernel"]
                r = r[head * d : (head + 1) * d]
                terms = {
                    "a": q[i, head] @ k[j, head],
                    "b": q[i, head] @ r,
                    "c": relative["content_bias"][head] @ k[j, head],
                    "d": relative["distance_bias"][head] @ r,
                }
                scores.append(sum(x for name, x in terms.items() if name != without))
            weights = np.exp((np.array(scores) - max(scores)) / math.sqrt(d))
            found[i, head] = weights / weights.sum() @ v[list(keys), head]
    return affine(part["out"], found.reshape(len(x), -1))


def log_probabilities(model, embed, output, x, without):
    """The head's softmax has an entry for each tail, whose own softmax its words have."""
    bounds = [0, *model.cutoffs, V]
    found = []
    for c in range(len(bounds) - 1):
        own = slice(bounds[c], bounds[c + 1])
        if model.divisor == 1:
            table, bias, h = embed["embedding_0"][own], output["bias_0"][own], x
        else:
            table, bias = embed[f"embedding_{c}"], output[f"bias_{c}"]
            matrix = output["projection_0"] if c == 0 else embed[f"projection_{c}"]
            if (c, without) in ((0, "first projection"), (1, "tail projection")):
                matrix = np.ones_like(matrix)
            h = x @ matrix.T
        bias = np.zeros_like(bias) if without == "token biases" else bias
        scores = h @ table.T + bias
        if c == 0 and model.cutoffs:
            own_bias = 0 if without == "tail biases" else output["cluster_bias"]
            scores = np.concatenate([scores, h @ output["cluster_embedding"].T + own_bias], axis=1)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        if c == 0:
            of_tails = scores[:, table.shape[0] :]
            found.append(scores[:, : table.shape[0]])
        else:
            found.append(scores + (0 if without == "tails" else of_tails[:, c - 1 : c]))
    return np.concatenate(found, axis=1)


@functools.partial(jax.jit, static_argnums=0)
def with_carry(model, params, batch, carry):
    """Log-probabilities, and the carry after them."""
    output, carry = model.apply(
        {"params": params}, **batch, carry=carry, method="_output_and_carry"
    )
    return output[1].log_probabilities(output[0]), carry


@functools.partial(jax.jit, static_argnums=0)
def loss_and_carry(model, params, batch, carry, rng=None):
    return model.loss_and_carry(params, batch, carry, rng)


def rows_of(length, rows=2, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda: jnp.asarray(rng.integers(0, V, (rows, length)))  # noqa: E731
    return {"decoder_input_tokens": draw(), "decoder_target_tokens": draw()}


def part(batch, start, end):
    return {name: a[:, start:end] for name, a in batch.items()}


# -- The equations ---------------------------------------------------------------------------------

# As many keys for every query: `hf/test_transfo_xl.py`.
MODELS = {
    "plain": small(carries=True),
    "adaptive": adaptive(),
    "one table": small(cutoffs=(9, 20), carries=True, clamp_length=3),
}


@pytest.mark.parametrize("kind", MODELS)
def test_log_probabilities_are_those_of_the_papers_equations(kind):
    """Three segments of 4: the memory of 6 is empty, then not yet full, then more than there is."""
    model = MODELS[kind]
    params = drawn(model)
    batch = rows_of(12, rows=2)
    carry = model.initial_carry(2)
    memories = [np.zeros((model.num_layers, 0, E)) for _ in range(2)]
    for start in (0, 4, 8):
        segment = part(batch, start, start + 4)
        found, carry = with_carry(model, params, segment, carry)
        for row in range(2):
            tokens = np.asarray(segment["decoder_input_tokens"][row])
            expected, inputs = reference(model, params, tokens, memories[row])
            np.testing.assert_allclose(found[row], expected, atol=1e-4)
            memories[row] = np.concatenate([memories[row], inputs], axis=1)[:, -6:]
            kept = memories[row].shape[1]
            assert carry["length"][row] == kept
            np.testing.assert_allclose(
                carry["states"][row][:, 6 - kept :], memories[row], atol=1e-4
            )


def test_no_term_of_the_equations_can_be_left_out_unnoticed():
    model = adaptive(clamp_length=3)
    params = drawn(model)
    batch = rows_of(5, rows=1)
    carry = {
        "states": jax.random.normal(jax.random.key(0), (1, 2, 6, E)),
        "length": jnp.array([6], jnp.int32),
    }
    found, _ = with_carry(model, params, batch, carry)
    tokens = np.asarray(batch["decoder_input_tokens"][0])
    memory = np.asarray(carry["states"][0], np.float64)
    whole, _ = reference(model, params, tokens, memory)
    np.testing.assert_allclose(found[0], whole, atol=1e-4)
    for term in TERMS:
        less, _ = reference(model, params, tokens, memory, without=term)
        assert np.abs(less - whole).max() > 1e-2, term


def test_a_left_shift_gives_each_query_its_own_distances():
    """The released code's example: rows of scores of distances 3, 2, 1, 0 with one key before."""
    scores = jnp.pad(jnp.arange(12).reshape(3, 4), ((0, 0), (0, 2)), constant_values=-1)
    shifted = align_distances(scores, 4)
    assert shifted[0, :2].tolist() == [2, 3]
    assert shifted[1, :3].tolist() == [5, 6, 7]
    assert shifted[2].tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize(
    ("window", "rows"),
    [(None, "1111100 1111110 1111111"), (4, "0111100 0011110 0001111")],
)
def test_a_query_sees_the_memory_and_what_is_before_it_or_as_many_keys_as_any(window, rows):
    mask = Mask(causal=True, window=window, first_query=jnp.int32(4))
    shown = ["".join(str(int(x)) for x in row) for row in mask.dense((0, 3), (0, 7))[0, 0]]
    assert shown == rows.split()


# -- The memory ------------------------------------------------------------------------------------


def test_a_long_row_in_segments_that_hand_on_their_memory_has_the_same_loss():
    """With a memory of all that was before, every token sees the same."""
    model = adaptive(memory_length=12)
    params, batch = drawn(model), rows_of(12)
    whole, metrics = jax.jit(model.loss)(params, batch)
    carry, parts, weight = model.initial_carry(2), 0.0, 0.0
    for start in (0, 4, 8):
        loss, counted, carry = loss_and_carry(model, params, part(batch, start, start + 4), carry)
        parts, weight = parts + loss["loss"], weight + counted["loss"][1]
    assert parts == pytest.approx(float(whole["loss"]), rel=1e-5)
    assert weight == metrics["loss"][1]
    # Without the memory the second segment is another text.
    alone, *_ = loss_and_carry(model, params, part(batch, 4, 8), model.initial_carry(2))
    carry = loss_and_carry(model, params, part(batch, 0, 4), model.initial_carry(2))[2]
    joined, *_ = loss_and_carry(model, params, part(batch, 4, 8), carry)
    assert abs(alone["loss"] - joined["loss"]) > 1e-2


def test_no_gradient_flows_into_the_memory():
    model = adaptive()
    params, batch = drawn(model), rows_of(4)
    carry = loss_and_carry(model, params, rows_of(4, seed=1), model.initial_carry(2))[2]

    def loss(states):
        memory = carry | {"states": states}
        return loss_and_carry(model, params, batch, memory)[0]["loss"]

    assert not jax.jit(jax.grad(loss))(carry["states"]).any()


def test_rows_that_do_not_continue_begin_without_memory():
    model = adaptive()
    params, batch = drawn(model), rows_of(4)
    carry = loss_and_carry(model, params, rows_of(8, seed=1), model.initial_carry(2))[2]
    fresh, _of_fresh = with_carry(model, params, batch, model.initial_carry(2))
    continued, _of_continued = with_carry(model, params, batch, carry)
    mixed, of_mixed = with_carry(model, params, batch | {"row_continues": jnp.array([0, 1])}, carry)
    np.testing.assert_array_equal(mixed[0], fresh[0])
    np.testing.assert_array_equal(mixed[1], continued[1])
    assert np.abs(fresh[1] - continued[1]).max() > 1e-2
    assert of_mixed["length"].tolist() == [4, 6]


@pytest.mark.slow
def test_the_memory_ends_with_the_last_token_and_not_with_padding():
    model = adaptive()
    params, batch = drawn(model), rows_of(6)
    batch["decoder_segment_ids"] = jnp.array([[1] * 4 + [0] * 2, [1, 1, 2, 2, 2, 0]])
    carry = loss_and_carry(model, params, rows_of(3, seed=1), model.initial_carry(2))[2]
    _, after = with_carry(model, params, batch, carry)
    four = {name: x[:, :4] for name, x in batch.items() if name != "decoder_segment_ids"}
    _, expected = with_carry(model, params, four, carry)
    np.testing.assert_allclose(after["states"][0], expected["states"][0], atol=1e-5)
    # The text that continues has three tokens.
    assert after["length"].tolist() == [6, 3]


@pytest.mark.slow
def test_a_memory_of_zeros_is_attended_to_and_padding_before_a_text_is_part_of_it():
    """As in the code that trained the released weights; keys of zeros have terms b and d."""
    model = adaptive(zero_memory=True)
    params, batch = drawn(model), rows_of(5, rows=1)
    tokens = batch["decoder_input_tokens"]
    expected, _ = reference(model, params, np.asarray(tokens[0]), np.zeros((2, 6, E)))
    logits = jax.jit(model.logits)
    np.testing.assert_allclose(logits(params, batch)[0], expected, atol=1e-4)
    none, _ = reference(model, params, np.asarray(tokens[0]), np.zeros((2, 0, E)))
    assert np.abs(none - expected).max() > 1e-2
    padded = {
        "decoder_input_tokens": jnp.pad(tokens, ((0, 0), (3, 0))),
        "decoder_segment_ids": jnp.array([[0] * 3 + [1] * 5]),
    }
    np.testing.assert_allclose(logits(params, padded)[0, 3:], expected, atol=1e-4)


def test_a_model_that_carries_takes_contiguous_rows():
    assert adaptive().batch_format == "contiguous_language_model"
    assert small().batch_format == "causal_language_model"
    assert protocols.carries(adaptive()) and not protocols.carries(small())


# -- Decoding --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "padding"),
    [({}, 0), ({"zero_memory": True}, 2)],
    ids=["plain", "zero_memory"],
)
def test_a_prompt_is_a_segment_and_each_token_after_it_another(options, padding):
    """So the cache gives what the recurrence gives, beyond the length of the memory too."""
    model = adaptive(**options)
    params = drawn(model)
    tokens = rows_of(16)["decoder_input_tokens"]
    expected, carry = with_carry(
        model, params, {"decoder_input_tokens": tokens[:, :5]}, model.initial_carry(2)
    )
    laid_out = jax.jit(model.decoding_params)(params)
    prompt = {
        "decoder_input_tokens": jnp.pad(tokens[:, :5], ((0, 0), (padding, 0))),
        "decoder_segment_ids": jnp.array([[0] * padding + [1] * 5] * 2),
    }
    cache = jax.jit(model.init_cache, static_argnums=2)(laid_out, prompt, 16 + padding)
    step = jax.jit(model.decode_step)
    for i in range(5, 16):
        found, cache = step(laid_out, cache, tokens[:, i])
        expected, carry = with_carry(
            model, params, {"decoder_input_tokens": tokens[:, i : i + 1]}, carry
        )
        np.testing.assert_allclose(found, expected[:, 0], atol=1e-4)


def test_mistakes_are_told_in_one_line():
    with pytest.raises(ModelError, match=r"cutoffs is \(9, 9\).*rising"):
        small(cutoffs=[9, 9])
    with pytest.raises(ModelError, match=r"cutoffs is 'ab'.*rising"):
        small(cutoffs="ab")
    with pytest.raises(ModelError, match=r"divisor is 8.*table_dim 24 have no width"):
        small(cutoffs=(9, 20), divisor=8)
    with pytest.raises(ModelError, match=r"zero_memory is True.*carries"):
        small(zero_memory=True)
    with pytest.raises(ModelError, match=r"embed_dim is 23.*even"):
        small(embed_dim=23)
    with pytest.raises(ModelError, match=r"init_scale is 0.0.*above 0"):
        small(init_scale=0.0)
