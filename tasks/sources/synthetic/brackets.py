"""Opened brackets, and attempts to close them: text to try reinforcement learning with."""

import dataclasses
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.sources import source as source_lib
from tasks.sources.synthetic.drawn_rows import FEWEST_ROWS, DrawnRows

PAIRS = {"(": ")", "[": "]"}
_CLOSING = "".join(PAIRS.values())


@dataclasses.dataclass(frozen=True)
class Brackets(DrawnRows):
    """Rows with `opened`, brackets of two kinds, and `closed`, what somebody closed them with.

    Each bracket is closed rightly with some probability; otherwise any of the closing ones stands
    there, or the attempt ends. Four rows in a hundred are the `validation` split.

    Attributes:
      rows_in_all: of both splits.
      fewest: brackets that are opened.
      most: brackets that are opened.
      right: the probability.
      seed: of what is drawn.
    """

    rows_in_all: int = 20_000
    fewest: int = 2
    most: int = 6
    right: float = 0.3
    seed: int = 0

    columns: ClassVar[tuple[str, ...]] = ("opened", "closed")

    def __post_init__(self) -> None:
        if (
            not 1 <= self.fewest <= self.most
            or self.rows_in_all < FEWEST_ROWS
            or not 0 <= self.right <= 1
        ):
            raise TaskError(
                f"Brackets has fewest {self.fewest}, most {self.most}, rows_in_all "
                f"{self.rows_in_all} and right {self.right}: from 1 up, no fewer than that, 25 or "
                "more, and from 0 to 1 are needed."
            )

    def row(self, rng: np.random.Generator) -> source_lib.Row:
        """Brackets, and an attempt to close them."""
        opened = "".join(rng.choice(list(PAIRS), rng.integers(self.fewest, self.most + 1)))
        return {"opened": opened, "closed": self._attempt(opened, rng)}

    def _attempt(self, opened: str, rng: np.random.Generator) -> str:
        closed = ""
        for bracket in reversed(opened):
            if rng.random() < self.right:
                closed += PAIRS[bracket]
                continue
            drawn = rng.integers(len(_CLOSING) + 1)
            if drawn == len(_CLOSING):
                break
            closed += _CLOSING[drawn]
        return closed
