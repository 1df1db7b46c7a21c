"""How good an answer to a prompt is, learned of people's preferences."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from models import losses
from models.heads.head import LOSS, check_rate
from models.model import Array, Batch


@dataclasses.dataclass(frozen=True)
class Reward:
    """The reward of an answer, InstructGPT's reward model (Ouyang et al. 2022, equation 1).

    The loss of a pair of answers to one prompt is −log σ of the better one's reward less the
    other's. It is a mean over all pairs of a prompt, and then over prompts, so that a prompt with
    more answers weighs no more than another.

    Attributes:
      dropout_rate: of the vector that is read; None is the model's.
    """

    dropout_rate: float | None = None

    batch_format: ClassVar[str] = "comparisons"
    reads_row: ClassVar[bool] = True
    outputs: ClassVar[int] = 1
    label_names: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __post_init__(self) -> None:
        check_rate(self)

    def weight(self, batch: Batch) -> Array:
        """How many prompts have a pair that can be compared."""
        return pairs(batch).any(axis=(1, 2)).astype(jnp.float32).sum()

    def loss(self, logits_bk1: Array, batch: Batch) -> tuple[Array, losses.Metrics]:
        """The loss summed over prompts, and the share of all pairs that are in the right order.

        Args:
          logits_bk1: float32 `[b, answers, 1]`.
          batch: with `ranks` and `answer_weight`, int `[b, answers]`.
        """
        return preference_loss(logits_bk1[..., 0], batch)

    def predictions(self, logits_bk1: Array) -> dict[str, Array]:
        """`reward`, float32 `[b, answers]`."""
        return {"reward": logits_bk1[..., 0]}


def pairs(batch: Batch) -> Array:
    """Which answers of a prompt are better than which, bool `[b, answers, answers]`.

    Args:
      batch: with `ranks`, the lowest of the best, and `answer_weight`, 0 where there is no answer,
        int `[b, answers]`.
    """
    rank_bk, there_bk = batch["ranks"], batch["answer_weight"] > 0
    both_bkk = there_bk[:, :, None] & there_bk[:, None, :]
    return both_bkk & (rank_bk[:, :, None] < rank_bk[:, None, :])


def preference_loss(score_bk: Array, batch: Batch) -> tuple[Array, losses.Metrics]:
    """−log σ of the differences of scores: a mean over a prompt's pairs, summed over prompts.

    Args:
      score_bk: float32 `[b, answers]`.
      batch: as for `pairs`.

    Returns:
      The sum; and `loss` over prompts, and `pairwise_accuracy` over pairs, of which equal scores
      count a half.
    """
    better_bkk = pairs(batch)
    difference_bkk = score_bk[:, :, None] - score_bk[:, None, :]
    count_b = better_bkk.sum(axis=(1, 2))
    # Where there is no pair a difference means nothing, and may be infinite.
    terms_bkk = -jax.nn.log_sigmoid(jnp.where(better_bkk, difference_bkk, 0.0))
    sum_b = jnp.where(better_bkk, terms_bkk, 0.0).sum(axis=(1, 2))
    loss = (sum_b / jnp.maximum(count_b, 1)).sum()
    right = (0.5 + 0.5 * jnp.sign(difference_bkk)) * better_bkk
    return loss, {
        LOSS: (loss, (count_b > 0).astype(jnp.float32).sum()),
        "pairwise_accuracy": (right.sum(), count_b.sum().astype(jnp.float32)),
    }
