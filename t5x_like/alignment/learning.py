"""From a rollout to the next state: all updates of an iteration, as one compiled program."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from t5x_like import anomalies
from t5x_like.alignment.advantages import Estimator, KLCoefficient, kl_terms, token_rewards
from t5x_like.alignment.algorithms import ENTROPY, Algorithm, Experience
from t5x_like.alignment.objectives import entropy, masked_mean
from t5x_like.alignment.rollouts import Rollout
from t5x_like.anomalies import AnomalyPolicy
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Batch, LearnsFromRewards, Metrics, Model, Params, Sums
from t5x_like.training import step as training_step
from t5x_like.training.loss import TOTAL
from t5x_like.training.state import TrainState

Array = jax.Array
UpdateProgram = Callable[[TrainState, Rollout, Array, Batch], tuple[TrainState, Metrics]]

EXPERIENCE, PRETRAINING, PRETRAINING_LOSS = "experience", "pretraining", "pretraining_loss"
# Of every update alike, or of the last: not sums over tokens or rows.
_OF_UPDATES = (TOTAL, "gradient_norm", "parameter_norm", "learning_rate")


class Objective:
    """The loss of an update, with what the gradient asks of a model.

    Args:
      model: policy and value function.
      algorithm: whose losses are taken.
      pretraining_coefficient: of the language-model loss of text that is mixed in (PPO-ptx), a mean
        over its tokens; 0 for none.
    """

    tuning = None

    def __init__(
        self, model: LearnsFromRewards, algorithm: Algorithm, pretraining_coefficient: float = 0.0
    ) -> None:
        self._model, self._algorithm = model, algorithm
        mixed = {PRETRAINING_LOSS: pretraining_coefficient} if pretraining_coefficient else {}
        self.loss_terms = {**algorithm.loss_terms, **mixed}

    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """Tokens of answers, and of the text."""
        tokens = batch[EXPERIENCE].mask_bn.sum()
        weights = dict.fromkeys(self._algorithm.loss_terms, tokens)
        if PRETRAINING_LOSS in self.loss_terms:
            (weights[PRETRAINING_LOSS],) = self._model.loss_weights(batch[PRETRAINING]).values()
        return weights

    def loss(self, params: Params, batch: Batch, rng: Array | None = None) -> tuple[Sums, Metrics]:
        """Each term summed over tokens; answers without dropout, text with it."""
        past: Experience = batch[EXPERIENCE]
        mask_bn = past.mask_bn
        logits_bnv, value_bn = self._model.logits_and_values(params, past.rows, mask_bn.shape[1])
        log_prob_bn = token_log_probs(logits_bnv, past.rows)
        means, shares = self._algorithm.losses(log_prob_bn, value_bn, past)
        means = {**means, ENTROPY: masked_mean(entropy(logits_bnv), mask_bn)}
        tokens = mask_bn.sum()
        sums = {name: value * tokens for name, value in means.items()}
        metrics = {name: (value * tokens, tokens) for name, value in {**means, **shares}.items()}
        if PRETRAINING_LOSS in self.loss_terms:
            (text,), _ = _values(self._model.loss(params, batch[PRETRAINING], rng))
            (weight,) = self._model.loss_weights(batch[PRETRAINING]).values()
            sums[PRETRAINING_LOSS] = text
            metrics[PRETRAINING_LOSS] = (text, weight)
        return sums, metrics


def _values(found: tuple[Sums, Metrics]) -> tuple[list[Array], Metrics]:
    return list(found[0].values()), found[1]


def token_log_probs(logits_bnv: Array, rows: Batch) -> Array:
    """The log-probability of each token of answers, float32 `[b, n]`.

    Args:
      logits_bnv: for these tokens.
      rows: see `rollouts.Rollout`.
    """
    token_bn = rows["decoder_input_tokens"][:, -logits_bnv.shape[1] :]
    chosen_bn = jnp.take_along_axis(logits_bnv, token_bn[..., None], axis=-1)[..., 0]
    return chosen_bn - jax.nn.logsumexp(logits_bnv, axis=-1)


def update_program(
    model: LearnsFromRewards, optimizer: Optimizer, partitioner: Partitioner, **settings: Any
) -> UpdateProgram:
    """`jitted_update`, whose arguments these are, to be called."""
    compiled = jitted_update(model, optimizer, partitioner, **settings)

    def run(
        state: TrainState, rollout: Rollout, reward_b: Array, text: Batch
    ) -> tuple[TrainState, Metrics]:
        with partitioner.activate():
            return cast(tuple[TrainState, Metrics], compiled(state, rollout, reward_b, text))

    return run


def jitted_update(
    model: LearnsFromRewards,
    optimizer: Optimizer,
    partitioner: Partitioner,
    *,
    algorithm: Algorithm,
    kl: KLCoefficient,
    estimator: Estimator = "k1",
    pretraining_coefficient: float = 0.0,
    seed: int = 0,
    num_microbatches: int = 1,
    anomaly_policy: AnomalyPolicy,
) -> jax.stages.Wrapped:
    """From a state, a rollout, its rewards `[b]` and rows of text to the next state and metrics.

    The state is donated. The order of answers in epochs is drawn from seed, step and epoch. An
    update that is anomalous leaves the whole iteration out.

    Args:
      model: policy, value function and reference.
      optimizer: its schedule counts iterations, not updates.
      partitioner: the mesh.
      algorithm: what is learned, and how often.
      kl: what the divergence from the reference costs.
      estimator: of the divergence, see `advantages.kl_terms`.
      pretraining_coefficient: see `Objective`; rows of text are empty where it is 0.
      seed: of the run.
      num_microbatches: pieces that each minibatch is computed in.
      anomaly_policy: see `anomalies.settle`.
    """
    objective = cast(Model, Objective(model, algorithm, pretraining_coefficient))
    gradient = training_step.mean_gradient(objective, num_microbatches)
    apply_gradient = training_step.state_update(model, optimizer)
    pieces = algorithm.minibatches

    def divided(tree: Any) -> Any:
        return jax.lax.with_sharding_constraint(tree, partitioner.batch_sharding)

    def past_of(
        state: TrainState, rollout: Rollout, reward_b: Array, coefficient: Array
    ) -> tuple[Experience, Array]:
        """The experience, and the estimated divergence of each token."""

        def likelihoods(rows: Batch) -> tuple[Array, Array, Array]:
            length = rollout.mask_bn.shape[1]
            logits_bnv, value_bn = model.logits_and_values(state.params, rows, length)
            reference_bnv = model.reference_logits(state.frozen or {}, rows, length)
            return (
                token_log_probs(logits_bnv, rows),
                token_log_probs(reference_bnv, rows),
                value_bn,
            )

        # A piece at a time, as in the updates: logits of all rows may be large.
        found = jax.lax.map(
            lambda rows: likelihoods(divided(rows)),
            training_step.split_microbatches(rollout.rows, pieces),
        )
        policy_bn, reference_bn, value_bn = training_step.joined_microbatches(found)
        mask_bn = rollout.mask_bn
        value_bn = value_bn * mask_bn
        kl_bn = kl_terms(policy_bn, reference_bn, estimator) * mask_bn
        reward_bn = token_rewards(reward_b, kl_bn, mask_bn, coefficient)
        advantage_bn, return_bn = algorithm.targets(reward_bn, value_bn, mask_bn)
        past = Experience(rollout.rows, mask_bn, policy_bn, value_bn, advantage_bn, return_bn)
        return past, kl_bn

    def step(
        state: TrainState, rollout: Rollout, reward_b: Array, text: Batch
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        # The same in every row, so that it is divided as the batch is.
        scale = state.carry["kl_scale"].max()
        coefficient = kl.initial * scale
        past, kl_bn = past_of(state, rollout, reward_b, coefficient)
        rows = reward_b.shape[0]

        def order(epoch: Array) -> Array:
            drawn = jax.random.permutation(jax.random.fold_in(key, epoch), rows)
            return drawn.reshape(pieces, rows // pieces)

        orders = jax.vmap(order)(jnp.arange(algorithm.epochs)).reshape(-1, rows // pieces)
        texts = training_step.split_microbatches(dict(text), pieces)

        def one(sofar: TrainState, place: tuple[Array, Array]) -> tuple[TrainState, Metrics]:
            number, own = place
            batch = {EXPERIENCE: divided(jax.tree.map(lambda x: x[own], past))}
            if text:
                batch[PRETRAINING] = divided(jax.tree.map(lambda x: x[number % pieces], texts))
            drawn = jax.random.fold_in(key, algorithm.epochs + number)
            gradients, metrics, _ = gradient(sofar, batch, drawn)
            after, of_update = apply_gradient(sofar, gradients)
            return after.replace(step=sofar.step), {**metrics, **of_update}

        inner = state.replace(carry=None, guard=None)
        after, each = jax.lax.scan(one, inner, (jnp.arange(len(orders)), orders))
        metrics = {
            name: (value.mean(), jnp.float32(1))
            if name in _OF_UPDATES
            else (value.sum(), weight.sum())
            for name, (value, weight) in each.items()
        }
        answers = jnp.float32(rows)
        divergence = kl_bn.sum() / answers
        metrics |= {
            "reward": (reward_b.sum(), answers),
            "kl": (kl_bn.sum(), answers),
            "kl_coefficient": (coefficient, jnp.float32(1)),
            "answer_length": (rollout.mask_bn.sum(), answers),
            "ended": (rollout.ended_b.astype(jnp.float32).sum(), answers),
        }
        # Of 1, whatever the coefficient begins as.
        changed = kl.updated(coefficient, divergence, rows) / coefficient if kl.initial else 1.0
        carry = jax.tree.map(lambda x: x * changed, state.carry)
        after = after.replace(step=state.step + 1, guard=state.guard, carry=carry)
        return anomalies.settle(anomaly_policy, state, after, metrics)

    placed = training_step.placed_state(model, optimizer, partitioner, anomaly_policy)
    spread = partitioner.batch_sharding
    return jax.jit(
        step,
        in_shardings=(placed, spread, spread, spread),
        out_shardings=(placed, partitioner.replicated),
        donate_argnums=0,
    )
