"""Accelerators' kernels against our own blocks, and which of them is chosen."""

import logging
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import mesh_context
from models.layers.attention import kernels
from models.layers.attention.kernels import LANES, choose, cudnn, splash
from models.layers.attention.masks import Mask
from models.layers.attention.softmax_attention import KeysValues, attend

B, H, G, T, D = 1, 2, 1, 2 * LANES, 64

TEXTS = jnp.where(jnp.arange(T) < 100, 1, 2)[None]
PACKED = Mask(causal=True, query_segments_bt=TEXTS, key_segments_bs=TEXTS)


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
        ("tpu", Mask(causal=True, prefix_bt=TEXTS == 1), {}, "no prefixes seen in both directions"),
        ("tpu", Mask(causal=True, first_query=jnp.int32(3)), {}, "no keys from a cache"),
        ("tpu", Mask(), {"length": 200}, "rows of 200 and 200, only multiples of 128"),
        ("tpu", Mask(), {"units": 80}, "heads of 80 units"),
        ("gpu", Mask(causal=True), {"dtype": jnp.bfloat16}, "cuDNN's attention, on gpu"),
        ("gpu", Mask(causal=True), {}, "no products of float32"),
        ("gpu", PACKED, {"dtype": jnp.bfloat16}, "no packed segments"),
        ("cpu", Mask(causal=True), {}, "in blocks, on cpu"),
    ],
)
def test_the_choice_has_a_reason(platform, mask, options, expected, monkeypatch):
    monkeypatch.setattr(mesh_context, "platform", lambda: platform)
    q, keys_values, _ = jax.eval_shape(lambda: arrays(**options))
    kernel, reason = choose(q, keys_values, mask, has_bias=False, has_dropout=False)
    assert expected in reason
    assert (kernel is None) == reason.startswith("in blocks")


def test_no_kernel_is_chosen_where_the_scores_have_a_bias(monkeypatch):
    monkeypatch.setattr(mesh_context, "platform", lambda: "tpu")
    q, keys_values, _ = jax.eval_shape(arrays)
    kernel, reason = choose(q, keys_values, PACKED, has_bias=True, has_dropout=False)
    assert kernel is None
    assert reason == "in blocks, because splash attention has no bias on the scores"


def test_the_log_says_once_what_was_chosen(caplog):
    kernels._say.cache_clear()
    q, keys_values, _ = arrays(length=24)
    with caplog.at_level(logging.INFO, "models"):
        for _ in range(2):
            jax.make_jaxpr(lambda: kernels.attend(q, keys_values, Mask()))()
    assert caplog.messages == ["attention (1, 2, 24, 64) float32: in blocks, on cpu"]


@pytest.mark.slow
def test_splash_attention_compiles_for_a_tpu_that_is_not_here():
    pytest.importorskip("libtpu")
    from jax.experimental import topologies

    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5p:2x2x2")
    mesh = jax.sharding.Mesh(np.array(topology.devices).reshape(4, 2), ("data", "tensor"))
    shape = jax.ShapeDtypeStruct((8, H, T, D), jnp.bfloat16)
    q, keys_values = shape, KeysValues(shape, shape)

    def loss(q, keys_values):
        return kernels.attend(q, keys_values, Mask(causal=True)).sum()

    rules = (("batch", "data"), ("heads", "tensor"))
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
        compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(q, keys_values).compile()
    assert "splash" in compiled.as_text()
