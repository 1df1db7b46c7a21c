"""Rewards by rank: of several answers to a prompt, which are better than the others."""

import dataclasses
from typing import Literal, get_args

import numpy as np

from t5x_like.errors import UserError

Rewarded = Literal["best", "ranks"]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Draws several answers to each prompt, and rewards their ranks instead of what they are worth.

    What they are worth, by a rule or a reward model, only puts them in order, so that its scale is
    no matter. Where all answers to a prompt are worth the same, they are rewarded the same.

    Attributes:
      answers: to each prompt, 2 or more.
      rewarded: "best", 1 for the best of n, as best-of-n would choose it, and 0 for the others;
        answers that share a place share its reward. Or "ranks", the share of the others that an
        answer beats, of which equals count a half.
    """

    answers: int = 4
    rewarded: Rewarded = "best"

    def __post_init__(self) -> None:
        if not isinstance(self.answers, int) or self.answers < 2:
            raise UserError(
                f"Ranking.answers is {self.answers!r}: ranks need 2 or more answers to each prompt."
            )
        if self.rewarded not in get_args(Rewarded):
            raise UserError(f"Ranking.rewarded is {self.rewarded!r}: 'best' or 'ranks'.")

    def rewards(self, worth_b: np.ndarray) -> np.ndarray:
        """The rewards of answers, float32 `[b]`.

        Args:
          worth_b: of all answers, those to one prompt after one another.
        """
        worth_pn = worth_b.reshape(-1, self.answers)
        if self.rewarded == "best":
            best_pn = worth_pn == worth_pn.max(axis=1, keepdims=True)
            found_pn = best_pn / best_pn.sum(axis=1, keepdims=True)
        else:
            others_pnn = worth_pn[:, None, :]
            beaten_pn = (worth_pn[..., None] > others_pnn).sum(axis=-1)
            equal_pn = (worth_pn[..., None] == others_pnn).sum(axis=-1) - 1
            found_pn = (beaten_pn + 0.5 * equal_pn) / (self.answers - 1)
        return found_pn.reshape(-1).astype(np.float32)
