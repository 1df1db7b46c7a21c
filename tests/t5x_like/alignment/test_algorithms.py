"""PPO and REINFORCE on the specification's numbers, and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from t5x_like import alignment
from t5x_like.alignment import Experience
from t5x_like.errors import UserError

REWARDS = jnp.array([[-0.002, 0.004, 0.994]])
VALUES = jnp.array([[0.5, 0.6, 0.7]])
ONES = jnp.ones((1, 3))


def past(advantages, returns=VALUES, mask=ONES):
    return Experience({}, mask, jnp.zeros_like(mask), VALUES, advantages, returns)


def test_ppo_takes_the_advantages_of_gae_and_whitens_them():
    advantages, returns = alignment.PPO(whiten=False).targets(REWARDS, VALUES, ONES)
    np.testing.assert_allclose(advantages, [[0.462135, 0.3833, 0.294]], atol=1e-6)
    np.testing.assert_allclose(returns, [[0.962135, 0.9833, 0.994]], atol=1e-6)
    whitened, again = alignment.PPO().targets(REWARDS, VALUES, ONES)
    np.testing.assert_allclose(whitened, [[0.978620, 0.041468, -1.020088]], atol=2e-6)
    np.testing.assert_allclose(again, returns)


def test_ppo_loses_by_the_clipped_surrogate_and_by_the_value():
    advantages = jnp.array([[0.462135, 0.3833, 0.294]])
    ratios = jnp.log(jnp.array([[1.3, 0.9, 0.7]]))
    # The value moves by 0.5, of which 0.2 count, towards a return that is 1 away.
    losses, shares = alignment.PPO().losses(ratios, VALUES + 0.5, past(advantages, VALUES + 1))
    np.testing.assert_allclose(losses["policy_loss"], -0.368444, atol=1e-6)
    np.testing.assert_allclose(losses["value_loss"], 0.5 * 0.8**2, rtol=1e-6)
    np.testing.assert_allclose(shares["clip_fraction"], 1 / 3)
    np.testing.assert_allclose(shares["value_clip_fraction"], 1)
    assert alignment.PPO(entropy_coefficient=0.01).loss_terms == {
        "policy_loss": 1.0,
        "value_loss": 0.1,
        "entropy": -0.01,
    }


def test_the_baseline_of_reinforce_is_what_the_other_answers_are_worth():
    rewards = jnp.array([[0.0, 3.0], [1.0, 0.0], [5.0, 0.0]])
    mask = jnp.array([[1.0, 1], [1, 0], [1, 0]])
    advantages, returns = alignment.Reinforce().targets(rewards, jnp.full((3, 2), 9.0), mask)
    np.testing.assert_allclose(returns, [[3, 3], [1, 0], [5, 0]])
    # The others' means: (1 + 5) / 2, (3 + 5) / 2 and (3 + 1) / 2.
    np.testing.assert_allclose(advantages, [[0, 0], [-3, 0], [3, 0]])


def test_reinforce_may_have_the_value_function_as_its_baseline():
    by_value = alignment.Reinforce(baseline="value")
    advantages, returns = by_value.targets(REWARDS, VALUES, ONES)
    np.testing.assert_allclose(returns, [[0.996, 0.998, 0.994]], atol=1e-6)
    np.testing.assert_allclose(advantages, [[0.496, 0.398, 0.294]], atol=1e-6)
    assert by_value.loss_terms["value_loss"] == 0.1
    assert alignment.Reinforce().loss_terms["value_loss"] == 0  # nobody reads the value


def test_reinforce_is_moved_by_advantages_times_log_probabilities():
    losses, _ = alignment.Reinforce().losses(
        jnp.log(jnp.array([[0.5, 0.3, 0.2]])), VALUES, past(jnp.array([[0.0, -1.0, 1.0]]))
    )
    np.testing.assert_allclose(losses["policy_loss"], (np.log(0.3) - np.log(0.2)) / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: alignment.PPO(minibatches=0), r"PPO.minibatches is 0: a whole number of 1"),
        (lambda: alignment.PPO(clip=0.0), r"PPO.clip is 0.0: it must be above 0"),
        (lambda: alignment.Reinforce(baseline="mean"), r"'value' or 'other_answers'"),
    ],
)
def test_what_no_algorithm_can_be_is_refused_in_one_line(build, said):
    with pytest.raises(UserError, match=said):
        build()
