"""The updates of an iteration: what is measured of a rollout, and that rewards are learned from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.actor_critic import ActorCritic
from models.gpt import GPT2
from t5x_like import alignment, optimizers
from t5x_like.alignment.learning import token_log_probs, update_program
from t5x_like.alignment.rollouts import rollout_program
from t5x_like.anomalies import AnomalyPolicy
from t5x_like.schedules import Constant
from t5x_like.training import state as train_state

pytestmark = pytest.mark.slow  # the updates are a large program

ROWS, NEW = 32, 3
gpt2 = functools.partial(
    GPT2, vocab_size=8, embed_dim=8, num_heads=2, num_layers=1, max_length=16,
    input_attention="causal",
)  # fmt: skip
PROMPTS = {
    "decoder_input_tokens": jnp.tile(jnp.array([[2, 5]]), (ROWS, 1)),
    "decoder_positions": jnp.tile(jnp.array([[0, 1]]), (ROWS, 1)),
    "decoder_segment_ids": jnp.ones((ROWS, 2), jnp.int32),
}
# Rows of one token, always 3, that are learned beside the rewards.
TEXT = {
    "decoder_input_tokens": jnp.full((8, 1), 7),
    "decoder_target_tokens": jnp.full((8, 1), 3),
    "decoder_loss_weights": jnp.ones((8, 1), jnp.int32),
}
KL = alignment.AdaptiveKL(initial=0.05, target=100.0, horizon=ROWS)


class Case:
    """A policy, and how it is drawn from and learns."""

    def __init__(self, partitioner):
        self.model = ActorCritic(policy=gpt2())
        self.optimizer = optimizers.adamw(Constant(0.01), weight_decay=0.0)
        self.partitioner, policy = partitioner, AnomalyPolicy()
        self.guard = policy.guard()
        self.draw = rollout_program(
            self.model, partitioner, max_new_tokens=NEW, eos_id=(1,), seed=0
        )
        self.learn = update_program(
            self.model,
            self.optimizer,
            partitioner,
            algorithm=alignment.PPO(epochs=2, minibatches=4),
            kl=KL,
            pretraining_coefficient=0.3,
            anomaly_policy=policy,
        )

    def state(self):
        """At the beginning, with another policy as the reference."""
        made = train_state.create_state(self.model, self.optimizer, self.partitioner, seed=0)
        reference = gpt2().init(jax.random.key(5))["params"]
        return made.replace(
            guard=self.guard,
            carry=self.model.initial_carry(ROWS),
            frozen={"reference": jax.tree.map(lambda x: 2 * x, reference)},
        )

    def iterate(self, state, reward=lambda tokens: (tokens[:, 0] == 6).astype(jnp.float32)):
        rollout = self.draw(state.params, state.frozen, PROMPTS, state.step)
        state, metrics = self.learn(state, rollout, reward(rollout.answer_bn), TEXT)
        return state, rollout, {name: float(s / w) for name, (s, w) in metrics.items() if w}


@pytest.fixture(scope="module")
def case(partitioner):
    return Case(partitioner)


def test_an_iteration_measures_what_was_drawn(case):
    before = case.state()
    params = jax.tree.map(jnp.copy, before.params)
    reference = jax.tree.map(jnp.copy, before.frozen["reference"])
    state, rollout, found = case.iterate(before)
    first = np.asarray(rollout.answer_bn[:, 0])
    np.testing.assert_allclose(found["reward"], (first == 6).mean())
    np.testing.assert_allclose(found["answer_length"], rollout.mask_bn.sum() / ROWS)
    np.testing.assert_allclose(found["ended"], np.mean(rollout.ended_b))
    logits, _ = case.model.logits_and_values(params, rollout.rows, NEW)
    others = gpt2().logits(reference, {k: v[:, :-1] for k, v in rollout.rows.items()})[:, -NEW:]
    ratio = token_log_probs(logits, rollout.rows) - token_log_probs(others, rollout.rows)
    divergence = (ratio * rollout.mask_bn).sum() / ROWS
    np.testing.assert_allclose(found["kl"], divergence, rtol=1e-3)
    np.testing.assert_allclose(found["kl_coefficient"], 0.05)
    # The divergence is far below its target, and after a horizon's answers costs a fifth less.
    np.testing.assert_allclose(state.carry["kl_scale"], np.full(ROWS, 0.8), rtol=1e-5)
    assert int(state.step) == 1


def test_the_same_state_and_answers_make_the_same_updates(case):
    (one, _, first), (other, _, second) = (case.iterate(case.state()) for _ in range(2))
    assert first == second
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_a_policy_learns_what_is_rewarded_and_the_text_beside_it(case):
    state = case.state()
    found = []
    for _ in range(18):
        state, _, metrics = case.iterate(state)
        found.append(metrics)
    assert found[0]["reward"] < 0.3
    assert np.mean([one["reward"] for one in found[-5:]]) > 0.9
    assert found[0]["pretraining_loss"] > 1.5 and found[-1]["pretraining_loss"] < 0.5
    assert found[-1]["value_loss"] < found[0]["value_loss"]
    assert int(state.step) == 18


def test_an_iteration_that_goes_wrong_changes_nothing(case):
    before = case.state()
    params = jax.tree.map(np.asarray, before.params)
    after, _, found = case.iterate(before, lambda tokens: jnp.full((ROWS,), jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, after.params, params)
    np.testing.assert_array_equal(after.carry["kl_scale"], np.ones(ROWS))
    assert found["anomalies_in_a_row"] == 1 and "reward" not in found
