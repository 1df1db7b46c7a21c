"""The kernels' programs, interpreted, against the plain implementation."""

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import mesh_context
from models.layers.attention import kernels, softmax_attention
from models.layers.attention.distances import DistanceBias, DistanceScores, dense
from models.layers.attention.flash import attend, cost, plan, tiles
from models.layers.attention.flash.operands import Operands
from models.layers.attention.masks import Mask
from models.layers.attention.softmax_attention import KeysValues, attention_weights
from models.layers.dropout import Dropout
from tests.models.families import WRITERS, batch_for, drawn

B, H, T, D = 2, 2, 200, 16

TEXTS = jnp.where(jnp.arange(T) < 90, 1, jnp.where(jnp.arange(T) < 170, 2, 0))[None]
TEXTS = jnp.concatenate([TEXTS, TEXTS[:, ::-1]])
PACKED = {"query_segments_bt": TEXTS, "key_segments_bs": TEXTS}
MASKS = {
    "full": Mask(),
    "causal": Mask(causal=True),
    "window": Mask(causal=True, window=70),
    "packed": Mask(causal=True, **PACKED),
    "padded": Mask(key_valid_bs=TEXTS > 0),
    # Each text has keys that count: what sees nothing is another test.
    "packed and padded": Mask(key_valid_bs=jnp.arange(T)[None] % 3 > 0, **PACKED),
    "prefix": Mask(causal=True, prefix_bt=TEXTS == 1, **PACKED),
    "cache": Mask(causal=True, first_query=jnp.int32(60)),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that 200 queries are two blocks, of which one is filled up."""
    monkeypatch.setattr(plan, "MOST", 128)
    monkeypatch.setattr(plan, "MOST_OF_VECTORS", 128)


def arrays(dtype, queries, keys, groups, units=D):
    """q, k, v, the gradient of the result, and what makes biases: of distances and of vectors."""
    shapes = [(B, H, queries, units), (B, groups, keys, units), (B, groups, keys, units)]
    distances = queries + keys - 1
    shapes += [(B, H, queries, units), (H, distances), (distances, H, units)]
    shapes += [(B, H, queries, units)]
    draws = jax.random.split(jax.random.key(0), len(shapes))
    q, k, v, dy, values, vectors, scorers = (
        jax.random.normal(key, shape, dtype) for key, shape in zip(draws, shapes, strict=True)
    )
    return q * units**-0.5, k, v, dy, (values, vectors, scorers * units**-0.5)


def bias_of(kind, of_bias, mask, queries):
    values, vectors, scorers = of_bias
    if kind == "bias":
        return DistanceBias(values.astype(jnp.float32)[None], queries)
    return DistanceScores(scorers, vectors, mask) if kind == "vectors" else None


def agree(mask, kind, *, dtype=jnp.float32, groups=H, queries=T, keys=T, units=D, tolerance=2e-5):
    *qkv, dy, of_bias = arrays(dtype, queries, keys, groups, units)

    def ours(q, k, v, of_bias):
        bias = bias_of(kind, of_bias, mask, queries)
        return attend.attend(q, KeysValues(k, v), mask, bias, interpret=True)

    def plain(q, k, v, of_bias):
        bias = dense(bias_of(kind, of_bias, mask, queries))
        return softmax_attention.attend(q, KeysValues(k, v), mask, bias)

    @jax.jit
    def both(dy, *args):
        pairs = (jax.vjp(function, *args) for function in (ours, plain))
        return [(y, pull(dy)) for y, pull in pairs]

    found, expected = both(dy, *qkv, of_bias)

    def close(a, b):
        a, b = (np.asarray(x, np.float32) for x in (a, b))
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, np.abs(b).max()), rtol=0)

    jax.tree.map(close, found, expected)


def test_a_packed_row_with_a_bias_and_shared_keys():
    """Outputs, and the gradients of queries, keys, values and biases."""
    agree(MASKS["packed"], "bias", groups=1)


def test_a_row_of_another_length_than_its_keys():
    agree(MASKS["padded"], None, queries=40)


def test_vectors_of_distances_in_a_window():
    agree(MASKS["window"], "vectors", queries=130, keys=130)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [None, "bias", "vectors"])
@pytest.mark.parametrize("name", MASKS)
def test_every_mask_with_every_bias(name, kind):
    agree(MASKS[name], kind, queries=T - 70 if name == "cache" else T)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [None, "bias", "vectors"])
def test_in_bfloat16_the_gradients_differ_by_its_rounding(kind):
    agree(MASKS["packed"], kind, dtype=jnp.bfloat16, groups=1, tolerance=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("units", [40, 96, 128])
def test_heads_of_any_size(units):
    agree(MASKS["causal"], "bias", units=units)


def test_a_query_that_sees_nothing_gets_zero_and_passes_no_gradient():
    q, k, v, dy, _ = arrays(jnp.float32, 20, 20, H)
    mask = Mask(key_valid_bs=jnp.arange(20)[None] < jnp.array([[20], [0]]))

    @jax.jit
    def with_gradients(q, k, v, dy):
        ours = lambda q, k, v: attend.attend(q, KeysValues(k, v), mask, interpret=True)  # noqa: E731
        y, pull = jax.vjp(ours, q, k, v)
        return y, *pull(dy)

    y, *gradients = with_gradients(q, k, v, dy)
    assert np.abs(y[0]).min() > 0
    for x in (y, *gradients):
        assert not np.asarray(x[1]).any() and np.isfinite(x).all()


@pytest.mark.parametrize(
    "shared_axes", [(), pytest.param((-2,), marks=pytest.mark.slow)], ids=["apart", "shared"]
)
def test_dropped_weights_are_those_of_their_draws(shared_axes):
    """Against all weights, multiplied by the draws of each row, head and pair of slots."""
    t = 130
    *qkv, dy, of_bias = arrays(jnp.float32, t, t, H)
    mask, dropout, key = Mask(causal=True), Dropout(0.25, shared_axes), jax.random.key(5)
    seeds = jax.lax.bitcast_convert_type(jax.random.bits(key, (B, H, 1, 1)), jnp.int32)
    slots = jnp.arange(t, dtype=jnp.int32)
    queries = slots[None] * (not shared_axes)
    draw = jax.vmap(jax.vmap(lambda seed: tiles.kept(seed, slots[:, None], queries, 16384)))
    factors = draw(seeds).swapaxes(2, 3) / 0.75

    def ours(q, k, v, of_bias):
        bias = bias_of("bias", of_bias, mask, t)
        keys_values = KeysValues(k, v)
        return attend.attend(q, keys_values, mask, bias, dropout, key, interpret=True)

    def plain(q, k, v, of_bias):
        weights = attention_weights(q, KeysValues(k, v), mask, bias_of("bias", of_bias, mask, t))
        return jnp.einsum("bhts,bhsd->bhtd", weights * factors, v)

    @jax.jit
    def both(dy, *args):
        pairs = (jax.vjp(function, *args) for function in (ours, plain))
        return [(y, pull(dy)) for y, pull in pairs]

    found, expected = both(dy, *qkv, of_bias)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)


def operands(queries, keys, **others):
    shape = jax.ShapeDtypeStruct
    size, of_bias = plan.block_size(queries, 128), jnp.float32
    windows = -(-queries // size) - (-keys // size) - 1
    return Operands(
        queries=shape((B, H, 64, queries), jnp.bfloat16),
        keys=shape((B, H, 64, keys), jnp.bfloat16),
        values=shape((B, H, 64, keys), jnp.bfloat16),
        windows=shape((H, windows, 1, 2 * size), of_bias),
        **others,
    )


def test_the_cost_of_one_block_is_that_of_its_products_and_arrays():
    whole = plan.Plan(128, 128, 128, 128)
    forward, backward = (
        f(operands(128, 128), whole) for f in (cost.forward_cost, cost.backward_cost)
    )
    product = 2 * B * H * 128 * 128 * 64
    assert (forward.flops, backward.flops) == (2 * product, 5 * product)
    array, normalisers, windows = B * H * 128 * 64 * 2, B * H * 128 * 4, H * 256 * 4
    # Queries, keys, values and results; again with gradients, and what the results' are made of.
    assert forward.bytes_accessed == 4 * array + normalisers + windows
    assert backward.bytes_accessed == 7 * array + 2 * normalisers + 2 * windows


def test_hidden_blocks_cost_nothing_and_others_are_read_for_each_that_sees_them():
    causal = plan.Plan(512, 512, 128, 128, causal=True)
    full = dataclasses.replace(causal, causal=False)
    of_both = operands(512, 512)._replace(windows=None)
    hidden, seen = (cost.forward_cost(of_both, p) for p in (causal, full))
    assert hidden.flops * 16 == seen.flops * 10
    array, normalisers = B * H * 512 * 64 * 2, B * H * 512 * 4
    assert seen.bytes_accessed == 2 * array + normalisers + 4 * 2 * array


def test_what_the_kernels_lack_is_said():
    q = jax.ShapeDtypeStruct((1, 1, 2**15, 64), jnp.bfloat16)
    keys_values = KeysValues(q, q)
    found = [what for needed, what in attend.lacks(q, keys_values, Mask(), None) if needed]
    assert found == ["rows of 32768, only up to 16384"]
    dense_bias = jnp.zeros((1, 1, 4, 4))
    q = jax.ShapeDtypeStruct((1, 1, 4, 64), jnp.bfloat16)
    found = [what for needed, what in attend.lacks(q, keys_values, Mask(), dense_bias) if needed]
    assert found == ["bias of each pair"]


@pytest.mark.slow
def test_divided_over_devices_it_draws_and_computes_the_same():
    """Rows over 2 devices by heads over 4; the bias's gradient is summed over the rows."""
    command = [sys.executable, str(Path(__file__).with_name("devices_worker.py"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    differences = [float(line) for line in found.stdout.split()]
    assert len(differences) == 6 and max(differences) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5_1_1", "lamda", "gopher", "transformer_xl"])
def test_a_model_computes_what_it_does_without_a_kernel(family, monkeypatch):
    """Its loss and all gradients, those of tables and projections of distances among them."""
    model = WRITERS[family]()
    batch, params = batch_for(model), drawn(model)

    def gradients():
        def loss(params):
            return sum(model.loss(params, batch)[0].values())

        return jax.jit(jax.value_and_grad(loss))(params)

    plain = gradients()
    said = []
    monkeypatch.setattr(kernels, "_say", said.append)
    monkeypatch.setattr(mesh_context, "platform", lambda: "tpu")
    ours = functools.partial(attend.attend, interpret=True)
    choice = ("our flash attention", ours, attend.lacks)
    monkeypatch.setattr(kernels, "_KERNELS", {"tpu": (choice,)})
    found = gradients()
    assert said and all(line.endswith("our flash attention, on tpu") for line in said)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * max(1e-2, np.abs(b).max())),
        found,
        plain,
    )
