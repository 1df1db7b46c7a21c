"""T5 whose encoder and decoder share parameters (Raffel et al. 2020, table 2)."""

import jax
import numpy as np
import pytest
from flax import traverse_util
from jax.sharding import PartitionSpec

from models.errors import ModelError
from models.hf import save_hf
from models.layers.experts.dispatch import Capacity
from models.switch import Switch
from models.t5 import T5, T5_1_1
from models.tuning import LoRA
from t5x_like.distributed.mesh import MESH_AXES
from t5x_like.partitioning import Partitioner
from tests.models.families import batch_for, drawn, t5

# Without rematerialization, which the other families' tests are of, for the compiler's time.
APART = t5(T5_1_1, remat_policy="none")
SHARED = APART.clone(share_encoder_decoder=True)
# One layer, by hand: four products of 24 x 24 and three of 24 x 40, and the norms of both.
ATTENTION, MLP, NORM = 4 * 24 * 24, 3 * 24 * 40, 24


@pytest.fixture(scope="module")
def params():
    return drawn(SHARED)


def names(params):
    return set(traverse_util.flatten_dict(params, sep="/"))


def test_the_tree_has_one_copy_as_the_encoders(params):
    found = names(params)
    shared = {name for name in names(drawn(APART)) if name.startswith("decoder/")} - found
    kept = {name.removeprefix("decoder/") for name in found if name.startswith("decoder/")}
    cross = {f"stack/layers/cross_attention/{x}/kernel" for x in ("query", "key", "value", "out")}
    own = {"stack/layers/cross_attention_norm/scale", "final_norm/scale"}
    assert kept == cross | own | {"relative_position_bias/embedding"}
    assert all(name.replace("decoder/", "encoder/") in found for name in shared)


def test_parameters_are_counted_once_and_flops_as_often_as_they_are_used():
    assert APART.parameter_count() - SHARED.parameter_count() == 2 * (ATTENTION + MLP + 2 * NORM)
    shapes = {name: x.shape for name, x in batch_for(APART).items()}
    assert SHARED.forward_flops(shapes) == APART.forward_flops(shapes)


def test_of_experts_too_there_is_one_copy():
    apart, shared = (
        t5(Switch, num_experts=4, dispatch=Capacity(4.0, 4.0), share_encoder_decoder=sharing)
        for sharing in (False, True)
    )
    experts, router = 4 * MLP, 24 * 4
    once = ATTENTION + 2 * NORM
    assert apart.parameter_count() - shared.parameter_count() == 2 * once + MLP + experts + router
    # Of four experts one is met.
    assert shared.parameter_count() - shared.active_parameter_count() == 3 * MLP


@pytest.mark.slow
def test_gradients_are_the_sums_of_both_uses(params):
    """Against a model of the same weights in two copies."""
    batch = batch_for(SHARED)
    whole = SHARED.params_in_use(params)
    assert names(whole) == names(drawn(APART))
    loss = lambda model: lambda params: model.loss(params, batch)[0]["loss"]  # noqa: E731
    value, found = jax.jit(jax.value_and_grad(loss(SHARED)))(params)
    apart_value, apart = jax.jit(jax.value_and_grad(loss(APART)))(whole)
    np.testing.assert_allclose(value, apart_value, rtol=1e-6)
    found, apart = (traverse_util.flatten_dict(tree, sep="/") for tree in (found, apart))
    copied = apart.keys() - found.keys()
    assert len(copied) == 9
    for name in copied:
        apart[name.replace("decoder/", "encoder/")] += apart.pop(name)
    for name, gradient in found.items():
        assert np.abs(gradient).max() > 0, name
        np.testing.assert_allclose(gradient, apart[name], rtol=2e-5, atol=2e-4, err_msg=name)


@pytest.mark.slow
def test_decoding_with_a_cache_is_the_whole_row(params):
    batch = batch_for(SHARED, length=4)
    expected = jax.jit(SHARED.logits)(params, batch)
    tokens = batch.pop("decoder_input_tokens")
    laid_out = SHARED.decoding_params(params)
    empty = jax.jit(lambda params: SHARED.init_cache(params, batch, 4))(laid_out)
    step, cache = jax.jit(SHARED.decode_step), empty
    for i in range(4):
        logits, cache = step(laid_out, cache, tokens[:, i])
        np.testing.assert_allclose(logits, expected[:, i], rtol=1e-4, atol=1e-4)
    # From the trained tree, whose layers are stacked.
    logits, _ = jax.jit(SHARED.extend)(params, empty, tokens)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_mesh_divides_the_one_copy(params):
    partitioner = Partitioner(replicate_below=0)
    # A mesh of shapes only: rules need no devices.
    sizes = [2 if name in ("fsdp", "tensor") else 1 for name in MESH_AXES]
    partitioner.__dict__["mesh"] = jax.sharding.AbstractMesh(tuple(sizes), MESH_AXES)
    shardings = partitioner.param_shardings(t5(T5_1_1, share_encoder_decoder=True, num_heads=4))
    assert names(shardings) == names(params)
    kernel = shardings["encoder"]["stack"]["layers"]["mlp"]["wi_0"]["kernel"]
    assert kernel.spec == PartitionSpec(None, "fsdp", "tensor")


def test_a_tuning_adds_to_what_is_shared_once():
    tuned = t5(T5_1_1, share_encoder_decoder=True, tuning=LoRA(rank=2))
    of_lora = {name.rpartition("/")[0] for name in names(drawn(tuned)) if "lora_a" in name}
    encoder, decoder = "encoder/stack/layers/self_attention", "decoder/stack/layers/cross_attention"
    assert of_lora == {f"{side}/{x}" for side in (encoder, decoder) for x in ("query", "value")}
    with pytest.raises(ModelError, match=r"'decoder/.*mlp' matches no parameter"):
        t5(
            T5_1_1, share_encoder_decoder=True, tuning=LoRA(trained=["decoder/.*mlp"])
        ).abstract_params()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_decoder_layers": 3}, r"num_encoder_layers, 2, and num_decoder_layers, 3, must be"),
        ({"bias_per_layer": True}, r"T5.share_encoder_decoder is True: bias_per_layer must be"),
    ],
)
def test_sides_that_cannot_share_are_refused(options, message):
    with pytest.raises(ModelError, match=message):
        t5(T5, share_encoder_decoder=True, **options)


def test_hugging_faces_form_has_no_place_for_it(tmp_path):
    with pytest.raises(
        ModelError, match=r"^T5_1_1.share_encoder_decoder = True cannot be expressed .*'t5'"
    ):
        save_hf(SHARED, {}, tmp_path / "out")
    assert not list(tmp_path.iterdir())
