"""Products of 8 bits beside the same by NumPy: scales, rounding, and which products are meant."""

import importlib.util

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import linen as nn

from models.errors import ModelError
from models.layers import quantization
from models.layers.linear import Linear, normal
from models.layers.quantization import Quantization
from models.llama import LLaMA
from models.recurrent import RecurrentLM
from models.switch import Switch
from models.tuning import LoRA
from tests.models.families import decoder, t5

E4M3, E5M2 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2


def rounded(array, numbers, axis):
    """Each value as what 8 bits hold of it, with one scale along the axis."""
    if numbers is None:
        return array
    largest = np.abs(array).max(axis=axis, keepdims=True)
    if numbers is np.int8:
        scale = largest / 127.5
        return np.clip(np.rint(array / scale), -128, 127) * scale
    scale = largest / float(ml_dtypes.finfo(numbers).max)
    return (array / scale).astype(numbers).astype(np.float32) * scale


def factors(*shapes):
    """Rows of very different sizes, which a single scale would lose.

    The largest of each row and column is positive: 127.5 becomes 127, whether it is rounded up or
    down, and -127.5 becomes -127 or -128 by the last bit of a ratio.
    """
    rng = np.random.default_rng(0)
    found = []
    for shape in shapes:
        array = rng.normal(size=shape) * np.exp(3 * rng.normal(size=(shape[-2], 1)))
        for axis in (-1, -2):
            largest = np.abs(array) == np.abs(array).max(axis=axis, keepdims=True)
            array = np.where(largest, np.abs(array), array)
        found.append(array.astype(np.float32))
    return found


@pytest.mark.parametrize("numbers", ["int8", "fp8"])
@pytest.mark.parametrize("in_backward", [(False, False), (True, False), (True, True)])
def test_products_are_those_of_rounded_factors(numbers, in_backward):
    values, gradients = (np.int8, np.int8) if numbers == "int8" else (E4M3, E5M2)
    x, kernel, dy = factors((6, 16), (16, 4), (6, 4))
    y, pull = jax.vjp(Quantization(numbers, *in_backward).product, x, kernel)
    dx, dkernel = pull(jnp.asarray(dy))

    by_input = (gradients, values) if in_backward[0] else (None, None)
    by_weight = (gradients, values) if in_backward[1] else (None, None)
    np.testing.assert_allclose(y, rounded(x, values, 1) @ rounded(kernel, values, 0), rtol=1e-5)
    expected = rounded(dy, by_input[0], 1) @ rounded(kernel, by_input[1], 1).T
    np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    expected = rounded(x, by_weight[1], 0).T @ rounded(dy, by_weight[0], 0)
    np.testing.assert_allclose(dkernel, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_each_matrix_of_a_batch_is_by_itself():
    x, kernel, dy = factors((3, 6, 16), (3, 16, 4), (3, 6, 4))
    product = Quantization(weight_gradients=True).product
    y, pull = jax.vjp(product, x, kernel)
    for i, found in enumerate(zip(y, *pull(jnp.asarray(dy)), strict=True)):
        alone, pull_alone = jax.vjp(product, x[i], kernel[i])
        for one, other in zip(found, (alone, *pull_alone(jnp.asarray(dy[i]))), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_sum_over_devices_has_scales_of_each():
    """Of halves of the inputs in the forward pass, and of the outputs for the input's gradient."""
    of_x, of_dy = factors((6, 8), (6, 8)), factors((6, 2), (6, 2))
    quarters = factors(*[(8, 2)] * 4)
    x, kernel, dy = np.block([of_x]), np.block([quarters[:2], quarters[2:]]), np.block([of_dy])
    y, pull = jax.vjp(lambda *of: Quantization().product(*of, (2, 2)), x, kernel)
    dx, _ = pull(jnp.asarray(dy))
    halves = zip(np.split(x, 2, 1), np.split(kernel, 2, 0), strict=True)
    expected = sum(rounded(a, np.int8, 1) @ rounded(b, np.int8, 0) for a, b in halves)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    halves = zip(np.split(dy, 2, 1), np.split(kernel, 2, 1), strict=True)
    expected = sum(rounded(a, np.int8, 1) @ rounded(b, np.int8, 1).T for a, b in halves)
    np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_a_layer_says_which_of_its_units_are_divided():
    """The inputs over two devices; the matrix's rows over two others are gathered before."""
    mesh = jax.sharding.AbstractMesh((2, 2), ("fsdp", "tensor"))
    rules = (("batch", "fsdp"), ("embed", "fsdp"), ("mlp", "tensor"), ("length", None))
    for axes, shards in ((("mlp", "embed"), (2, 1)), (("embed", "mlp"), (1, 2))):
        layer = Linear(8, axes, normal(1.0))
        with jax.sharding.use_abstract_mesh(mesh), nn.logical_axis_rules(rules):
            assert layer._shards() == shards
        assert layer._shards() == (1, 1)


def test_rows_of_zeros_stay_zeros():
    x = jnp.zeros((2, 8)).at[0].set(1.0)
    y, pull = jax.vjp(Quantization(weight_gradients=True).product, x, jnp.eye(8))
    np.testing.assert_array_equal(y[1], 0)
    assert all(np.isfinite(gradient).all() for gradient in pull(jnp.zeros((2, 8))))


def int8_products(model, **batch):
    """How many products of a training step are of int8, forward and backward."""
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]

    def loss(params):
        return model.loss(params, batch)[0]["loss"]

    return str(jax.make_jaxpr(jax.grad(loss))(params)).count("preferred_element_type=int32")


def tokens(*shape):
    return jnp.asarray(np.random.default_rng(0).integers(1, 61, shape))


@pytest.mark.parametrize("in_backward", [(False, False), (True, False), (True, True)])
def test_every_matrix_of_a_layer_is_meant_and_nothing_else(in_backward):
    """A LLaMA's layer has seven: four of attention, three of its MLP; the body is traced once."""
    model = decoder(
        LLaMA, mlp_dim=40, remat_policy="none", quantization=Quantization("int8", *in_backward)
    )
    batch = {"decoder_input_tokens": tokens(2, 8), "decoder_target_tokens": tokens(2, 8)}
    assert int8_products(model, **batch) == 7 * (1 + sum(in_backward))


def test_what_a_tuning_adds_is_not_meant():
    model = decoder(LLaMA, mlp_dim=40, remat_policy="none", tuning=LoRA(targets=["."]))
    model = model.clone(quantization=Quantization(input_gradients=False))
    batch = {"decoder_input_tokens": tokens(2, 8), "decoder_target_tokens": tokens(2, 8)}
    assert int8_products(model, **batch) == 7


def test_experts_with_a_capacity_are_meant():
    model = t5(Switch, num_experts=4, quantization=Quantization(input_gradients=False))
    dense = model.clone(quantization=None)
    batch = {
        "encoder_input_tokens": tokens(2, 8), "decoder_input_tokens": tokens(2, 8),
        "decoder_target_tokens": tokens(2, 8),
    }  # fmt: skip
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]

    def of(one):
        loss = jax.make_jaxpr(lambda p: one.loss(p, batch, jax.random.key(0))[0])(params)
        return str(loss).count("i8[4,")

    assert of(dense) == 0 < of(model)


def test_a_model_without_such_a_product_is_refused():
    model = RecurrentLM(
        vocab_size=61, embed_dim=8, hidden_dim=8, num_layers=1, quantization=Quantization()
    )
    with pytest.raises(ModelError, match="RecurrentLM cannot have a quantization: none of its"):
        model.init(jax.random.key(0))


def test_one_model_says_nothing_of_another():
    inner = Linear(4, (None, None), normal(1.0))
    variables = inner.init(jax.random.key(0), jnp.ones((1, 8)))
    with quantization.using(Quantization()):
        assert "i8[" in str(jax.make_jaxpr(inner.apply)(variables, jnp.ones((1, 8))))
        with quantization.using(None):
            assert "i8[" not in str(jax.make_jaxpr(inner.apply)(variables, jnp.ones((1, 8))))
    assert "i8[" not in str(jax.make_jaxpr(inner.apply)(variables, jnp.ones((1, 8))))


@pytest.mark.slow
def test_decoding_computes_what_the_whole_text_has():
    """The projections that decoding would fuse are of 8 bits, too.

    A value that is rounded the other way, for a sum in another order, costs less than 8 bits do.
    """
    model = decoder(LLaMA, mlp_dim=40, quantization=Quantization())
    params = model.init(jax.random.key(0))["params"]
    batch = {"decoder_input_tokens": tokens(2, 6)}
    whole = model.logits(params, batch)
    cost = np.abs(model.clone(quantization=None).logits(params, batch) - whole).mean()
    laid_out = model.decoding_params(params)
    cache = model.init_cache(laid_out, {"decoder_input_tokens": tokens(2, 6)[:, :1]}, 6)
    for t in range(1, 6):
        logits, cache = model.decode_step(laid_out, cache, batch["decoder_input_tokens"][:, t])
        assert np.abs(logits - whole[:, t]).mean() < 0.5 * cost


@pytest.mark.parametrize("numbers", ["int4", "", "INT8"])
def test_other_numbers_are_refused(numbers):
    with pytest.raises(
        ModelError, match=r"Quantization.numbers is .*: it must be one of int8, fp8"
    ):
        Quantization(numbers)


def test_without_qwix_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 't5x-like\[quantization\]'"):
        Quantization()
