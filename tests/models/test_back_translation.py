"""A translator that learns from its own translations: what it is given, by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.back_translation import BackTranslated
from models.errors import ModelError
from models.gpt import GPT2
from models.heads import Regression
from models.mass import MASS
from t5x_like.protocols import TranslatesBack
from tests.models.families import drawn

# Two rows: of the language of token 11 the text 3 4 1, and of that of token 12 the text 5 1.
BATCH = {
    "encoder_input_tokens": jnp.array([[11, 4, 3, 1], [12, 5, 1, 0]]),
    "decoder_input_tokens": jnp.array([[0, 3, 4], [0, 5, 0]]),
    "decoder_target_tokens": jnp.array([[3, 4, 1], [5, 1, 0]]),
    "decoder_loss_weights": jnp.array([[1, 1, 1], [1, 1, 0]]),
}
TOKENS, MASK = jnp.array([[7, 1, 0, 0], [8, 9, 10, 1]]), jnp.array([[1, 1, 0, 0], [1, 1, 1, 1]])


def mass(**more):
    return MASS(
        vocab_size=13, embed_dim=8, num_heads=2, num_encoder_layers=1, num_decoder_layers=1,
        mlp_dim=8, max_length=16, **more,
    )  # fmt: skip


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, batch):
    return model.loss(params, batch)


def model(**more):
    return BackTranslated(translator=mass(), languages=[11, 12], **more)


def test_a_text_is_translated_behind_the_other_languages_token():
    prompts, limits = model(length_ratio=1.5).to_translate(BATCH)
    assert prompts["encoder_input_tokens"].tolist() == [[12, 3, 4, 1], [11, 5, 1, 0]]
    assert prompts["encoder_segment_ids"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert prompts["decoder_input_tokens"].tolist() == [[0], [0]]
    # 1.5 times 3 and 2 tokens, and 5 more.
    assert limits.tolist() == [10, 8]
    assert isinstance(model(), TranslatesBack)


@pytest.mark.slow
def test_a_translation_has_the_tokens_of_its_languages_texts_of_the_batch():
    # Row 0 is of language 11 and becomes 12's, which has 5 and the end token, 1; and the reverse.
    allowed = model(tokens="batch").allowed_tokens(BATCH)
    assert [np.flatnonzero(row).tolist() for row in allowed] == [[1, 5], [1, 3, 4]]
    assert model().allowed_tokens(BATCH) is None
    # No text of 12: all tokens.
    first = {name: x[:1] for name, x in BATCH.items()}
    assert model(tokens="batch").allowed_tokens(first).all()
    with pytest.raises(ModelError, match="tokens is 'some': one of all, batch is needed"):
        model(tokens="some")


@pytest.mark.slow
def test_the_way_back_is_learned_behind_its_own_token():
    both = model(denoising=0.5, back_translation=2.0)
    params = drawn(both)
    batch = both.with_translations(BATCH, TOKENS, MASK)
    terms, metrics = loss_of(both, params, batch)
    assert both.loss_terms == {"denoising": 0.5, "back_translation": 2.0}
    noised = loss_of(mass(), params, BATCH)[0]["loss"]
    back = BATCH | {
        "encoder_input_tokens": jnp.array([[11, 7, 1, 0, 0], [12, 8, 9, 10, 1]]),
        "encoder_segment_ids": jnp.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]),
    }
    np.testing.assert_allclose(terms["denoising"], noised, rtol=1e-6)
    expected = loss_of(mass(), params, back)[0]["loss"]
    np.testing.assert_allclose(terms["back_translation"], expected, 1e-6)
    assert {k: float(v) for k, v in both.loss_weights(batch).items()} == {
        "denoising": 5, "back_translation": 5,
    }  # fmt: skip
    np.testing.assert_allclose(metrics["translation_length"], (6, 2))
    assert float(metrics["denoising"][0]) == float(terms["denoising"]) and "loss" not in metrics


@pytest.mark.slow
def test_without_denoising_its_term_is_measured_and_moves_nothing():
    alone = model(denoising=0.0)
    params = drawn(alone)
    batch = alone.with_translations(BATCH, TOKENS, MASK)
    assert alone.loss_terms == {"denoising": 0.0, "back_translation": 1.0}
    gradients = jax.jit(jax.jacrev(lambda params: alone.loss(params, batch)[0]))(params)
    moved = {k: any(x.any() for x in jax.tree.leaves(g)) for k, g in gradients.items()}
    assert moved == {"denoising": False, "back_translation": True}


def test_held_out_texts_without_translations_are_measured_by_how_they_are_restored():
    params = drawn(mass())
    terms, metrics = loss_of(model(), params, BATCH)
    assert set(terms) == {"denoising"}
    expected = loss_of(mass(), params, BATCH)[0]["loss"]
    np.testing.assert_allclose(terms["denoising"], expected, rtol=1e-6)
    assert metrics["denoising"][1] == 5 and "translation_length" not in metrics


def test_what_cannot_be_is_refused_in_one_line():
    with pytest.raises(
        ModelError, match=r"translator is a GPT2: an encoder-decoder without a head"
    ):
        BackTranslated(translator=GPT2(vocab_size=13), languages=(1, 2))
    with pytest.raises(
        ModelError, match=r"translator is a MASS: an encoder-decoder without a head"
    ):
        BackTranslated(translator=mass(head=Regression()), languages=(1, 2))
    for languages in ((11, 11), (11, 13)):
        with pytest.raises(ModelError, match=r"two different ids below 13 are needed"):
            BackTranslated(translator=mass(), languages=languages)
    with pytest.raises(ModelError, match=r"1 and 0: 0 or more, and above 0, are needed"):
        model(back_translation=0.0)
