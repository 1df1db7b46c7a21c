"""What reinforcement learning from rewards is made of: rewards by token, advantages, objectives."""

from t5x_like.alignment.advantages import (
    AdaptiveKL,
    FixedKL,
    KLCoefficient,
    generalized_advantages,
    kl_terms,
    token_rewards,
    whitened,
)
from t5x_like.alignment.algorithms import PPO, Algorithm, Experience, Reinforce
from t5x_like.alignment.objectives import (
    clipped_policy_loss,
    clipped_value_loss,
    entropy,
    masked_mean,
    policy_gradient_loss,
)
from t5x_like.alignment.ranking import Ranking

__all__ = [
    "PPO",
    "AdaptiveKL",
    "Algorithm",
    "Experience",
    "FixedKL",
    "KLCoefficient",
    "Ranking",
    "Reinforce",
    "clipped_policy_loss",
    "clipped_value_loss",
    "entropy",
    "generalized_advantages",
    "kl_terms",
    "masked_mean",
    "policy_gradient_loss",
    "token_rewards",
    "whitened",
]
