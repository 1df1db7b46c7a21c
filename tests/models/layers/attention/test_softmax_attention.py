"""The backward pass written by hand, against autodiff of the formula as it stands."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import mesh_context
from models.layers.attention import softmax_attention
from models.layers.attention.masks import Mask
from models.layers.attention.softmax_attention import KeysValues, attend
from models.layers.dropout import Dropout

B, H, T, D = 2, 4, 12, 8


def formula(q_bhtd, k_bgsd, v_bgsd, bias_bhts, mask):
    repeats = q_bhtd.shape[1] // k_bgsd.shape[1]
    k_bhsd, v_bhsd = (jnp.repeat(x, repeats, axis=1) for x in (k_bgsd, v_bgsd))
    scores = jnp.einsum("bhtd,bhsd->bhts", q_bhtd, k_bhsd) + bias_bhts
    allowed = mask.dense((0, q_bhtd.shape[2]), (0, k_bgsd.shape[2]))
    if allowed is not None:
        scores = jnp.where(allowed, scores, -1e30)
    return jnp.einsum("bhts,bhsd->bhtd", jax.nn.softmax(scores), v_bhsd)


def arrays(kv_heads=H, slots=T, bias_rows=1):
    keys = jax.random.split(jax.random.key(0), 5)
    q = jax.random.normal(keys[0], (B, H, T, D))
    k = jax.random.normal(keys[1], (B, kv_heads, slots, D))
    v = jax.random.normal(keys[2], (B, kv_heads, slots, D))
    bias = jax.random.normal(keys[3], (bias_rows, H, T, slots))
    return (q, k, v, bias), jax.random.normal(keys[4], (B, H, T, D))


# Two texts in a row of 12, and one with padding after it.
SEGMENTS = jnp.array([[1] * 5 + [2] * 7, [1] * 9 + [0] * 3])
PREFIX = jnp.arange(T)[None, :] < jnp.array([[4], [0]])


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    """Blocks of 5 rows: two whole ones and one of 2."""
    monkeypatch.setattr(softmax_attention, "QUERY_BLOCK", 5)
    jax.clear_caches()


@functools.partial(jax.jit, static_argnums=0)
def with_gradients(function, args, dy):
    y, pull = jax.vjp(function, *args)
    return y, pull(dy)


def agree(ours, theirs, args, dy):
    both = (with_gradients(function, args, dy) for function in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), *both)


PACKED = Mask(causal=True, query_segments_bt=SEGMENTS, key_segments_bs=SEGMENTS)
TWICE = jnp.concatenate([SEGMENTS, SEGMENTS[::-1]])
PACKED_TWICE = Mask(causal=True, query_segments_bt=TWICE, key_segments_bs=TWICE)


@pytest.mark.parametrize(
    ("mask", "kv_heads", "bias_rows"),
    [
        pytest.param(Mask(), H, 1, id="full"),
        pytest.param(Mask(causal=True), 2, B, id="causal, grouped"),
        pytest.param(PACKED, H, 1, id="packed"),
        pytest.param(PACKED, 1, 1, id="packed, one head of keys"),
        pytest.param(Mask(causal=True, prefix_bt=PREFIX), H, B, id="prefix"),
        pytest.param(Mask(key_valid_bs=SEGMENTS != 0), 1, 1, id="padded"),
    ],
)
def test_values_and_gradients_are_those_of_the_formula(mask, kv_heads, bias_rows):
    args, dy = arrays(kv_heads, bias_rows=bias_rows)
    agree(
        lambda q, k, v, bias: attend(q, KeysValues(k, v), mask, bias),
        lambda *args: formula(*args, mask),
        args,
        dy,
    )


# Blocks have 5 rows: a window smaller than a block and one larger.
@pytest.mark.parametrize(
    ("window", "mask", "kv_heads"),
    [
        pytest.param(3, Mask(causal=True), 2, id="3, grouped"),
        pytest.param(8, PACKED, H, id="8, packed"),
    ],
)
def test_a_window_is_the_keys_right_before_the_query(window, mask, kv_heads):
    args, dy = arrays(kv_heads)
    behind = np.arange(T)[:, None] - np.arange(T)[None, :]
    in_window = jnp.asarray((behind >= 0) & (behind < window))

    def theirs(q, k, v, bias):
        return formula(q, k, v, jnp.where(in_window, bias, -1e30), mask)

    agree(
        lambda q, k, v, bias: attend(q, KeysValues(k, v), mask.replace(window=window), bias),
        theirs,
        args,
        dy,
    )


@pytest.mark.parametrize(
    "mask", [Mask(), Mask(causal=True, window=7), PACKED], ids=["full", "window", "packed"]
)
def test_many_rows_are_handled_in_a_loop(mask, monkeypatch):
    """Two blocks of 6 queries under a causal mask, one of 12 without; 3 at a time."""
    monkeypatch.setattr(softmax_attention, "QUERY_BLOCK", 3)
    monkeypatch.setattr(softmax_attention, "MAX_BLOCKS", 2)
    monkeypatch.setattr(softmax_attention, "LONG_ROW", 3)
    args, dy = arrays(2)
    ours = lambda q, k, v, bias: attend(q, KeysValues(k, v), mask, bias)  # noqa: E731
    behind = np.arange(T)[:, None] - np.arange(T)[None, :]
    outside = jnp.asarray(behind >= (mask.window or T))
    agree(
        ours,
        lambda q, k, v, bias: formula(q, k, v, jnp.where(outside, -1e30, bias), mask),
        args,
        dy,
    )
    program = str(jax.make_jaxpr(lambda q, k, v: ours(q, k, v, None))(*args[:3]))
    assert "scan[" in program and f"{T},{T}]" not in program


def test_keys_before_every_querys_window_are_not_computed():
    """Blocks of 5 queries and a window of 3: the second block starts 2 keys before its first."""
    mask = Mask(causal=True, window=3)
    blocks = softmax_attention.query_blocks(T, T, mask)
    assert blocks == [(0, 5, 0, 5), (5, 10, 3, 10), (10, 12, 8, 12)]
    longer = Mask(causal=True, window=30)
    assert softmax_attention.query_blocks(T, T, longer) == [
        (0, 5, 0, 5),
        (5, 10, 0, 10),
        (10, 12, 0, 12),
    ]
    # Decoding, the mask alone says so: the query of slot 6 sees slots 4, 5 and 6.
    seen = mask.replace(first_query=jnp.int32(6)).dense((0, 1), (0, 9))
    assert np.flatnonzero(seen).tolist() == [4, 5, 6]


def test_cross_attention_to_fewer_slots():
    args, dy = arrays(slots=7)
    agree(
        lambda q, k, v, bias: attend(q, KeysValues(k, v), Mask(), bias),
        lambda *args: formula(*args, Mask()),
        args,
        dy,
    )


def test_without_a_bias():
    (q, k, v, bias), dy = arrays()
    mask = Mask(causal=True)
    agree(
        lambda q, k, v: attend(q, KeysValues(k, v), mask),
        lambda q, k, v: formula(q, k, v, jnp.zeros_like(bias), mask),
        (q, k, v),
        dy,
    )


def test_dropout_has_the_gradient_of_what_it_computed():
    """The output is linear in the values: its gradient must use the same draw."""
    (q, k, v, _), dy = arrays()
    dropout, key = Dropout(0.5), jax.random.key(3)

    @jax.jit
    def ours(q, k, v):
        return attend(q, KeysValues(k, v), Mask(causal=True), None, dropout, key)

    y, (dq, dk, dv) = with_gradients(ours, (q, k, v), dy)
    np.testing.assert_allclose(jnp.vdot(dv, v), jnp.vdot(y, dy), rtol=1e-4)
    step = 1e-3 * jax.random.normal(jax.random.key(4), q.shape)
    change = (ours(q + step, k, v) - ours(q - step, k, v)) / 2
    np.testing.assert_allclose(jnp.vdot(change, dy), jnp.vdot(dq, step), rtol=1e-2)
    change = (ours(q, k + step, v) - ours(q, k - step, v)) / 2
    np.testing.assert_allclose(jnp.vdot(change, dy), jnp.vdot(dk, step), rtol=1e-2)


def test_a_query_that_may_attend_to_nothing_gets_the_mean_and_gives_no_gradient():
    (q, k, v, _), dy = arrays()
    nothing = Mask(key_valid_bs=jnp.array([[True] * T, [False] * T]))
    ours = lambda q, k, v: attend(q, KeysValues(k, v), nothing)  # noqa: E731
    y, gradients = with_gradients(ours, (q, k, v), dy)
    np.testing.assert_allclose(
        y[1], jnp.broadcast_to(v[1].mean(1, keepdims=True), y[1].shape), atol=1e-6
    )
    for gradient in gradients:
        assert np.all(np.asarray(gradient[1]) == 0)
        assert np.any(np.asarray(gradient[0]) != 0)


def test_bfloat16_scores_are_float32():
    """Two scores, 256 and 257, are one number in bfloat16: softmax must tell them apart."""
    q = jnp.ones((1, 1, 1, 2), jnp.bfloat16)
    k = jnp.array([[256, 0], [256, 1]], jnp.bfloat16)[None, None]
    v = jnp.array([[0], [1]], jnp.bfloat16)[None, None]
    y = attend(q, KeysValues(k, v), Mask())
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(y[0, 0, 0, 0]), 1 / (1 + np.exp(-1)), atol=4e-3)


@pytest.mark.parametrize("mask", [Mask(), PACKED, Mask(causal=True, window=3)])
def test_attention_weights_are_those_of_the_result(mask):
    """Of grouped heads, which share their values."""
    (q, k, v, bias), _ = arrays(kv_heads=2)
    weights = softmax_attention.attention_weights(q, KeysValues(k, v), mask, bias)
    values = jnp.repeat(v, H // 2, axis=1)
    ours = attend(q, KeysValues(k, v), mask, bias)
    np.testing.assert_allclose(weights @ values, ours, atol=2e-5)


def test_a_copy_of_a_bias_serves_as_many_rows_as_there_are_for_it():
    (q, k, v, bias), dy = arrays(bias_rows=2)
    q, k, v, dy = (jnp.concatenate([x, x[::-1]]) for x in (q, k, v, dy))

    def ours(q, k, v, bias):
        return attend(q, KeysValues(k, v), PACKED_TWICE, bias)

    def theirs(q, k, v, bias):
        return formula(q, k, v, jnp.repeat(bias, 2, axis=0), PACKED_TWICE)

    agree(ours, theirs, (q, k, v, bias), dy)


@pytest.mark.parametrize("mask", [PACKED, Mask(key_valid_bs=SEGMENTS != 2)], ids=["packed", "pad"])
def test_on_tpus_one_block_is_differentiated_as_it_stands(mask, monkeypatch):
    monkeypatch.setattr(softmax_attention, "QUERY_BLOCK", 128)
    monkeypatch.setattr(mesh_context, "platform", lambda: "tpu")
    assert softmax_attention.is_plain(T, T, mask)
    (q, k, v, bias), dy = arrays(kv_heads=2)

    def ours(q, k, v, bias):
        return attend(q, KeysValues(k, v), mask, bias)

    agree(ours, functools.partial(formula, mask=mask), (q, k, v, bias), dy)
    # A query that may attend to nothing passes no gradient, as elsewhere.
    nothing = Mask(key_valid_bs=jnp.zeros((B, T), bool))
    unseen = lambda v: attend(q, KeysValues(k, v), nothing, bias)  # noqa: E731
    assert not with_gradients(unseen, (v,), dy)[1][0].any()
    jax.clear_caches()
