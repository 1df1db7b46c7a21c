"""What an opened run says of texts; its parameters and task are put in place of files'."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.gpt import GPT2
from t5x_like.decoding import TextCodec
from t5x_like.decoding.scoring import score
from t5x_like.errors import UserError
from t5x_like.runs import Run
from tests.t5x_like.letters import Feature

MODEL = GPT2(vocab_size=32, embed_dim=16, num_heads=2, num_layers=1, max_length=32)


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0))["params"]


@pytest.fixture
def run(params):
    run = Run("run", MODEL, {"inputs": 6, "targets": 4})
    run.__dict__["_restored"] = (params, 0)
    run.__dict__["codec"] = TextCodec(Feature(), Feature(), True, 6)
    run.__dict__["task"] = None
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end_token", "ids"), [(None, [5, 6, 1]), (True, [5, 6, 1]), (False, [5, 6])]
)
def test_a_score_is_the_sum_of_its_tokens_of_which_the_end_may_be_one(run, params, end_token, ids):
    (expected,) = score(MODEL, params, inputs=[[3, 4, 1]], targets=[ids], bidirectional_prompt=True)
    texts = {"inputs": ["ab"], "targets": ["cd"], "end_token": end_token}
    (table,) = run.token_scores(**texts)
    assert list(table["token"]) == ["c", "d", "<1>"][: len(ids)]
    np.testing.assert_allclose(table["log_likelihood"], expected.tokens, rtol=1e-5)
    np.testing.assert_allclose(run.score(**texts), [expected.total], rtol=1e-5)


def test_no_new_tokens_are_refused_and_not_the_default(run):
    with pytest.raises(UserError, match="max_new_tokens is 0"):
        run.generate(["ab"], max_new_tokens=0)


def test_texts_that_lose_their_end_are_said(run):
    with pytest.warns(UserWarning, match=r"1 of 2 texts lose their end: .* 8 tokens, .* is 6"):
        run.score(inputs=["abcdefg", "abcde"], targets=["a", "b"])


def test_texts_that_are_cut_are_said_by_what_shows_them_too(run):
    for ask in (run.embed, lambda texts: run.attention(texts, targets=["a", "b"])):
        with pytest.warns(UserWarning, match=r"1 of 2 texts lose their end: .* 8 tokens") as found:
            ask(["abcdefg", "abcde"])
        assert len(found) == 1 and found[0].filename == __file__
    said = pytest.warns(UserWarning, match="1 of 1 texts lose their end")
    with said, pytest.raises(UserError, match="GPT2 has no experts"):
        run.routing(["abcdefg"], targets=["a"])


def test_prompts_lose_what_their_feature_does_not_keep(run):
    run.codec.inputs.keeps = "end"
    with pytest.warns(UserWarning, match=r"1 of 2 texts lose their beginning: .* 8 tokens"):
        run.score(inputs=["abcdefg", "abcde"], targets=["a", "b"])
    assert run.codec.encode("abcdefg") == [5, 6, 7, 8, 9, 1]
    assert run.codec.encode("abc") == [3, 4, 5, 1]


def test_options_are_ranked_as_the_run_learned_to_read(run, params):
    """This one of inputs and targets, in both directions."""
    table = run.rank("ab", ["cd", "e"], unconditional_context="x")
    assert list(table.columns) == [
        "option", "sum", "per_token", "per_character", "per_byte", "unconditional"
    ]  # fmt: skip
    pairs = [([3, 4, 1], [5, 6]), ([3, 4, 1], [7]), ([26, 1], [5, 6]), ([26, 1], [7])]
    inputs, targets = zip(*pairs, strict=True)
    found = score(MODEL, params, inputs=inputs, targets=targets, bidirectional_prompt=True)
    cd, e, cd_alone, e_alone = (one.total for one in found)
    np.testing.assert_allclose(table["sum"], [cd, e], rtol=1e-5)
    np.testing.assert_allclose(table["per_token"], [cd / 2, e], rtol=1e-5)
    np.testing.assert_allclose(table["unconditional"], [cd - cd_alone, e - e_alone], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["cd"], "options has 1 text, and two or more are ranked: `score` gives the"),
        ([], "options has 0 texts"),
        ("cd", "options is one text, 'cd': give a list of texts"),
        (["cd", " "], "an option after 'ab' has no text"),
    ],
)
def test_what_cannot_be_ranked_is_said(run, options, said):
    with pytest.raises(UserError, match=said):
        run.rank("ab", options)


def test_a_question_without_room_loses_its_beginning_and_it_is_said(run):
    with pytest.warns(UserWarning, match="2 of 4 contexts lose their beginning"):
        run.rank("abcdefgh", ["c", "d"], unconditional_context="x")


@pytest.mark.slow
def test_texts_are_embedded_by_the_states_of_their_tokens(run, params):
    """A decoder's, without that of its start token."""
    tokens = jnp.array([[0, 3, 4, 1, 0, 0, 0, 0]])  # start, a, b, end
    batch = {"decoder_input_tokens": tokens, "decoder_causal_attention": tokens[:, :4] * 0 + 1}
    batch["decoder_causal_attention"] = jnp.pad(batch["decoder_causal_attention"], ((0, 0), (0, 4)))
    states = MODEL.contextual_vectors(params, batch)[0, 1:4]
    found = run.embed(["ab", "cde"])
    assert found.shape == (2, states.shape[-1]) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], states.mean(0), atol=1e-5)
    np.testing.assert_allclose(run.embed(["ab", "cde"], "first")[0], states[0], atol=1e-5)
