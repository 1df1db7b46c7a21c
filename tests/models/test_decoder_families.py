"""What is distinct about each decoder-only family."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.gopher import Gopher
from models.gpt import GPT1, GPT3
from models.gpt_neox import GPTNeoX
from models.lamda import LaMDA
from models.layers.block import PreNormBlock
from models.llama import LLaMA, swiglu_dim
from models.palm import PaLM
from models.sparse_transformer import SparseTransformer
from tests.models import reference_decoders as reference

V, E = 37, 24
SIZES = dict(vocab_size=V, embed_dim=E, num_heads=3, num_layers=2)

# Each model, and the reference with what it cannot read off the parameters. Their heads have
# sizes that do not make up the residual stream.
PAIRS = {
    "gpt3": (
        GPT3(**SIZES | {"num_layers": 4}, head_dim=10, max_length=16, band=3),
        functools.partial(reference.gpt3, head_dim=10, band=3),
    ),
    "gopher": (Gopher(**SIZES, head_dim=10), functools.partial(reference.gopher, head_dim=10)),
    "lamda": (
        LaMDA(**SIZES, mlp_dim=40, head_dim=10, num_buckets=6, max_distance=7),
        functools.partial(reference.lamda, head_dim=10, num_buckets=6, max_distance=7),
    ),
    "palm": (PaLM(**SIZES, head_dim=10), functools.partial(reference.palm, head_dim=10)),
}

# One of each pattern and of each combination.
for pattern, combination, head_dim in (
    ("fixed", "merged", 5),
    ("strided", "heads", 6),
    ("fixed", "layers", 6),
):
    own = dict(pattern=pattern, stride=3, summary=1, combination=combination)
    PAIRS[f"sparse_transformer, {pattern}, {combination}"] = (
        SparseTransformer(**SIZES | {"num_heads": 4}, max_length=15, query_key_dim=head_dim, **own),
        functools.partial(reference.sparse_transformer, head_dim=head_dim, **own),
    )


def drawn(model, seed=0):
    """Parameters large enough for every part to matter, biases and scales included."""
    rng = np.random.default_rng(seed)

    def draw(path, shape):
        mean = 2.0 if path[-1].key == "scale" else 0.1
        return rng.normal(mean, 0.5, shape.shape).astype(np.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0))["params"]
    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, batch):
    return model.logits(params, batch)


@pytest.mark.parametrize("family", PAIRS)
def test_logits_are_those_of_the_papers_equations(family):
    """Two texts packed in a row of 11, with a token of padding."""
    model, expected = PAIRS[family]
    params = drawn(model)
    tokens = np.random.default_rng(1).integers(1, V, 11)
    segments = np.array([1] * 4 + [2] * 6 + [0])
    positions = np.array([*range(4), *range(6), 0])
    batch = {
        "decoder_input_tokens": tokens[None],
        "decoder_segment_ids": segments[None],
        "decoder_positions": positions[None],
    }
    doubles = jax.tree.map(lambda x: x.astype(np.float64), params)
    logits = expected(doubles, tokens, segments, positions)
    assert np.abs(logits).max() > 1
    np.testing.assert_allclose(logits_of(model, params, batch)[0], logits, atol=1e-4)


def test_gpt3_sees_beyond_its_band_through_the_dense_layers_only():
    """With two layers, one of each kind, a banded layer's query sees 3 tokens of a row of 8."""
    model = GPT3(**SIZES, max_length=16, band=3)
    params = drawn(model)
    tokens = np.arange(1, 9)[None]
    changed = tokens.copy()
    changed[0, 0] = 20

    def difference(params):
        one, other = (
            logits_of(model, params, {"decoder_input_tokens": x}) for x in (tokens, changed)
        )
        return np.abs(one - other)[0].max(axis=-1)

    assert (difference(params) > 1e-4).all()
    dense = params["decoder"]["layers"]["block_0"]["self_attention"]["out"]
    dense["kernel"] = np.zeros_like(dense["kernel"])
    assert (difference(params)[:3] > 1e-4).all()
    assert (difference(params)[3:] == 0).all()


def test_gpt1_ends_with_the_norm_of_its_last_layer():
    model = GPT1(**SIZES, max_length=16)
    params = drawn(model)
    assert "final_norm" not in params
    norm = params["decoder"]["layers"]["mlp_norm"]
    states = jax.jit(functools.partial(model.apply, method="hidden_states"))
    hidden = states({"params": params}, decoder_input_tokens=jnp.ones((1, 5), int))
    plain = (hidden - norm["bias"][-1]) / norm["scale"][-1]
    np.testing.assert_allclose(plain.mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(plain.std(-1), 1, atol=1e-3)


def test_llamas_mlp_is_the_released_models():
    # intermediate_size of the released 7B, 13B, 30B and 65B.
    widths = [swiglu_dim(d) for d in (4096, 5120, 6656, 8192)]
    assert widths == [11008, 13824, 17920, 22016]


def test_no_parameter_of_palm_and_llama_is_a_bias():
    for model in (PaLM(**SIZES, head_dim=8), LLaMA(**SIZES)):
        paths = jax.tree_util.tree_leaves_with_path(drawn(model))
        assert {path[-1].key for path, _ in paths} == {"kernel", "embedding", "scale"}


def test_wiring_and_heads_of_keys_are_palms_to_choose():
    """By hand, e = 24, 3 heads of 8, f = 96: q and o 2·24², MLP 3·24·96, a norm 24, k and v."""

    def layer(**options):
        model = PaLM(**SIZES, head_dim=8, **options)
        return (model.parameter_count() - V * E - E) / 2

    rest = 2 * 24 * 24 + 3 * 24 * 96
    assert layer() == rest + 24 + 2 * 24 * 8
    assert layer(num_kv_heads=None) == rest + 24 + 2 * 24 * 24
    assert layer(num_kv_heads=None, block=PreNormBlock) == rest + 48 + 2 * 24 * 24


def test_llamas_output_may_be_tied():
    untied, tied = LLaMA(**SIZES), LLaMA(**SIZES, tied_output=True)
    assert untied.parameter_count() - tied.parameter_count() == V * E
    params = drawn(tied)
    output = {"kernel": params["token_embedder"]["embedding"].T}
    batch = {"decoder_input_tokens": jnp.arange(1, 7)[None]}
    np.testing.assert_allclose(
        logits_of(tied, params, batch),
        logits_of(untied, params | {"output": output}, batch),
        atol=1e-5,
    )


def test_palms_loss_has_its_z_loss():
    model = PaLM(**SIZES, head_dim=8)
    params = drawn(model)
    tokens = jnp.arange(1, 7)[None]
    batch = {"decoder_input_tokens": tokens, "decoder_target_tokens": tokens}

    log_z = jax.nn.logsumexp(logits_of(model, params, batch), axis=-1)
    with_z, without = (
        jax.jit(m.loss)(params, batch)[0]["loss"] for m in (model, model.clone(z_loss=0.0))
    )
    # "z_loss = 1e-4 · log² Z" (section 5).
    assert with_z - without == pytest.approx(float(1e-4 * (log_z**2).sum()), rel=0.05)


@pytest.mark.slow
def test_initial_values_are_the_papers():
    model = PaLM(vocab_size=300, embed_dim=64, num_heads=5, num_layers=2, head_dim=32)
    params = jax.jit(model.init)(jax.random.key(0))["params"]
    deviations = jax.tree.map(np.std, params)
    layers = deviations["decoder"]["layers"]
    # Chowdhery et al. 2022, section 5: E ~ N(0, 1), W ~ N(0, 1/sqrt(n_in)).
    assert deviations["token_embedder"]["embedding"] == pytest.approx(1, rel=0.03)
    for part, fan_in in [("query", 64), ("key", 64), ("value", 64), ("out", 5 * 32)]:
        kernel = layers["self_attention"][part]["kernel"]
        assert kernel == pytest.approx(fan_in**-0.5, rel=0.05)
    for part, fan_in in [("wi_0", 64), ("wi_1", 64), ("wo", 256)]:
        assert layers["mlp"][part]["kernel"] == pytest.approx(fan_in**-0.5, rel=0.05)
    # Black et al. 2022, section 2.1: sqrt(2 / (d + 4d)), and 2 / (L sqrt(d)) for outputs.
    model = GPTNeoX(vocab_size=300, embed_dim=64, num_heads=4, num_layers=3)
    params = jax.jit(model.init)(jax.random.key(0))["params"]
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key in ("kernel", "embedding"):
            joins = path[-2].key in ("out", "wo")
            expected = 2 / (3 * 64**0.5) if joins else (2 / (5 * 64)) ** 0.5
            assert np.std(x) == pytest.approx(expected, rel=0.05)
    # Radford et al. 2018, section 4.1: N(0, 0.02) throughout.
    model = GPT1(vocab_size=300, embed_dim=64, num_heads=4, num_layers=2, max_length=128)
    params = jax.jit(model.init)(jax.random.key(0))["params"]
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key in ("kernel", "embedding"):
            assert np.std(x) == pytest.approx(0.02, rel=0.05)


def test_mistakes_are_told_in_one_line():
    tokens = {"decoder_input_tokens": jnp.ones((1, 4), int)}
    with pytest.raises(ModelError, match=r"num_layers is 3, .* choose a multiple of 2"):
        GPT3(**SIZES | {"num_layers": 3}).init(jax.random.key(0))
    with pytest.raises(ModelError, match=r"heads of 7 units.* even head size"):
        PaLM(**SIZES, head_dim=7).init(jax.random.key(0), tokens)


def test_attention_weights_are_in_the_order_of_layers_that_differ_in_turn():
    """GPT-3's second and fourth layers see three keys, the others all."""
    model, _ = PAIRS["gpt3"]
    batch = {"decoder_input_tokens": jnp.arange(1, 9)[None]}
    weights = jax.jit(model.attention_weights)(drawn(model), batch)["decoder"]
    assert weights.shape == (4, 1, 3, 8, 8)
    beyond_band = np.tri(8, k=-3, dtype=bool)
    for layer, banded in enumerate((False, True, False, True)):
        assert (weights[layer][..., beyond_band] == 0).all() == banded


@pytest.mark.parametrize(
    ("model", "fields", "said"),
    [
        (LLaMA, {"num_kv_heads": 2}, "num_kv_heads 2 does not divide num_heads 3"),
        (LaMDA, {"num_buckets": 1}, "num_buckets is 1: .* need 2 or more"),
        (LaMDA, {"num_buckets": 32, "max_distance": 16}, "max_distance is 16: it must be above 16"),
        (LLaMA, {"rope_base": float("nan")}, "LLaMA.rope_base is nan: it must be a finite number"),
        (LLaMA, {"norm_epsilon": -1e-6}, "LLaMA.norm_epsilon is -1e-06: it must not be negative"),
        (LLaMA, {"z_loss": -1e-4}, "LLaMA.z_loss is -0.0001: it must not be negative"),
        (LLaMA, {"rope_base": 0.0}, "LLaMA.rope_base is 0.0: it must be above 0"),
        (GPTNeoX, {"rotary_pct": 1.5}, "GPTNeoX.rotary_pct is 1.5: it must be from 0 to 1"),
        (Gopher, {"embed_dim": 25, "num_heads": 5}, "embed_dim is 25: .* make it even"),
    ],
)
def test_fields_that_make_no_model_are_refused_before_anything_is_computed(model, fields, said):
    with pytest.raises(ModelError, match=said):
        model(**SIZES | fields).abstract_params()


def test_the_sparse_transformers_initial_values_are_the_papers():
    """N(0, 0.125 / sqrt(inputs)), smaller by sqrt(2 N) where a branch ends; an output of zeros."""
    model = SparseTransformer(
        vocab_size=300, embed_dim=64, num_heads=4, num_layers=3, max_length=256, stride=16,
        summary=4,
    )  # fmt: skip
    params = jax.jit(model.init)(jax.random.key(0))["params"]
    deviations = jax.tree.map(np.std, params)
    layer = deviations["decoder"]["layers"]
    for part in ("query", "key", "value"):
        assert layer["self_attention"][part]["kernel"] == pytest.approx(0.125 / 8, rel=0.05)
    assert layer["self_attention"]["out"]["kernel"] == pytest.approx(0.125 / 8 / 6**0.5, rel=0.05)
    assert layer["mlp"]["wi"]["kernel"] == pytest.approx(0.125 / 8, rel=0.05)
    assert layer["mlp"]["wo"]["kernel"] == pytest.approx(0.125 / 16 / 6**0.5, rel=0.05)
    assert deviations["token_embedder"]["embedding"] == pytest.approx(0.125 / 8, rel=0.05)
    for axis in ("axis_0", "axis_1"):
        table = deviations["position_embedder"][axis]
        assert table == pytest.approx(0.125 / 128**0.5, rel=0.1)
    assert not params["output"]["kernel"].any()


@pytest.mark.parametrize("pattern", [pytest.param("strided", marks=pytest.mark.slow), "fixed"])
def test_the_sparse_transformer_writes_what_it_was_trained_on(pattern):
    """A prompt longer than a block of queries, of which one row is padded on the left."""
    model = SparseTransformer(
        **SIZES | {"num_heads": 2}, max_length=32, pattern=pattern, stride=4, summary=2,
        combination="layers",
    )  # fmt: skip
    params = drawn(model)
    tokens = np.random.default_rng(2).integers(1, V, (2, 14))
    logits = logits_of(model, params, {"decoder_input_tokens": tokens})
    prompt = np.zeros((2, 12), int)
    prompt[0], prompt[1, 3:] = tokens[0, :12], tokens[1, :9]
    valid = np.array([[1] * 12, [0] * 3 + [1] * 9])
    batch = {"decoder_input_tokens": prompt, "decoder_segment_ids": valid}
    cache = jax.jit(model.init_cache, static_argnums=2)(params, batch, 16)
    step = jax.jit(model.decode_step)
    for i in range(2):
        found, cache = step(params, cache, jnp.stack([tokens[0, 12 + i], tokens[1, 9 + i]]))
        np.testing.assert_allclose(found[0], logits[0, 12 + i], atol=2e-4)
        np.testing.assert_allclose(found[1], logits[1, 9 + i], atol=2e-4)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pattern": "random"}, "pattern is 'random': it must be one of strided, fixed"),
        ({"combination": "both"}, "combination is 'both': it must be one of merged, layers, heads"),
        ({"input_attention": "prefix"}, "factorized attention is 'causal'"),
        ({"position_shape": (4, 4)}, "its product must be max_length, which is 32"),
        ({"combination": "heads"}, "num_heads is 3, which 2 patterns cannot divide evenly"),
        ({"summary": 5}, "summary is 5: of a block of 4 tokens"),
    ],
)
def test_a_sparse_transformer_that_cannot_be_is_refused_in_one_line(fields, said):
    with pytest.raises(ModelError, match=said):
        sizes = SIZES | {"max_length": 32, "stride": 4, "summary": 1}
        SparseTransformer(**sizes | fields).abstract_params()
