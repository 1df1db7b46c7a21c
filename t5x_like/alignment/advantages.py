"""From the score of an answer to the advantage of each of its tokens.

Arrays are of answers, `[b, t]`, one entry for each token; `mask` is 1 on the tokens of an answer,
its end among them, and 0 behind it.
"""

import dataclasses
from typing import Literal, Protocol

import jax
import jax.numpy as jnp

from t5x_like.errors import UserError

Array = jax.Array
Estimator = Literal["k1", "k3"]


def kl_terms(policy_bt: Array, reference_bt: Array, estimator: Estimator = "k1") -> Array:
    """An estimate of the divergence from a reference at each token, float32 `[b, t]`.

    With x the log-ratio of policy to reference, "k1" is x, and "k3" e^−x − 1 + x, which is never
    negative and varies less; both have the divergence as their mean (Schulman 2020).

    Args:
      policy_bt: log-probability of each token under the policy that drew it.
      reference_bt: the same under the reference.
      estimator: which.

    Raises:
      UserError: another estimator.
    """
    ratio_bt = policy_bt - reference_bt
    if estimator == "k1":
        return ratio_bt
    if estimator == "k3":
        return jnp.expm1(-ratio_bt) + ratio_bt
    raise UserError(f"estimator is {estimator!r}: 'k1' or 'k3'.")


def token_rewards(
    score_b: Array, kl_bt: Array, mask_bt: Array, coefficient: Array | float
) -> Array:
    """The reward of each token: the score at the last, and everywhere less the divergence.

    An answer is one action of a bandit with one score at its end (Ouyang et al. 2022, section
    3.5, equation 2).

    Args:
      score_b: of each answer.
      kl_bt: see `kl_terms`.
      mask_bt: see the module.
      coefficient: beta.
    """
    last_b = jnp.maximum(mask_bt.sum(axis=1).astype(jnp.int32) - 1, 0)
    at_end_bt = jnp.arange(mask_bt.shape[1]) == last_b[:, None]
    return (at_end_bt * score_b[:, None] - coefficient * kl_bt) * mask_bt


def generalized_advantages(
    reward_bt: Array, value_bt: Array, discount: float = 1.0, decay: float = 0.95
) -> Array:
    """GAE (Schulman et al. 2016, equation 16), float32 `[b, t]`.

    δ_t = r_t + γ V_{t+1} − V_t and A_t = δ_t + γ λ A_{t+1}; nothing follows the last token. The
    returns, which a value is to become, are A + V.

    Args:
      reward_bt: of each token, 0 behind an answer.
      value_bt: what the value function expects before each token, 0 behind an answer.
      discount: gamma.
      decay: lambda.
    """
    next_bt = jnp.pad(value_bt[:, 1:], ((0, 0), (0, 1)))
    delta_bt = reward_bt + discount * next_bt - value_bt

    def step(later_b: Array, delta_b: Array) -> tuple[Array, Array]:
        advantage_b = delta_b + discount * decay * later_b
        return advantage_b, advantage_b

    _, found_tb = jax.lax.scan(step, jnp.zeros_like(delta_bt[:, 0]), delta_bt.T, reverse=True)
    return found_tb.T


def whitened(
    x_bt: Array, mask_bt: Array, *, shift_mean: bool = True, unbiased: bool = True
) -> Array:
    """Values of mean 0 and variance 1 over all tokens of a batch, 0 behind answers.

    Args:
      x_bt: the values.
      mask_bt: see the module.
      shift_mean: whether the mean becomes 0; else it stays.
      unbiased: whether the variance is divided by the number of tokens less 1 (Bessel).
    """
    count = mask_bt.sum()
    mean = (x_bt * mask_bt).sum() / jnp.maximum(count, 1)
    squares = (jnp.square(x_bt - mean) * mask_bt).sum()
    variance = squares / jnp.maximum(count - 1 if unbiased else count, 1)
    scaled_bt = (x_bt - mean) * jax.lax.rsqrt(variance + 1e-8)
    return (scaled_bt if shift_mean else scaled_bt + mean) * mask_bt


class KLCoefficient(Protocol):
    """How much the divergence from the reference costs, and how that changes."""

    @property
    def initial(self) -> float:
        """Beta of the first rollout."""

    def updated(self, coefficient: Array, divergence: Array, answers: int) -> Array:
        """Beta of the next rollout.

        Args:
          coefficient: of this one.
          divergence: mean over answers of the sum of `kl_terms`, nats.
          answers: how many there were.
        """


@dataclasses.dataclass(frozen=True)
class FixedKL:
    """Always the same, as InstructGPT has it.

    Attributes:
      initial: beta.
    """

    initial: float = 0.02

    def updated(self, coefficient: Array, divergence: Array, answers: int) -> Array:
        """The same."""
        return coefficient


@dataclasses.dataclass(frozen=True)
class AdaptiveKL:
    """Steers the divergence to a target (Ziegler et al. 2019, section 2.2).

    β ← β (1 + clip(KL/target − 1, ±0.2) · answers/horizon).

    Attributes:
      initial: beta of the first rollout.
      target: of the divergence, nats an answer.
      horizon: over how many answers an error of 20% changes beta by 20%.
    """

    initial: float = 0.2
    target: float = 6.0
    horizon: int = 10_000

    def __post_init__(self) -> None:
        for name in ("target", "horizon"):
            if not getattr(self, name) > 0:
                raise UserError(
                    f"AdaptiveKL.{name} is {getattr(self, name)!r}: a number above 0 is needed."
                )

    def updated(self, coefficient: Array, divergence: Array, answers: int) -> Array:
        """See the class."""
        error = jnp.clip(divergence / self.target - 1, -0.2, 0.2)
        return coefficient * (1 + error * answers / self.horizon)
