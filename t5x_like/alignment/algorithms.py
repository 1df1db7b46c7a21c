"""How a policy learns from the rewards of its answers: PPO, and REINFORCE with a baseline.

Arrays as in `alignment.advantages`.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, Protocol, get_args

import jax
import jax.numpy as jnp

from t5x_like.alignment.advantages import generalized_advantages, whitened
from t5x_like.alignment.objectives import (
    clipped_policy_loss,
    clipped_value_loss,
    policy_gradient_loss,
)
from t5x_like.errors import UserError

Array = jax.Array
Baseline = Literal["value", "other_answers"]

POLICY_LOSS, VALUE_LOSS, ENTROPY = "policy_loss", "value_loss", "entropy"


class Experience(NamedTuple):
    """What is learned from: answers, and how likely and how good they were when they were drawn.

    Attributes:
      rows: see `rollouts.Rollout`.
      mask_bn: 1 on the tokens of answers.
      log_prob_bn: of each token, under the policy that drew it.
      value_bn: what the value function expected before it.
      advantage_bn: see `Algorithm.targets`.
      return_bn: see `Algorithm.targets`.
    """

    rows: dict[str, Array]
    mask_bn: Array
    log_prob_bn: Array
    value_bn: Array
    advantage_bn: Array
    return_bn: Array


class Algorithm(Protocol):
    """What is done with a rollout.

    Attributes:
      epochs: how often it is gone through.
      minibatches: updates in each epoch; they divide its rows.
      loss_terms: `policy_loss`, `value_loss` and `entropy` to their coefficients.
    """

    @property
    def epochs(self) -> int:
        """See above."""

    @property
    def minibatches(self) -> int:
        """See above."""

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """See above."""

    def targets(self, reward_bn: Array, value_bn: Array, mask_bn: Array) -> tuple[Array, Array]:
        """The advantage of each token, and the return that the value before it is to become.

        Args:
          reward_bn: see `advantages.token_rewards`.
          value_bn: what the value function expects, 0 behind answers.
          mask_bn: 1 on the tokens of answers.
        """

    def losses(
        self, log_prob_bn: Array, value_bn: Array, past: Experience
    ) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        """The losses of policy and value, and shares of tokens by name: means over tokens.

        Args:
          log_prob_bn: of each token, under the policy that is trained.
          value_bn: what the value function says now.
          past: of the same answers.
        """


@dataclasses.dataclass(frozen=True)
class PPO:
    """Proximal policy optimization (Schulman et al. 2017) with GAE, as InstructGPT has it.

    Attributes:
      epochs: how often a rollout is gone through; InstructGPT has 1.
      minibatches: updates in each epoch; InstructGPT has 8 of 64 answers.
      clip: epsilon of the ratio of probabilities.
      value_clip: how far a value may move from what it was.
      value_coefficient: of the value's loss.
      entropy_coefficient: of the entropy of the next token, which is made larger.
      discount: gamma.
      decay: lambda of GAE.
      whiten: whether advantages have mean 0 and variance 1 over a rollout.
    """

    epochs: int = 1
    minibatches: int = 8
    clip: float = 0.2
    value_clip: float = 0.2
    value_coefficient: float = 0.1
    entropy_coefficient: float = 0.0
    discount: float = 1.0
    decay: float = 0.95
    whiten: bool = True

    def __post_init__(self) -> None:
        _check_counts(self)
        for name in ("clip", "value_clip"):
            if not getattr(self, name) > 0:
                raise UserError(f"PPO.{name} is {getattr(self, name)!r}: it must be above 0.")

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """See `Algorithm`."""
        return _terms(self.value_coefficient, self.entropy_coefficient)

    def targets(self, reward_bn: Array, value_bn: Array, mask_bn: Array) -> tuple[Array, Array]:
        """GAE and the returns of lambda; see `Algorithm`."""
        found_bn = generalized_advantages(reward_bn, value_bn, self.discount, self.decay) * mask_bn
        return_bn = found_bn + value_bn
        return (whitened(found_bn, mask_bn) if self.whiten else found_bn), return_bn

    def losses(
        self, log_prob_bn: Array, value_bn: Array, past: Experience
    ) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        """See `Algorithm`."""
        mask_bn = past.mask_bn
        policy, clipped = clipped_policy_loss(
            log_prob_bn, past.log_prob_bn, past.advantage_bn, mask_bn, self.clip
        )
        value, value_clipped = clipped_value_loss(
            value_bn, past.value_bn, past.return_bn, mask_bn, self.value_clip
        )
        return (
            {POLICY_LOSS: policy, VALUE_LOSS: value},
            {"clip_fraction": clipped, "value_clip_fraction": value_clipped},
        )


@dataclasses.dataclass(frozen=True)
class Reinforce:
    """REINFORCE with a baseline (Williams 1992), one update for each rollout.

    Attributes:
      baseline: "value", what the value function expects before each token; or "other_answers", the
        mean reward of the rollout's other answers, for which no value function is trained.
      value_coefficient: of the value's loss.
      entropy_coefficient: of the entropy of the next token, which is made larger.
      whiten: whether advantages have mean 0 and variance 1 over a rollout.
    """

    baseline: Baseline = "other_answers"
    value_coefficient: float = 0.1
    entropy_coefficient: float = 0.0
    whiten: bool = False

    epochs: ClassVar[int] = 1
    minibatches: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.baseline not in get_args(Baseline):
            raise UserError(f"Reinforce.baseline is {self.baseline!r}: 'value' or 'other_answers'.")

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """See `Algorithm`."""
        by_value = self.baseline == "value"
        return _terms(self.value_coefficient if by_value else 0.0, self.entropy_coefficient)

    def targets(self, reward_bn: Array, value_bn: Array, mask_bn: Array) -> tuple[Array, Array]:
        """The rewards from a token on, less the baseline; and these rewards."""
        return_bn = generalized_advantages(reward_bn, jnp.zeros_like(reward_bn), 1.0, 1.0)
        if self.baseline == "value":
            baseline_bn = value_bn
        else:
            whole_b1 = return_bn[:, :1]
            others = max(whole_b1.shape[0] - 1, 1)
            baseline_bn = (whole_b1.sum() - whole_b1) / others
        found_bn = (return_bn - baseline_bn) * mask_bn
        return (whitened(found_bn, mask_bn) if self.whiten else found_bn), return_bn * mask_bn

    def losses(
        self, log_prob_bn: Array, value_bn: Array, past: Experience
    ) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        """See `Algorithm`; the value's loss is half the squared error."""
        mask_bn = past.mask_bn
        policy = policy_gradient_loss(log_prob_bn, past.advantage_bn, mask_bn)
        value, _ = clipped_value_loss(value_bn, past.value_bn, past.return_bn, mask_bn, jnp.inf)
        return {POLICY_LOSS: policy, VALUE_LOSS: value}, {}


def _terms(value_coefficient: float, entropy_coefficient: float) -> Mapping[str, float]:
    return {POLICY_LOSS: 1.0, VALUE_LOSS: value_coefficient, ENTROPY: -entropy_coefficient}


def _check_counts(algorithm: PPO) -> None:
    for name in ("epochs", "minibatches"):
        count = getattr(algorithm, name)
        if not isinstance(count, int) or count < 1:
            raise UserError(f"PPO.{name} is {count!r}: a whole number of 1 or more is needed.")
