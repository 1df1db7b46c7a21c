"""Prompt tuning: vectors before a text are read as tokens in the same place would be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import tuning
from models.errors import ModelError
from tests.models import families

LENGTH = 3
READ = {  # models whose rows begin with the prompt, by how they know positions
    "gpt2": "learned",
    "lamda": "distances of slots",
    "t5_1_1": "distances of an encoder's slots",
    "bart": "an encoder's learned",
}


def prompted(name):
    """A model with a prompt, its parameters, and the tokens that the prompt begins as."""
    model = families.WRITERS[name](tuning=tuning.Prompt(length=LENGTH))
    params = jax.jit(model.init)(jax.random.key(0))["params"]
    if name == "sparse_transformer":  # whose logits are all 0 at first
        params = families.drawn(model)
        params["token_embedder"]["prompt_offsets"] *= 0
    return model, params, model.tuning.tokens(model.vocab_size)


def side_of(model):
    return "encoder" if "encoder_input_tokens" in model.input_features else "decoder"


def rows_of(model, tokens):
    """Two rows of seven tokens, and the same with tokens before them."""
    ids = np.random.default_rng(0).integers(3, model.vocab_size, (2, 7)).astype(np.int32)
    before = np.concatenate([np.tile(tokens, (2, 1)), ids], axis=1)
    if side_of(model) == "decoder":
        return {"decoder_input_tokens": ids}, {"decoder_input_tokens": before}
    answer = {"decoder_input_tokens": ids[:, :4]}
    return {"encoder_input_tokens": ids} | answer, {"encoder_input_tokens": before} | answer


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in ("gpt2", "t5_1_1") else pytest.mark.slow)
    for name in families.WRITERS
])  # fmt: skip
def test_a_new_prompt_is_read_as_its_tokens_and_an_offset_is_not(name):
    try:
        model, params, tokens = prompted(name)
    except ModelError as error:
        assert name not in READ
        assert "cannot have a Prompt" in str(error)
        return
    short, long = rows_of(model, tokens)
    plain = model.clone(tuning=None)
    expected = jax.jit(plain.logits)(params, long)
    skipped = LENGTH if side_of(model) == "decoder" else 0
    logits = jax.jit(model.logits)(params, short)
    np.testing.assert_allclose(logits, expected[:, skipped:], atol=2e-5)
    assert logits.shape[:2] == short["decoder_input_tokens"].shape
    # Not one number for all units, which a norm would take away.
    params["token_embedder"]["prompt_offsets"] += np.random.default_rng(1).normal(size=(LENGTH, 24))
    changed = jax.jit(model.logits)(params, short)
    assert np.abs(changed - logits).max() > 1e-3


@pytest.mark.parametrize("name", ["gpt2", pytest.param("lamda", marks=pytest.mark.slow), "t5_1_1"])
def test_decoding_after_padding_on_the_left_reads_the_prompt_before_the_text(name):
    """A cached step after a padded prompt of tokens gives the logits of the whole row."""
    model, params, _ = prompted(name)
    params["token_embedder"]["prompt_offsets"] += jnp.arange(LENGTH)[:, None] / 4
    rows, _ = rows_of(model, np.zeros(LENGTH, int))
    whole = jax.jit(model.logits)(params, rows)
    tokens = rows["decoder_input_tokens"]
    read = tokens.shape[1] - 1
    padding = np.zeros((2, 2), np.int32)
    batch = rows | {
        "decoder_input_tokens": np.concatenate([padding, tokens[:, :read]], axis=1),
        "decoder_segment_ids": np.concatenate([padding, np.ones((2, read), np.int32)], axis=1),
        "decoder_positions": np.concatenate([padding, np.tile(np.arange(read), (2, 1))], axis=1),
    }
    given = jax.jit(model.decoding_params)(params)
    cache = jax.jit(model.init_cache, static_argnums=2)(given, batch, read + 3)
    logits, _ = jax.jit(model.decode_step)(given, cache, tokens[:, read])
    np.testing.assert_allclose(logits, whole[:, -1], atol=2e-5)


@pytest.mark.slow
def test_the_loss_is_that_of_the_text_and_its_gradient_that_of_the_vectors():
    """Against the same model, whose embedding of the rows is put together by hand."""
    model, params, tokens = prompted("gpt2")
    plain = model.clone(tuning=None)
    ids = np.random.default_rng(1).integers(3, model.vocab_size, (2, 6)).astype(np.int32)
    batch = {"decoder_input_tokens": ids[:, :-1], "decoder_target_tokens": ids[:, 1:]}

    def by_hand(offsets):
        # Tokens of their own, whose rows of a longer table are the vectors.
        table = params["token_embedder"]["embedding"]
        new = table[tokens] + offsets
        longer = {**params, "token_embedder": {"embedding": jnp.concatenate([table, new])}}
        wide = plain.clone(vocab_size=plain.vocab_size + LENGTH)
        own = np.tile(np.arange(LENGTH) + plain.vocab_size, (2, 1))
        read = {"decoder_input_tokens": np.concatenate([own, ids[:, :-1]], axis=1)}
        logits = wide.logits(longer, read)[:, LENGTH:, : plain.vocab_size]
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), ids[:, 1:, None], axis=-1)
        return -chosen.sum()

    def ours(offsets):
        own = {**params["token_embedder"], "prompt_offsets": offsets}
        return model.loss({**params, "token_embedder": own}, batch)[0]["loss"]

    offsets = jnp.asarray(np.random.default_rng(2).normal(size=(LENGTH, 24)), jnp.float32)
    (loss, gradient), (expected, of_vectors) = (
        jax.jit(jax.value_and_grad(one))(offsets) for one in (ours, by_hand)
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, of_vectors, atol=1e-5)
    assert np.abs(gradient).max() > 1e-3


def test_features_of_rows_by_hand():
    prompt = tuning.Prompt(length=2)
    batch = {
        "decoder_input_tokens": jnp.array([[0, 0, 7, 8], [5, 6, 9, 0]]),
        "decoder_segment_ids": jnp.array([[0, 0, 1, 1], [1, 1, 1, 0]]),
        "decoder_positions": jnp.array([[0, 0, 0, 1], [0, 1, 2, 0]]),
        "decoder_causal_attention": jnp.array([[0, 0, 1, 0], [0, 0, 0, 0]]),
        "decoder_target_tokens": jnp.array([[0, 7, 8, 1], [6, 9, 1, 0]]),
    }
    made = prompt.extended_features(batch, "decoder", 100)
    assert made["decoder_input_tokens"].tolist() == [[0, 0, 100, 101, 7, 8], [100, 101, 5, 6, 9, 0]]
    assert made["decoder_segment_ids"].tolist() == [[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]
    assert made["decoder_positions"][0, 2:].tolist() == [0, 1, 2, 3]
    assert made["decoder_positions"][1, :5].tolist() == [0, 1, 2, 3, 4]
    assert made["decoder_causal_attention"].tolist() == [[0, 0, 1, 1, 1, 0], [0] * 6]
    assert made["decoder_target_tokens"] is batch["decoder_target_tokens"]
    with pytest.raises(ModelError, match=r"feature decoder_colours says nothing of a prompt"):
        prompt.extended_features(
            batch | {"decoder_colours": batch["decoder_positions"]}, "decoder", 9
        )


def test_only_the_prompt_is_trained_and_as_many_numbers_as_the_paper_says():
    """Lester et al. 2021, figure 2: 20,480 parameters a task for 5 tokens of T5 XXL's 4,096."""
    model = families.WRITERS["gpt2"](tuning=tuning.Prompt(length=5))
    assert model.parameter_count() - model.clone(tuning=None).parameter_count() == 5 * 24
    assert 5 * 4096 == 20_480
    assert model.tuning.trains("token_embedder/prompt_offsets")
    assert not model.tuning.trains("token_embedder/embedding")
    drawn = model.tuning.tokens(32_000)
    assert len(set(drawn.tolist())) == 5
    assert (drawn >= 3).all()
    assert (drawn < 5000).all()
    assert tuning.Prompt(length=2, initial_tokens=[9, 4]).tokens(61).tolist() == [9, 4]


def test_what_cannot_have_a_prompt_is_refused_in_one_line():
    with pytest.raises(ModelError, match=r"Prompt.length is 0: it must be 1 or more"):
        tuning.Prompt(length=0)
    with pytest.raises(ModelError, match=r"initial_tokens is \(5,\): it must be 2 ids"):
        tuning.Prompt(length=2, initial_tokens=[5])
    with pytest.raises(ModelError, match=r"ids must be below the model's vocab_size 61"):
        families.gpt2(tuning=tuning.Prompt(length=1, initial_tokens=[61]))
    with pytest.raises(ModelError, match=r"BERT cannot have a Prompt: only rows of a decoder"):
        families.ENCODERS["bert"](tuning=tuning.Prompt())
    model, params, _ = prompted("gpt2")
    with pytest.raises(ModelError, match=r"attention .* prompt"):
        model.attention_weights(params, {"decoder_input_tokens": jnp.ones((1, 4), jnp.int32)})
