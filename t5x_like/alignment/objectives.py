"""What a policy and a value function are moved by; arrays as in `alignment.advantages`."""

import jax
import jax.numpy as jnp

Array = jax.Array


def masked_mean(x_bt: Array, mask_bt: Array) -> Array:
    """The mean over the tokens of all answers; 0 where there is none."""
    return (x_bt * mask_bt).sum() / jnp.maximum(mask_bt.sum(), 1)


def clipped_policy_loss(
    new_bt: Array, old_bt: Array, advantage_bt: Array, mask_bt: Array, clip: float = 0.2
) -> tuple[Array, Array]:
    """PPO's clipped surrogate, negated, and the share of tokens where it is clipped.

    −E[min(ρ A, clip(ρ, 1−ε, 1+ε) A)] with ρ the ratio of probabilities (Schulman et al. 2017,
    equation 7).

    Args:
      new_bt: log-probability of each token under the policy that is trained.
      old_bt: the same under the policy that drew it.
      advantage_bt: of each token.
      mask_bt: 1 on the tokens of answers.
      clip: epsilon.

    Returns:
      Two float32 scalars, means over the tokens of all answers.
    """
    ratio_bt = jnp.exp(jnp.where(mask_bt > 0, new_bt - old_bt, 0.0))
    free_bt = -advantage_bt * ratio_bt
    bound_bt = -advantage_bt * jnp.clip(ratio_bt, 1 - clip, 1 + clip)
    loss = masked_mean(jnp.maximum(free_bt, bound_bt), mask_bt)
    return loss, masked_mean((bound_bt > free_bt).astype(jnp.float32), mask_bt)


def clipped_value_loss(
    new_bt: Array, old_bt: Array, return_bt: Array, mask_bt: Array, clip: float = 0.2
) -> tuple[Array, Array]:
    """Half the squared error of a value that may move no further than `clip`, and where it would.

    ½ E[max((V − R)², (clip(V, V_old ± ε) − R)²)], as the released code of PPO has it.

    Args:
      new_bt: what the value function says before each token.
      old_bt: what it said when the answers were drawn.
      return_bt: what it should say, advantage and old value together.
      mask_bt: 1 on the tokens of answers.
      clip: epsilon.

    Returns:
      Two float32 scalars, means over the tokens of all answers.
    """
    bound_bt = jnp.clip(new_bt, old_bt - clip, old_bt + clip)
    free_bt, clipped_bt = jnp.square(new_bt - return_bt), jnp.square(bound_bt - return_bt)
    loss = 0.5 * masked_mean(jnp.maximum(free_bt, clipped_bt), mask_bt)
    return loss, masked_mean((clipped_bt > free_bt).astype(jnp.float32), mask_bt)


def policy_gradient_loss(log_prob_bt: Array, advantage_bt: Array, mask_bt: Array) -> Array:
    """REINFORCE (Williams 1992): −E[A log π], a mean over the tokens of all answers.

    Args:
      log_prob_bt: of each token under the policy that drew it.
      advantage_bt: its return less a baseline that does not depend on it.
      mask_bt: 1 on the tokens of answers.
    """
    return -masked_mean(jax.lax.stop_gradient(advantage_bt) * log_prob_bt, mask_bt)


def entropy(logits_btv: Array) -> Array:
    """The entropy of the next token, nats, float32 `[b, t]`."""
    log_probs_btv = jax.nn.log_softmax(logits_btv)
    return -(jnp.exp(log_probs_btv) * log_probs_btv).sum(axis=-1)
