"""Rewards, advantages and objectives: the specification's numbers, and TRL 0.21.0's.

`trl.json` is written by make_trl_fixture.py, from TRL's own source.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_like import alignment
from t5x_like.errors import UserError

TRL = json.loads((Path(__file__).parent / "trl.json").read_text())
ONES = jnp.ones((1, 3))
ADVANTAGES = jnp.array([[0.462135, 0.3833, 0.294]])


def close(found, expected, atol=1e-6):
    np.testing.assert_allclose(found, expected, atol=atol, rtol=1e-6)


def trl(name):
    return jnp.array(TRL[name], jnp.float32)


def test_the_score_is_at_the_end_and_the_divergence_costs_everywhere():
    kl = alignment.kl_terms(jnp.array([[0.1, -0.2, 0.3]]), jnp.zeros((1, 3)))
    rewards = alignment.token_rewards(jnp.array([1.0]), kl, ONES, 0.02)
    close(rewards, [[-0.002, 0.004, 0.994]])
    # Behind an answer of two tokens there is nothing, and its score is at the second.
    short = alignment.token_rewards(jnp.array([1.0]), kl, jnp.array([[1.0, 1, 0]]), 0.02)
    close(short, [[-0.002, 1.004, 0.0]])


def test_generalized_advantages_and_their_whitening():
    rewards, values = jnp.array([[-0.002, 0.004, 0.994]]), jnp.array([[0.5, 0.6, 0.7]])
    found = alignment.generalized_advantages(rewards, values)
    close(found, ADVANTAGES)
    close(found + values, [[0.962135, 0.9833, 0.994]])
    close(alignment.whitened(found, ONES), [[0.978620, 0.041468, -1.020088]], 2e-6)
    biased = alignment.whitened(found, ONES, unbiased=False)
    close(biased, [[1.198560, 0.050787, -1.249347]], 2e-6)


@pytest.mark.parametrize(
    ("advantages", "terms"),
    [(ADVANTAGES, [0.554562, 0.344970, 0.205800]), (-ONES, [-1.3, -0.9, -0.8])],
)
def test_the_clipped_surrogate(advantages, terms):
    new = jnp.log(jnp.array([[1.3, 0.9, 0.7]]))
    for i, term in enumerate(terms):
        only = jnp.zeros((1, 3)).at[0, i].set(1.0)
        close(alignment.clipped_policy_loss(new, jnp.zeros((1, 3)), advantages, only)[0], -term)
    loss, clipped = alignment.clipped_policy_loss(new, jnp.zeros((1, 3)), advantages, ONES)
    close(loss, -np.mean(terms))
    # Of positive advantages the ratio above 1.2, of negative ones that below 0.8.
    close(clipped, 1 / 3)


def test_estimates_of_the_divergence():
    x = jnp.array([[0.3]])
    close(alignment.kl_terms(x, jnp.zeros((1, 1)), "k1"), [[0.3]])
    close(alignment.kl_terms(x, jnp.zeros((1, 1)), "k3"), [[0.040818]])
    with pytest.raises(UserError, match="estimator is 'k2'"):
        alignment.kl_terms(x, x, "k2")


def test_the_coefficient_is_steered_to_a_target():
    adaptive = alignment.AdaptiveKL(initial=0.2, target=6.0, horizon=10_000)
    close(adaptive.updated(jnp.float32(0.2), jnp.float32(9.0), 256), 0.201024)
    assert alignment.FixedKL(0.02).updated(0.02, jnp.float32(9.0), 256) == 0.02
    with pytest.raises(UserError, match=r"AdaptiveKL\.target is 0"):
        alignment.AdaptiveKL(target=0)


def test_the_gradient_of_a_three_armed_bandit():
    """π (0.5, 0.3, 0.2) and f (1, 0, 2): (0.05, −0.27, 0.22) on the logits."""
    probabilities, f = jnp.array([0.5, 0.3, 0.2]), jnp.array([1.0, 0.0, 2.0])

    def expected(logits):
        drawn = jax.nn.log_softmax(logits)[None]  # each arm as often as it is drawn
        loss = alignment.policy_gradient_loss(drawn, f[None], probabilities[None])
        return -loss

    close(jax.grad(expected)(jnp.log(probabilities)), [0.05, -0.27, 0.22])


def test_entropy_is_that_of_the_distribution():
    close(alignment.entropy(jnp.log(jnp.array([[[0.5, 0.25, 0.25]]]))), [[1.5 * np.log(2)]])


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_rewards_and_advantages_are_trls(estimator):
    kl = alignment.kl_terms(trl("logprobs"), trl("ref_logprobs"), estimator)
    ones = jnp.ones_like(kl)
    rewards = alignment.token_rewards(trl("scores"), kl, ones, 0.05)
    close(rewards, trl(f"rewards_{estimator}"))
    found = alignment.generalized_advantages(rewards, trl("values"), 0.98, 0.95)
    close(found, trl(f"raw_advantages_{estimator}"), 4e-6)
    close(alignment.whitened(found, ones), trl(f"advantages_{estimator}"), 2e-6)


def test_losses_are_trls():
    mask = (jnp.arange(5) < jnp.array(TRL["lengths"])[:, None]).astype(jnp.float32)
    policy, _ = alignment.clipped_policy_loss(
        trl("new"), trl("logprobs"), trl("advantages_k1"), mask
    )
    value, clipped = alignment.clipped_value_loss(
        trl("new_values"), trl("values"), trl("returns_k1"), mask
    )
    close(policy, TRL["pg_loss"])
    close(value, TRL["vf_loss"])
    close(policy + 0.1 * value, TRL["loss"])
    close(clipped, TRL["vf_clipfrac"])


def test_whitening_is_trls():
    mask = (jnp.arange(5) < jnp.array(TRL["lengths"])[:, None]).astype(jnp.float32)
    close(alignment.whitened(trl("values"), mask), trl("whitened") * mask)
    around = alignment.whitened(trl("values"), mask, shift_mean=False)
    close(around, trl("whitened_around_the_mean") * mask)
