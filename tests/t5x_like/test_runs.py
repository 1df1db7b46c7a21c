"""What an opened run says of texts; its parameters and task are put in place of files'."""

import jax
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
    return run


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
