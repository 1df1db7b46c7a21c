"""A policy with a value function: the policy's own logits, and values of what was read before."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.actor_critic import ActorCritic
from models.errors import ModelError
from models.gpt import GPT2
from models.heads import Classification, Reward
from tests.models.families import V, drawn

gpt2 = functools.partial(
    GPT2, vocab_size=V, embed_dim=8, num_heads=2, num_layers=1, max_length=16,
    input_attention="causal",
)  # fmt: skip
# Prompts [2, 5] and [2, 7, 8], padded on the left; answers [6, 9, 1] and [4, 1].
ROWS = {
    "decoder_input_tokens": jnp.array([[0, 2, 5, 6, 9, 1], [2, 7, 8, 4, 1, 0]]),
    "decoder_positions": jnp.array([[0, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 0]]),
    "decoder_segment_ids": jnp.array([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]),
}


@pytest.fixture(scope="module", params=["shared", "apart"])
def case(request):
    value = None if request.param == "shared" else gpt2(head=Reward())
    model = ActorCritic(policy=gpt2(), value=value, reward=gpt2(head=Reward()))
    return model, drawn(model)


@functools.partial(jax.jit, static_argnums=(0, 3))
def logits_and_values(model, params, rows, last):
    return model.logits_and_values(params, rows, last)


def test_the_policys_class_reads_the_parameters(case):
    model, params = case
    policy = drawn(gpt2())
    own = model.policy_params(params)
    assert jax.tree.structure(own) == jax.tree.structure(policy)
    assert set(params) - set(own) == ({"value"} if model.value else {"output_head"})
    names = jax.tree.structure(model.abstract_params(), is_leaf=lambda x: hasattr(x, "names"))
    assert names == jax.tree.structure(params)
    assert model.parameter_count() == sum(x.size for x in jax.tree.leaves(params))


def test_logits_are_the_policys_for_rows_without_padding(case):
    model, params = case
    found, values = logits_and_values(model, params, ROWS, 3)
    own = model.policy_params(params)
    logits_of = jax.jit(gpt2().logits)
    alone = logits_of(own, {"decoder_input_tokens": jnp.array([[2, 5, 6, 9]])})
    np.testing.assert_allclose(found[0], alone[0, -3:], rtol=2e-4, atol=1e-4)
    shorter = logits_of(own, {"decoder_input_tokens": jnp.array([[2, 7, 8, 4]])})
    np.testing.assert_allclose(found[1, :2], shorter[0, -2:], rtol=2e-4, atol=1e-4)
    assert values.shape == (2, 3)
    reference_logits = jax.jit(model.reference_logits, static_argnums=2)
    reference = reference_logits({"reference": own}, ROWS, 3)
    np.testing.assert_allclose(reference, found, rtol=1e-5, atol=1e-5)


def test_a_value_is_of_what_stands_before_its_token(case):
    model, params = case
    _, values = logits_and_values(model, params, ROWS, 3)
    changed = ROWS["decoder_input_tokens"].at[0, 4].set(3)  # the answer's second token
    _, after = logits_and_values(model, params, {**ROWS, "decoder_input_tokens": changed}, 3)
    np.testing.assert_allclose(after[0, :2], values[0, :2], rtol=1e-5)
    assert abs(after[0, 2] - values[0, 2]) > 1e-3


def test_the_reward_is_what_the_reward_model_says_of_the_last_token(case):
    model, _ = case
    params = drawn(gpt2(head=Reward()))
    found = jax.jit(model.rewards)({"reward": params}, ROWS)
    predictions_of = jax.jit(gpt2(head=Reward()).predict)
    for row, reward in zip([[2, 5, 6, 9, 1], [2, 7, 8, 4, 1]], found, strict=True):
        tokens = jnp.array([row])
        read = {"decoder_input_tokens": tokens, "decoder_segment_ids": jnp.ones_like(tokens)}
        alone = predictions_of(params, read)
        np.testing.assert_allclose(reward, alone["reward"][0], rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"reward": gpt2(vocab_size=60, head=Reward())}, "60 tokens and the policy one of 61"),
        ({"value": gpt2(vocab_size=60, head=Reward())}, "60 tokens and the policy one of 61"),
        ({"reward": gpt2()}, "GPT2 without heads.Reward"),
        ({"value": gpt2(num_heads=1, head=Reward())}, "heads of different sizes"),
        ({"policy": gpt2(head=Classification(("a", "b")))}, "a decoder that writes text"),
    ],
)
def test_models_that_do_not_go_together_are_refused_in_one_line(fields, said):
    with pytest.raises(ModelError, match=said):
        ActorCritic(**{"policy": gpt2(), **fields})
