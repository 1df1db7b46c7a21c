"""Rewards by rank, against SciPy's ranks and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from models.actor_critic import ActorCritic
from models.gpt import GPT2
from t5x_like import alignment
from t5x_like.alignment.rollouts import rollout_program
from t5x_like.errors import UserError
from tests.t5x_like.alignment.test_rollouts import prompts


def test_the_best_answer_of_each_prompt_is_rewarded():
    worth = np.array([0.1, 3.0, -2.0, 7.0, 7.0, 1.0, 5.0, 5.0, 5.0], np.float32)
    found = alignment.Ranking(answers=3).rewards(worth)
    # One is the best of the first prompt, two of the second, and the third's are all alike.
    np.testing.assert_allclose(found, [0, 1, 0, 0.5, 0.5, 0, 1 / 3, 1 / 3, 1 / 3])
    assert found.dtype == np.float32


def test_ranks_are_those_of_scipy_whatever_the_scale():
    worth = np.random.default_rng(0).integers(0, 6, (50, 5)).astype(np.float32)
    ranking = alignment.Ranking(answers=5, rewarded="ranks")
    found = ranking.rewards(worth.reshape(-1))
    expected = (scipy.stats.rankdata(worth, axis=1) - 1) / 4
    np.testing.assert_allclose(found, expected.reshape(-1), atol=1e-6)
    np.testing.assert_array_equal(ranking.rewards(np.exp(worth).reshape(-1)), found)


@pytest.mark.slow
def test_several_answers_to_a_prompt_follow_one_another_and_differ(partitioner):
    policy = GPT2(
        vocab_size=8, embed_dim=8, num_heads=2, num_layers=1, max_length=16,
        input_attention="causal",
    )  # fmt: skip
    model = ActorCritic(policy=policy)
    draw = rollout_program(model, partitioner, max_new_tokens=4, eos_id=(1,), seed=3, answers=3)
    params = model.init(jax.random.key(0))["params"]
    rollout = draw(params, {}, prompts([5, 6], [4]), jnp.int32(0))
    asked = np.asarray(rollout.rows["decoder_input_tokens"][:, :4]).tolist()
    assert asked == [[0, 2, 5, 6]] * 3 + [[0, 0, 2, 4]] * 3
    answers = np.asarray(rollout.answer_bn).tolist()
    assert len({tuple(row) for row in answers[:3]}) > 1
    assert len({tuple(row) for row in answers[3:]}) > 1


def test_settings_that_cannot_be_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"Ranking.answers is 1: ranks need 2 or more"):
        alignment.Ranking(answers=1)
    with pytest.raises(UserError, match=r"Ranking.rewarded is 'worst': 'best' or 'ranks'"):
        alignment.Ranking(rewarded="worst")
