"""Opened brackets, and attempts to close them: text to try reinforcement learning with."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.sources import source as source_lib

PAIRS = {"(": ")", "[": "]"}
_CLOSING = "".join(PAIRS.values())


@dataclasses.dataclass(frozen=True)
class Brackets:
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
    splits: ClassVar[tuple[str, ...]] = ("train", "validation")
    is_local: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 1 <= self.fewest <= self.most or self.rows_in_all < 25 or not 0 <= self.right <= 1:
            raise TaskError(
                f"Brackets has fewest {self.fewest}, most {self.most}, rows_in_all "
                f"{self.rows_in_all} and right {self.right}: from 1 up, no fewer than that, 25 or "
                "more, and from 0 to 1 are needed."
            )

    def shards(self, split: str) -> Sequence[str]:
        """One."""
        source_lib.check_split(self, split)
        return [split]

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows; see `source.Source`."""
        last = self.rows_in_all - self.rows_in_all // 25
        numbers = range(last) if split == "train" else range(last, self.rows_in_all)
        for _ in self.shards(split) if shards is None else shards:
            for number in numbers:
                rng = np.random.default_rng((self.seed, number))
                opened = "".join(rng.choice(list(PAIRS), rng.integers(self.fewest, self.most + 1)))
                yield {"opened": opened, "closed": self._attempt(opened, rng)}

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

    def fingerprint(self) -> str:
        """Hex digest of the settings, which the rows are a function of."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def seqio(self) -> Any:
        """The same rows as a `seqio.DataSource`."""
        return source_lib.seqio_source(self)
