"""What holds for every family that writes text."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.t5 import T5
from t5x_like import protocols
from t5x_like.data import formats
from tests.models.families import WRITERS, V, batch_for, drawn, gpt2, of_each_kind, t5


@functools.cache
def initial(model):
    return jax.jit(model.init)(jax.random.key(0))["params"]


@pytest.fixture(scope="module", params=WRITERS)
def family(request):
    """Constructor, model and parameters."""
    make = WRITERS[request.param]
    model = make()
    return make, model, drawn(model)


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


@functools.partial(jax.jit, static_argnums=(0, 3))
def cache_of(model, params, batch, length):
    return model.init_cache(params, batch, length)


def test_fulfils_the_engines_protocol(family):
    _, model, _ = family
    assert isinstance(model, protocols.Decodes)
    assert model.batch_format in formats.names()


@of_each_kind(WRITERS)
def test_there_is_a_vector_for_each_token_of_the_text_that_is_read(family):
    _, model, params = family
    assert isinstance(model, protocols.EmbedsContexts)
    batch = batch_for(model)
    found = jax.eval_shape(model.contextual_vectors, params, batch)
    assert found.shape[:2] == (2, 7 if "encoder_input_tokens" in batch else 10)
    assert found.dtype == jnp.float32


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


@of_each_kind(WRITERS)
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
    params = drawn(model)
    batch = batch_for(model)
    padded = jnp.pad(batch["encoder_input_tokens"], ((0, 0), (0, 4)))
    np.testing.assert_allclose(
        logits_of(model, params, batch),
        logits_of(model, params, batch | {"encoder_input_tokens": padded}),
        atol=1e-5,
    )


def test_a_prefix_is_read_in_both_directions():
    model = gpt2()
    params = drawn(model)
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


# From the first token on in the slow suite: a prompt is read besides.
@of_each_kind(WRITERS)
@pytest.mark.parametrize(
    ("prompt", "unstacked"),
    [pytest.param(0, False, marks=pytest.mark.slow), (4, True)],
)
def test_decoding_step_by_step_gives_the_same_logits(family, prompt, unstacked):
    _, model, params = family
    batch = batch_for(model)
    tokens = batch["decoder_input_tokens"]
    logits = logits_of(model, params, batch)
    laid_out = model.decoding_params(params) if unstacked else params
    prompted = batch | {"decoder_input_tokens": tokens[:, :prompt]}
    cache = cache_of(model, laid_out, prompted, 10)
    assert all(x.ndim == 0 or x.shape[0] == 2 for x in jax.tree.leaves(cache))
    for i in range(prompt, 10):
        step_logits, cache = decode_step(model, laid_out, cache, tokens[:, i])
        np.testing.assert_allclose(step_logits, logits[:, i], atol=2e-5)


@of_each_kind(WRITERS)
def test_prompts_padded_on_the_left_decode_as_if_they_were_not(family):
    _, model, params = family
    batch = batch_for(model)
    tokens = batch["decoder_input_tokens"]
    padding = jnp.zeros((2, 3), jnp.int32)
    prompt = {
        "decoder_input_tokens": jnp.concatenate([padding, tokens[:, :5]], axis=1),
        "decoder_segment_ids": jnp.concatenate([padding, jnp.ones((2, 5), int)], axis=1),
    }
    cache = cache_of(model, params, batch | prompt, 10)
    logits, _ = decode_step(model, params, cache, tokens[:, 5])
    np.testing.assert_allclose(logits, logits_of(model, params, batch)[:, 5], atol=2e-5)


def test_a_prompt_of_padding_alone_gives_the_first_step_and_no_nan():
    model = gpt2()
    params = drawn(model)
    batch = batch_for(model, rows=1, length=1)
    nothing = jnp.zeros((1, 4), jnp.int32)
    prompt = {"decoder_input_tokens": nothing, "decoder_segment_ids": nothing}
    cache = cache_of(model, params, prompt, 6)
    logits, _ = decode_step(model, params, cache, batch["decoder_input_tokens"][:, 0])
    np.testing.assert_allclose(logits, logits_of(model, params, batch)[:, 0], atol=1e-5)


def test_a_bidirectional_prompt_is_decoded_as_it_was_trained():
    model = gpt2()
    params = drawn(model)
    batch = batch_for(model) | {"decoder_causal_attention": jnp.array([[1] * 4 + [0] * 6] * 2)}
    logits = logits_of(model, params, batch)
    prompt = {
        name: batch[name][:, :4] for name in ("decoder_input_tokens", "decoder_causal_attention")
    }
    cache = cache_of(model, params, prompt, 10)
    for i in range(4, 10):
        step_logits, cache = decode_step(model, params, cache, batch["decoder_input_tokens"][:, i])
        np.testing.assert_allclose(step_logits, logits[:, i], atol=2e-5)


@of_each_kind(WRITERS)
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


@of_each_kind(WRITERS)
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


@pytest.mark.slow
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
        gpt2().logits(drawn(gpt2()), {"decoder_input_tokens": jnp.zeros((1, 33), jnp.int32)})
    with pytest.raises(ModelError, match=r"'half'.*'none', 'dots', 'full'"):
        gpt2(remat_policy="half").init(jax.random.key(0))
    with pytest.raises(ModelError, match=r"embed_dim 24 .* num_heads 5"):
        gpt2(num_heads=5).init(jax.random.key(0))
    with pytest.raises(ModelError, match="encoder_input_tokens"):
        t5(T5).logits({}, {"decoder_input_tokens": jnp.zeros((1, 3), jnp.int32)})
