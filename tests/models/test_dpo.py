"""Direct preference optimization by hand and against the likelihoods of a decoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import BERT
from models.dpo import DPO
from models.errors import ModelError
from models.gpt import GPT2
from models.heads import Reward
from models.tuning import LoRA
from t5x_like import protocols
from tests.models.families import V, drawn

gpt2 = functools.partial(
    GPT2, vocab_size=V, embed_dim=8, num_heads=2, num_layers=1, max_length=16,
    input_attention="causal",
)  # fmt: skip
# Rows of prompt and answer; how many of the last tokens are the answer's.
ROWS, SIZES = [[2, 5, 6, 9, 1], [2, 5, 6, 7, 8, 9, 1], [2, 5, 4, 1]], [2, 4, 1]


def batch_of(ranks, there=(1, 1, 1)):
    tokens = np.zeros((1, 3, 7), np.int32)
    segments = np.zeros_like(tokens)
    for i, row in enumerate(ROWS):
        tokens[0, i, : len(row)], segments[0, i, : len(row)] = row, there[i]
    return {
        "decoder_input_tokens": jnp.array(tokens),
        "decoder_segment_ids": jnp.array(segments),
        "answer_sizes": jnp.array([SIZES]),
        "ranks": jnp.array([ranks]),
        "answer_weight": jnp.array([there]),
    }


@pytest.fixture(scope="module")
def case():
    model = DPO(policy=gpt2(), beta=0.5)
    return model, drawn(model, 0), drawn(model, 1)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, batch, reference):
    return model.loss_with_frozen(params, batch, {"reference": reference})


def test_the_parameters_are_the_policys(case):
    model, params, _ = case
    plain = drawn(gpt2())
    assert jax.tree.structure(params) == jax.tree.structure(plain)
    assert model.vocab_size == V and model.max_length == 16


@pytest.mark.slow
def test_an_answer_counts_with_its_end_and_without_its_prompt(case):
    model, params, _ = case
    found = jax.jit(model.log_likelihoods)(params, batch_of([0, 1, 2]))
    logits_of = jax.jit(gpt2().logits)
    for i, (row, size) in enumerate(zip(ROWS, SIZES, strict=True)):
        logits = logits_of(params, {"decoder_input_tokens": jnp.array([row[:-1]])})
        log_probs = jax.nn.log_softmax(logits)[0]
        tokens = [log_probs[t - 1, row[t]] for t in range(len(row) - size, len(row))]
        np.testing.assert_allclose(found[0, i], sum(tokens), rtol=2e-5)


def test_the_loss_is_of_the_differences_of_log_ratios(case):
    model, params, reference = case
    batch = batch_of([1, 0, 2])
    likelihoods = jax.jit(model.log_likelihoods)
    ratio = likelihoods(params, batch) - likelihoods(reference, batch)
    first, second, third = 0.5 * np.asarray(ratio[0])
    terms = [np.log1p(np.exp(-d)) for d in (second - first, second - third, first - third)]
    sums, metrics = loss_of(model, params, batch, reference)
    np.testing.assert_allclose(sums["loss"], np.mean(terms), rtol=1e-4)
    np.testing.assert_allclose(metrics["margin"][0] / 3, 2 * (second - third) / 3, rtol=1e-4)
    assert model.loss_weights(batch) == {"loss": 1}


def test_where_policy_and_reference_are_one_the_loss_is_the_logarithm_of_two(case):
    model, params, _ = case
    sums, metrics = loss_of(model, params, batch_of([0, 1, 1]), params)
    np.testing.assert_allclose(sums["loss"], np.log(2), rtol=1e-6)
    np.testing.assert_allclose(metrics["pairwise_accuracy"], (1.0, 2.0))  # ties count a half


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_factors_are_trained_alone_and_the_reference_has_none(dtype):
    """LoRA's factors change nothing to begin with, so that the loss is log 2 there too."""
    model = DPO(policy=gpt2(tuning=LoRA(rank=2, targets=["/query$"], frozen_dtype=dtype)))
    params = model.init(jax.random.key(0))["params"]
    assert protocols.tuning(model) == model.policy.tuning
    (reference,) = model.frozen_models.values()
    plain = drawn(reference)
    assert jax.tree.structure(plain) == jax.tree.structure(drawn(gpt2()))
    assert jax.tree.structure(plain) != jax.tree.structure(params)
    # The reference's are rounded as the policy's are: both are the same numbers.
    own = _like(plain, params)
    assert jax.tree.map(lambda x: x.dtype, plain) == jax.tree.map(lambda x: x.dtype, own)
    assert all(x.dtype == dtype for x in jax.tree.leaves(plain))
    sums, _ = loss_of(model, params, batch_of([0, 1, 1]), own)
    np.testing.assert_allclose(sums["loss"], np.log(2), rtol=1e-6)


def _like(tree, other):
    """Of another tree what this one has."""
    return {
        key: _like(value, other[key]) if isinstance(value, dict) else other[key]
        for key, value in tree.items()
    }


def test_what_is_no_policy_is_refused():
    with pytest.raises(ModelError, match="policy is a GPT2 for batches of 'causal_comparisons'"):
        DPO(policy=gpt2(head=Reward()))
    with pytest.raises(ModelError, match="reads a prompt in both directions"):
        DPO(policy=gpt2(input_attention="prefix"))
    encoder = BERT(vocab_size=V, embed_dim=8, num_heads=2, num_layers=1, mlp_dim=8)
    with pytest.raises(ModelError, match=r"policy is a BERT .* a decoder that writes text"):
        DPO(policy=encoder)
    with pytest.raises(ModelError, match=r"DPO\.beta is 0"):
        DPO(policy=gpt2(), beta=0.0)
