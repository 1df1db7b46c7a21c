"""Accelerators' kernels against our own blocks, and which of them is chosen."""

import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import mesh_context
from models.layers.attention import kernels
from models.layers.attention.distances import DistanceBias, DistanceScores
from models.layers.attention.kernels import LANES, choose, cudnn, splash
from models.layers.attention.masks import Mask
from models.layers.attention.softmax_attention import KeysValues, attend
from models.layers.dropout import Dropout

B, H, G, T, D = 1, 2, 1, 2 * LANES, 64

TEXTS = jnp.where(jnp.arange(T) < 100, 1, 2)[None]
PACKED = Mask(causal=True, query_segments_bt=TEXTS, key_segments_bs=TEXTS)
OURS = "our flash attention, because splash attention has no"


def arrays(dtype=jnp.float32, heads=G, length=T, units=D):
    keys = jax.random.split(jax.random.key(0), 4)
    q, dy = (jax.random.normal(k, (B, H, length, units), dtype) for k in keys[:2])
    k, v = (jax.random.normal(k, (B, heads, length, units), dtype) for k in keys[2:])
    return q * units**-0.5, KeysValues(k, v), dy


def agree(kernel, mask):
    q, keys_values, dy = arrays()

    @jax.jit
    def both(q, keys_values, dy):
        ours, pull_ours = jax.vjp(lambda q, kv: kernel(q, kv, mask), q, keys_values)
        theirs, pull_theirs = jax.vjp(lambda q, kv: attend(q, kv, mask), q, keys_values)
        return (ours, *pull_ours(dy)), (theirs, *pull_theirs(dy))

    ours, theirs = both(q, keys_values, dy)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), ours, theirs)


@pytest.mark.parametrize(
    "mask",
    [Mask(causal=True, window=70), PACKED, Mask(key_valid_bs=TEXTS == 1)],
    ids=["window", "packed", "padded"],
)
def test_splash_attention_agrees_with_our_blocks(mask):
    """Its program, interpreted; two query heads share one head of keys."""
    agree(lambda q, kv, mask: splash(q, kv, mask, interpret=True), mask)


@pytest.mark.parametrize("mask", [Mask(), Mask(causal=True, window=70)], ids=["full", "window"])
def test_what_cudnn_is_asked_for_is_what_our_blocks_compute(mask):
    agree(lambda q, kv, mask: cudnn(q, kv, mask, implementation="xla"), mask)


@pytest.mark.parametrize(
    ("platform", "mask", "options", "expected"),
    [
        ("tpu", PACKED, {}, "splash attention, on tpu"),
        ("tpu", Mask(causal=True, prefix_bt=TEXTS == 1), {}, f"{OURS} prefixes seen in both"),
        ("tpu", Mask(causal=True, first_query=jnp.int32(3)), {}, f"{OURS} keys from a cache"),
        ("tpu", Mask(), {"length": 200}, f"{OURS} rows of 200 and 200, only multiples of 128"),
        ("tpu", Mask(), {"units": 80}, f"{OURS} heads of 80 units"),
        ("tpu", Mask(), {"length": 1}, "our flash attention has no rows of one token"),
        ("gpu", Mask(causal=True), {"dtype": jnp.bfloat16}, "cuDNN's attention, on gpu"),
        ("gpu", Mask(causal=True), {}, "no products of float32"),
        ("gpu", PACKED, {"dtype": jnp.bfloat16}, "no packed segments"),
        ("cpu", Mask(causal=True), {}, "in blocks, on cpu"),
    ],
)
def test_the_choice_has_a_reason(platform, mask, options, expected, monkeypatch):
    monkeypatch.setattr(mesh_context, "platform", lambda: platform)
    q, keys_values, _ = jax.eval_shape(lambda: arrays(**options))
    kernel, reason = choose(q, keys_values, mask)
    assert expected in reason
    assert (kernel is None) == reason.startswith("in blocks")


def test_tpus_before_v4_have_no_kernel_of_bfloat16(monkeypatch):
    monkeypatch.setattr(mesh_context, "device_kind", lambda: "TPU v3")
    kernel, reason = choose(*jax.eval_shape(lambda: arrays(dtype=jnp.bfloat16))[:2], PACKED)
    assert kernel is None
    assert reason.endswith("our flash attention has no products of bfloat16 on TPU v3")
    kernel, _ = choose(*jax.eval_shape(arrays)[:2], PACKED)
    assert kernel is splash


@pytest.mark.parametrize(
    ("platform", "bias", "has_dropout", "expected"),
    [
        ("tpu", DistanceBias(jnp.zeros((1, H, 2 * T - 1)), T), False, f"{OURS} bias on the scores"),
        ("tpu", None, True, f"{OURS} dropout of the weights"),
        ("tpu", jnp.zeros((1, H, T, T)), False, "our flash attention has no bias of each pair"),
        ("gpu", jnp.zeros((1, H, T, T)), False, "cuDNN's attention has no bias on the scores"),
    ],
)
def test_what_is_added_and_dropped_decides(platform, bias, has_dropout, expected, monkeypatch):
    monkeypatch.setattr(mesh_context, "platform", lambda: platform)
    q, keys_values, _ = jax.eval_shape(lambda: arrays(dtype=jnp.bfloat16))
    kernel, reason = choose(q, keys_values, PACKED, bias, has_dropout=has_dropout)
    assert expected in reason
    assert (kernel is None) == reason.startswith("in blocks")


def test_the_log_says_once_what_was_chosen(caplog):
    kernels._say.cache_clear()
    q, keys_values, _ = arrays(length=24)
    with caplog.at_level(logging.INFO, "models"):
        for _ in range(2):
            jax.make_jaxpr(lambda: kernels.attend(q, keys_values, Mask()))()
    assert caplog.messages == ["attention (1, 2, 24, 64) float32: in blocks, on cpu"]


@pytest.fixture
def chips(monkeypatch):
    """Topologies of TPUs that are not here."""
    pytest.importorskip("libtpu")
    from jax.experimental import topologies

    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost")

    def devices(name):
        return np.array(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)

    return devices


def compiled(loss, devices, *args):
    """The gradient's program on four data-parallel devices by two that divide the heads."""
    mesh = jax.sharding.Mesh(devices.reshape(4, 2), ("data", "tensor"))
    rules = (("batch", "data"), ("heads", "tensor"))
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
        lowered = jax.jit(jax.grad(loss, argnums=tuple(range(len(args))))).lower(*args)
        return lowered.compile().as_text()


@pytest.mark.slow
def test_splash_attention_compiles_for_a_tpu_that_is_not_here(chips):
    shape = jax.ShapeDtypeStruct((8, H, T, D), jnp.bfloat16)

    def loss(q, keys_values):
        return kernels.attend(q, keys_values, Mask(causal=True)).sum()

    assert "splash" in compiled(loss, chips("v5p:2x2x2"), shape, KeysValues(shape, shape))


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v4:2x2x2", "v5e:2x4", "v5p:2x2x2", "v6e:2x4"])
@pytest.mark.parametrize(
    ("dtype", "length", "units"), [(jnp.bfloat16, 512, 64), (jnp.float32, 300, 80)]
)
def test_our_flash_attention_compiles_for_tpus(topology, dtype, length, units, chips):
    """With relative positions of both kinds, packed texts, a prefix and dropout."""
    shape = jax.ShapeDtypeStruct((8, H, length, units), dtype)
    values = jax.ShapeDtypeStruct((H, 2 * length - 1), jnp.float32)
    vectors = jax.ShapeDtypeStruct((2 * length - 1, H, units), dtype)
    texts = jnp.arange(length)[None] // 100 * jnp.ones((8, 1), jnp.int32)
    segments = {"query_segments_bt": texts, "key_segments_bs": texts}

    def loss(q, keys_values, values, vectors):
        causal = Mask(causal=True, **segments)
        prefix = Mask(causal=True, prefix_bt=texts == 0, **segments)
        scores = DistanceScores(q, vectors, causal)
        key = jax.random.key(0)
        y = kernels.attend(
            q, keys_values, prefix, DistanceBias(values[None], length), Dropout(0.1), key
        )
        y += kernels.attend(q, keys_values, causal, scores)
        return y.astype(jnp.float32).sum()

    args = (shape, KeysValues(shape, shape), values, vectors)
    text = compiled(loss, chips(topology), *args)
    assert "flash_attention_forward" in text and "flash_attention_backward" in text
    # Nothing holds a score for each pair: 4 rows and 1 head are a device's.
    assert f"{length},{length}]" not in text
