"""Low-rank factors, adapters, and parts: what they add, what they train, how they begin."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import bert, llama, t5, tuning
from models.errors import ModelError
from models.layers.linear import Linear, normal
from tests.models.families import drawn

BATCH = {"decoder_input_tokens": jnp.arange(1, 11).reshape(2, 5)}


def small_llama(tuned=None):
    return llama.LLaMA(
        vocab_size=32, embed_dim=8, num_heads=2, num_layers=2, max_length=8, mlp_dim=12,
        tuning=tuned,
    )  # fmt: skip


def params_of(model, base=None):
    """Fresh parameters, those of `base` where it has them."""
    fresh = model.init(jax.random.key(1))["params"]

    def joined(ours, theirs):
        return {
            name: joined(one, theirs[name]) if isinstance(one, dict) and name in theirs
            else theirs.get(name, one)
            for name, one in ours.items()
        }  # fmt: skip

    return fresh if base is None else joined(fresh, base)


def names_and_shapes(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): x.shape for p, x in leaves}


@pytest.fixture(scope="module")
def base():
    return drawn(small_llama())


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params):
    return model.logits(params, BATCH)


def test_a_matrix_with_factors_by_hand():
    """x W + (alpha / rank) x A B: x (1, 2), W and A ones, B (1, -1): (3, 3) + 2 (3, -3)."""
    lora = tuning.LoRA(rank=1, alpha=2.0, targets=["."])
    linear = Linear(2, ("embed", "mlp"), normal(1.0))
    params = {
        "kernel": jnp.ones((2, 2)),
        "lora_a": jnp.ones((2, 1)),
        "lora_b": jnp.array([[1.0, -1]]),
    }
    with lora.watching():
        y = linear.apply({"params": params}, jnp.array([[1.0, 2]]))
    np.testing.assert_array_equal(y, [[9, -3]])
    np.testing.assert_array_equal(lora.merged(params)["kernel"], [[3, -1], [3, -1]])


def test_factors_are_those_of_queries_and_values(base):
    model = small_llama(tuning.LoRA(rank=3))
    added = {n: s for n, s in names_and_shapes(drawn(model)).items()
             if n not in names_and_shapes(base)}  # fmt: skip
    layer = "decoder/layers/self_attention"
    assert added == {
        f"{layer}/query/lora_a": (2, 8, 3), f"{layer}/query/lora_b": (2, 3, 8),
        f"{layer}/value/lora_a": (2, 8, 3), f"{layer}/value/lora_b": (2, 3, 8),
    }  # fmt: skip
    assert {name for name in names_and_shapes(base) | added if model.tuning.trains(name)} == set(
        added
    )
    # Rank 8 on queries and values of LLaMA 6.7B: 32 layers, 2 matrices, 2 factors of 4,096 by 8.
    large = llama.LLaMA(
        vocab_size=32000, embed_dim=4096, num_heads=32, num_layers=32, max_length=2048
    )
    tuned = large.clone(tuning=tuning.LoRA(rank=8))
    assert tuned.parameter_count() - large.parameter_count() == 4_194_304


@pytest.mark.slow
def test_a_model_begins_as_the_one_without_factors_or_adapters(base):
    expected = logits_of(small_llama(), base)
    for tuned in (tuning.LoRA(targets=["."]), tuning.Adapters(width=2)):
        model = small_llama(tuned)
        np.testing.assert_array_equal(logits_of(model, params_of(model, base)), expected)


@pytest.mark.slow
def test_merged_parameters_and_decoding_give_the_same_logits(base):
    model = small_llama(tuning.LoRA(rank=2, targets=["."]))
    params = jax.tree.map(lambda x: x + 0.05, params_of(model, base))
    merged = model.tuning.merged(params)
    assert names_and_shapes(merged) == names_and_shapes(base)
    whole = logits_of(model, params)
    assert np.abs(whole - logits_of(small_llama(), base)).max() > 0.1
    np.testing.assert_allclose(logits_of(small_llama(), merged), whole, atol=2e-5)
    prompt = {"decoder_input_tokens": BATCH["decoder_input_tokens"][:, :4]}
    for given in (params, model.decoding_params(params)):
        cache = jax.jit(model.init_cache, static_argnums=2)(given, prompt, 5)
        logits, _ = jax.jit(model.decode_step)(given, cache, BATCH["decoder_input_tokens"][:, 4])
        np.testing.assert_allclose(logits, whole[:, 4], atol=2e-5)


def test_dropout_is_of_the_factors_input_in_training_alone():
    lora = tuning.LoRA(rank=1, alpha=1.0, dropout_rate=0.5, targets=["."])
    linear = Linear(1, ("embed", "mlp"), normal(1.0))
    params = {"kernel": jnp.ones((1, 1)), "lora_a": jnp.ones((1, 1)), "lora_b": jnp.ones((1, 1))}
    with lora.watching():
        kept = linear.apply({"params": params}, jnp.ones((50, 1)))
        dropped = linear.apply(
            {"params": params}, jnp.ones((50, 1)), rngs={"dropout": jax.random.key(0)}
        )
    assert set(np.asarray(kept).ravel()) == {2.0}
    assert set(np.asarray(dropped).ravel()) == {1.0, 3.0}  # 1 + 0 or 1 + 2


@pytest.mark.slow
def test_frozen_parameters_may_be_kept_in_bfloat16():
    params = small_llama(tuning.LoRA(frozen_dtype="bfloat16")).init(jax.random.key(0))["params"]
    dtypes = {name.rpartition("/")[2]: x.dtype.name for name, x in zip(
        names_and_shapes(params), jax.tree.leaves(params), strict=True)}  # fmt: skip
    assert dtypes["lora_a"] == dtypes["lora_b"] == "float32"
    assert dtypes["kernel"] == dtypes["embedding"] == dtypes["scale"] == "bfloat16"


@pytest.mark.parametrize(
    ("width", "count"), [(32, 1_179_648), (128, 4_718_592), (512, 18_874_368), (2048, 75_497_472)]
)
def test_t5_adapters_have_as_many_parameters_as_the_paper_says(width, count):
    """Base: 24 layers, two matrices of 768 by d each (Raffel et al. 2020, table 10)."""
    model = t5.T5(vocab_size=64, embed_dim=768, num_heads=12, head_dim=64, num_encoder_layers=12,
                  num_decoder_layers=12, mlp_dim=64)  # fmt: skip
    tuned = model.clone(tuning=tuning.Adapters(width=width, use_bias=False, targets=["mlp/wo$"]))
    assert tuned.parameter_count() - model.parameter_count() == count


def test_houlsby_adapters_by_hand():
    """y (1, -2), D all ones, bias 2: relu(1) = 1; U (1, 1), bias (.5, 0): (1, -2) + (1.5, 1)."""
    adapters = tuning.Adapters(width=1, targets=["."])
    linear = Linear(2, ("mlp", "embed"), normal(1.0))
    params = {
        "kernel": jnp.array([[1.0, -2]]), "adapter_down": jnp.ones((2, 1)),
        "adapter_down_bias": jnp.array([2.0]), "adapter_up": jnp.ones((1, 2)),
        "adapter_up_bias": jnp.array([0.5, 0]),
    }  # fmt: skip
    with adapters.watching():
        np.testing.assert_array_equal(
            linear.apply({"params": params}, jnp.ones((1, 1))), [[2.5, -1]]
        )


def test_adapters_stand_after_both_branches_and_norms_are_trained():
    model = bert.BERT(vocab_size=32, embed_dim=8, num_heads=2, num_layers=1, mlp_dim=12,
                      max_length=8, tuning=tuning.Adapters(width=2))  # fmt: skip
    names = names_and_shapes(drawn(model))
    trained = {name for name in names if model.tuning.trains(name)}
    for branch in ("self_attention/out", "mlp/wo"):
        assert f"encoder/layers/{branch}/adapter_up" in trained
    assert "encoder/layers/mlp_norm/scale" in trained
    assert not {name for name in trained if name.endswith("kernel")}


def test_what_cannot_be_tuned_is_refused_in_one_line():
    with pytest.raises(ModelError, match=r"LoRA.rank is 0: it must be 1 or more"):
        tuning.LoRA(rank=0)
    with pytest.raises(ModelError, match=r"LoRA.targets is '.': it must be a list"):
        tuning.LoRA(targets=".")
    with pytest.raises(ModelError, match=r"not a regular expression"):
        tuning.Parts(trained=["("])
    with pytest.raises(ModelError, match=r"frozen_dtype is 'int8': .*float32, bfloat16"):
        tuning.LoRA(frozen_dtype="int8")
    with pytest.raises(ModelError, match=r"Parts trains no parameter of this model"):
        small_llama(tuning.Parts()).abstract_params()
    for made in (tuning.LoRA, tuning.Adapters):
        few = (
            r"targets is \('/out\$', 'vlaue'\): 'vlaue' matches no layer, such as 'decoder/layers/"
        )
        with pytest.raises(ModelError, match=few):
            small_llama(made(targets=["/out$", "vlaue"])).abstract_params()
    with pytest.raises(ModelError, match=r"'hed' matches no parameter, such as 'decoder/"):
        small_llama(tuning.Parts(trained=["hed"])).abstract_params()
