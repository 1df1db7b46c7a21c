"""What holds for every family."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.bart import BART
from models.errors import ModelError
from models.gopher import Gopher
from models.gpt import GPT2, GPT3
from models.gpt_neox import GPTNeoX
from models.lamda import LaMDA
from models.layers.dispatch import Capacity
from models.llama import LLaMA
from models.palm import PaLM
from models.recurrent import RecurrentLM
from models.switch import Switch
from models.t5 import T5, T5_1_1
from models.transformer import Transformer
from t5x_like import protocols
from t5x_like.data import formats

V = 61


def t5(cls, **options):
    sizes = dict(
        vocab_size=V, embed_dim=24, mlp_dim=40, num_heads=3, head_dim=8, num_buckets=8,
        num_encoder_layers=2, num_decoder_layers=2, max_distance=9,
    )  # fmt: skip
    return cls(**(sizes | options))


def decoder(cls, **options):
    sizes = dict(vocab_size=V, embed_dim=24, num_heads=3, num_layers=2)
    return cls(**(sizes | options))


gpt2 = functools.partial(decoder, GPT2, max_length=32)


def encoder_decoder(cls, **options):
    sizes = dict(
        vocab_size=V, embed_dim=24, mlp_dim=40, num_heads=3, num_encoder_layers=2,
        num_decoder_layers=2,
    )  # fmt: skip
    return cls(**(sizes | options))


# T5 1.0 has the parts of 1.1 and a simpler MLP, GPT-1 those of BART's decoder and of GPT-2.
FAMILIES = {
    "t5_1_1": functools.partial(t5, T5_1_1),
    "gpt2": gpt2,
    "gpt3": functools.partial(decoder, GPT3, max_length=32, num_layers=4, band=3),
    "gopher": functools.partial(decoder, Gopher, head_dim=8),
    "lamda": functools.partial(
        decoder, LaMDA, mlp_dim=40, head_dim=8, num_buckets=8, max_distance=9
    ),
    "palm": functools.partial(decoder, PaLM, head_dim=8, z_loss=0.0),
    "llama": functools.partial(decoder, LLaMA, num_heads=6, num_kv_heads=2, mlp_dim=40),
    "gpt_neox": functools.partial(decoder, GPTNeoX, rotary_pct=0.5),
    "transformer": functools.partial(encoder_decoder, Transformer, label_smoothing=0.0),
    "bart": functools.partial(encoder_decoder, BART, max_length=32),
    "lstm": functools.partial(RecurrentLM, vocab_size=V, embed_dim=24, hidden_dim=32),
    # Nothing dropped, and no loss but that of the targets: what is Switch's own is tested apart.
    "switch": functools.partial(
        t5, Switch, num_experts=4, dispatch=Capacity(4.0, 4.0), load_balance=0.0
    ),
}


@functools.cache
def initial(model):
    return jax.jit(model.init)(jax.random.key(0))["params"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """Constructor, model and parameters, drawn large enough for attention to matter."""
    make = FAMILIES[request.param]
    model = make()
    rng = np.random.default_rng(1)

    def draw(path, shape):
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(mean + 0.3 * rng.standard_normal(shape.shape), shape.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0))["params"]
    return make, model, jax.tree_util.tree_map_with_path(draw, shapes)


# Compiled once for each model and shape, whichever tests call them.
@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, batch):
    return model.logits(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, batch, key=None):
    sums, metrics = model.loss(params, batch, key)
    return sums["loss"], metrics


@functools.partial(jax.jit, static_argnums=0)
def decode_step(model, params, cache, tokens):
    return model.decode_step(params, cache, tokens)


def batch_for(model, rows=2, length=10, seed=0):
    rng = np.random.default_rng(seed)
    batch = {
        "decoder_input_tokens": rng.integers(1, V, (rows, length)),
        "decoder_target_tokens": rng.integers(1, V, (rows, length)),
    }
    if model.batch_format == "encoder_decoder":
        batch["encoder_input_tokens"] = rng.integers(1, V, (rows, 7))
    return jax.tree.map(jnp.asarray, batch)


def test_fulfils_the_engines_protocol(family):
    _, model, _ = family
    assert isinstance(model, protocols.Decodes)
    assert model.batch_format in formats.names()


def test_every_parameter_names_its_axes(family):
    _, model, params = family
    boxes = jax.tree.leaves(
        model.abstract_params(), is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
    )
    known = {"embed", "mlp", "joined_kv", "heads", "kv", "vocab", "relpos_buckets", "positions"}
    known |= {"layers", "expert", None}
    for box in boxes:
        assert len(box.names) == len(box.value.shape)
        assert set(box.names) <= known
    shapes = [box.value.shape for box in boxes]
    assert shapes == [x.shape for x in jax.tree.leaves(params)]
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))


def test_embeddings_can_be_left_out_of_the_count():
    # Tokens V·24 (twice where the output is not tied), positions 32·24.
    models = (t5(T5), t5(T5_1_1), gpt2())
    counts = [m.parameter_count() - m.parameter_count(embeddings=False) for m in models]
    assert counts == [V * 24, 2 * V * 24, (V + 32) * 24]


def test_flops_count_attention_in_full_and_grow_with_layers():
    # By hand, a row of t = 256: per layer 2t(4e² + 2·4e²) and attention 4t²e; output 2tev.
    e, t, layers = 24, 256, 5
    model = gpt2(num_layers=layers, max_length=t)
    forward = layers * (2 * t * 12 * e * e + 4 * t * t * e) + 2 * t * e * V
    assert model.step_flops({"decoder_input_tokens": (1, t)}) == 3 * forward


def test_later_tokens_do_not_reach_earlier_logits(family):
    _, model, params = family
    batch = batch_for(model)
    changed = batch["decoder_input_tokens"].at[:, 6:].set(5)
    a = logits_of(model, params, batch)
    b = logits_of(model, params, batch | {"decoder_input_tokens": changed})
    np.testing.assert_array_equal(a[:, :6], b[:, :6])
    assert np.abs(a[:, 6:] - b[:, 6:]).max() > 1e-3


def test_packed_rows_give_what_each_text_gives_alone(family):
    _, model, params = family
    one, two = batch_for(model, rows=1, length=5, seed=1), batch_for(model, rows=1, seed=2)
    packed = {
        name: jnp.concatenate([one[name], two[name], one[name][:, :1] * 0], 1) for name in one
    }
    for side in ("encoder", "decoder"):
        name = f"{side}_input_tokens"
        if name in one:
            lengths = [one[name].shape[1], two[name].shape[1]]
            packed[f"{side}_segment_ids"] = jnp.array([[1] * lengths[0] + [2] * lengths[1] + [0]])
            packed[f"{side}_positions"] = jnp.array([[*range(lengths[0]), *range(lengths[1]), 0]])
    logits = logits_of(model, params, packed)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[:, :5], logits_of(model, params, one), atol=2e-5)
    np.testing.assert_allclose(logits[:, 5:15], logits_of(model, params, two), atol=2e-5)


def test_padding_of_the_encoder_changes_nothing():
    model = t5(T5)
    params = initial(model)
    batch = batch_for(model)
    padded = jnp.pad(batch["encoder_input_tokens"], ((0, 0), (0, 4)))
    np.testing.assert_allclose(
        logits_of(model, params, batch),
        logits_of(model, params, batch | {"encoder_input_tokens": padded}),
        atol=1e-5,
    )


def test_a_prefix_is_read_in_both_directions():
    model = gpt2()
    params = initial(model)
    batch = batch_for(model) | {"decoder_causal_attention": jnp.array([[1] * 4 + [0] * 6] * 2)}
    changed = batch | {"decoder_input_tokens": batch["decoder_input_tokens"].at[:, 3].set(9)}
    difference = np.abs(logits_of(model, params, batch) - logits_of(model, params, changed)).max(
        (0, 2)
    )
    assert (difference[:4] > 1e-4).all()
    later = batch | {"decoder_input_tokens": batch["decoder_input_tokens"].at[:, 4].set(9)}
    difference = np.abs(logits_of(model, params, batch) - logits_of(model, params, later)).max(
        (0, 2)
    )
    assert (difference[:4] == 0).all()


@pytest.mark.parametrize(("prompt", "unstacked"), [(0, False), (4, True)])
def test_decoding_step_by_step_gives_the_same_logits(family, prompt, unstacked):
    _, model, params = family
    batch = batch_for(model)
    tokens = batch["decoder_input_tokens"]
    logits = logits_of(model, params, batch)
    laid_out = model.decoding_params(params) if unstacked else params
    cache = model.init_cache(laid_out, batch | {"decoder_input_tokens": tokens[:, :prompt]}, 10)
    assert all(x.ndim == 0 or x.shape[0] == 2 for x in jax.tree.leaves(cache))
    for i in range(prompt, 10):
        step_logits, cache = decode_step(model, laid_out, cache, tokens[:, i])
        np.testing.assert_allclose(step_logits, logits[:, i], atol=2e-5)


def test_prompts_padded_on_the_left_decode_as_if_they_were_not(family):
    _, model, params = family
    batch = batch_for(model)
    tokens = batch["decoder_input_tokens"]
    padding = jnp.zeros((2, 3), jnp.int32)
    prompt = {
        "decoder_input_tokens": jnp.concatenate([padding, tokens[:, :5]], axis=1),
        "decoder_segment_ids": jnp.concatenate([padding, jnp.ones((2, 5), int)], axis=1),
    }
    cache = model.init_cache(params, batch | prompt, 10)
    logits, _ = decode_step(model, params, cache, tokens[:, 5])
    np.testing.assert_allclose(logits, logits_of(model, params, batch)[:, 5], atol=2e-5)


def test_a_prompt_of_padding_alone_gives_the_first_step_and_no_nan():
    model = gpt2()
    params = initial(model)
    batch = batch_for(model, rows=1, length=1)
    nothing = jnp.zeros((1, 4), jnp.int32)
    cache = model.init_cache(
        params, {"decoder_input_tokens": nothing, "decoder_segment_ids": nothing}, 6
    )
    logits, _ = model.decode_step(params, cache, batch["decoder_input_tokens"][:, 0])
    np.testing.assert_allclose(logits, logits_of(model, params, batch)[:, 0], atol=1e-5)


def test_a_bidirectional_prompt_is_decoded_as_it_was_trained():
    model = gpt2()
    params = initial(model)
    batch = batch_for(model) | {"decoder_causal_attention": jnp.array([[1] * 4 + [0] * 6] * 2)}
    logits = logits_of(model, params, batch)
    prompt = {
        name: batch[name][:, :4] for name in ("decoder_input_tokens", "decoder_causal_attention")
    }
    cache = model.init_cache(params, prompt, 10)
    for i in range(4, 10):
        step_logits, cache = model.decode_step(params, cache, batch["decoder_input_tokens"][:, i])
        np.testing.assert_allclose(step_logits, logits[:, i], atol=2e-5)


def test_dropout_depends_on_the_key_alone(family):
    make, _, params = family
    model = make(dropout_rate=0.2)
    batch = batch_for(model)
    loss = lambda key: loss_of(model, params, batch, key)[0]  # noqa: E731
    assert loss(jax.random.key(1)) == loss(jax.random.key(1))
    assert loss(jax.random.key(1)) != loss(jax.random.key(2))
    assert loss(None) == pytest.approx(float(loss_of(make(), params, batch)[0]), rel=1e-6)


def test_the_loss_is_summed_over_targets_that_are_not_padding(family):
    _, model, params = family
    batch = batch_for(model)
    batch["decoder_target_tokens"] = batch["decoder_target_tokens"].at[:, 8:].set(0)
    loss, metrics = loss_of(model, params, batch)
    log_p = jax.nn.log_softmax(logits_of(model, params, batch))
    picked = jnp.take_along_axis(log_p, batch["decoder_target_tokens"][..., None], -1)[..., 0]
    assert loss == pytest.approx(float(-picked[:, :8].sum()), rel=1e-5)
    assert metrics["loss"][1] == 16
    weights = jnp.zeros((2, 10)).at[0, 3].set(2.0)
    loss, metrics = loss_of(model, params, batch | {"decoder_loss_weights": weights})
    assert loss == pytest.approx(float(-2 * picked[0, 3]), rel=1e-5)


def test_remat_and_unrolling_change_no_gradient(family):
    make, _, params = family
    check_gradients(make, params, "dots")


def test_full_remat_changes_no_gradient():
    check_gradients(gpt2, initial(gpt2()), "full")


def check_gradients(make, params, remat_policy):
    batch = batch_for(make())

    def gradient(**options):
        loss = lambda params: make(**options).loss(params, batch)[0]["loss"]  # noqa: E731
        return jax.jit(jax.grad(loss))(params)

    plain = gradient(remat_policy="none", scan_unroll=2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3),
        plain,
        gradient(remat_policy=remat_policy),
    )


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_at_the_ends(family):
    make, model, params = family
    half = make(dtype="bfloat16")
    batch = batch_for(model)
    hidden = functools.partial(half.apply, {"params": params}, method="hidden_states")
    assert jax.eval_shape(lambda: hidden(**batch)).dtype == jnp.bfloat16
    logits = logits_of(half, params, batch)
    assert logits.dtype == jnp.float32
    whole = logits_of(model, params, batch)
    assert np.abs(logits - whole).mean() < 0.1 * np.abs(whole).mean()


def test_initial_values_are_the_papers():
    # Mesh TensorFlow's for T5: q (e d)^-1/2, k v e^-1/2, o (h d)^-1/2, wi e^-1/2, wo f^-1/2.
    params = initial(t5(T5, embed_dim=128, head_dim=64, num_heads=3, mlp_dim=256))
    layers = params["encoder"]["stack"]["layers"]
    deviations = jax.tree.map(np.std, layers)
    attention, mlp = deviations["self_attention"], deviations["mlp"]
    assert attention["query"]["kernel"] == pytest.approx((128 * 64) ** -0.5, rel=0.03)
    assert attention["key"]["kernel"] == pytest.approx(128**-0.5, rel=0.03)
    assert attention["out"]["kernel"] == pytest.approx(192**-0.5, rel=0.03)
    assert mlp["wi"]["kernel"] == pytest.approx(128**-0.5, rel=0.03)
    assert mlp["wo"]["kernel"] == pytest.approx(256**-0.5, rel=0.03)
    # GPT-2: 0.02, and 0.02 / sqrt(residual layers) where a branch joins the stream.
    params = initial(gpt2(embed_dim=96, num_layers=3))
    layers = jax.tree.map(np.std, params["decoder"]["layers"])
    assert layers["mlp"]["wi"]["kernel"] == pytest.approx(0.02, rel=0.03)
    assert layers["mlp"]["wo"]["kernel"] == pytest.approx(0.02 / 6**0.5, rel=0.03)
    assert layers["self_attention"]["out"]["kernel"] == pytest.approx(0.02 / 6**0.5, rel=0.03)


def test_mistakes_are_told_in_one_line():
    with pytest.raises(ModelError, match=r"33 tokens .* max_length is 32"):
        gpt2().logits(
            initial(gpt2()),
            {"decoder_input_tokens": jnp.zeros((1, 33), jnp.int32)},
        )
    with pytest.raises(ModelError, match=r"'half'.*'none', 'dots', 'full'"):
        gpt2(remat_policy="half").init(jax.random.key(0))
    with pytest.raises(ModelError, match=r"embed_dim 24 .* num_heads 5"):
        gpt2(num_heads=5).init(jax.random.key(0))
    with pytest.raises(ModelError, match="encoder_input_tokens"):
        t5(T5).logits({}, {"decoder_input_tokens": jnp.zeros((1, 3), jnp.int32)})
