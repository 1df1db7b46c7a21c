"""Batches that grow while a run trains."""

import dataclasses
from collections.abc import Sequence

from t5x_like.errors import UserError


@dataclasses.dataclass(frozen=True)
class BatchSchedule:
    """The rows of each batch: `((0, 256), (50_000, 512))` has 512 from the 50,001st batch on.

    Each size is a program of its own, compiled when it is first needed.

    Attributes:
      sizes: pairs of how many batches came before, ascending from 0, and the rows from there on.

    Raises:
      UserError: the pairs are not such.
    """

    sizes: Sequence[tuple[int, int]]

    def __post_init__(self) -> None:
        pairs = tuple(tuple(pair) for pair in self.sizes)
        whole = all(len(pair) == 2 and all(isinstance(x, int) for x in pair) for pair in pairs)
        firsts = [pair[0] for pair in pairs]
        if not whole or not pairs or firsts[0] != 0 or any(pair[1] < 1 for pair in pairs):
            raise UserError(
                f"data.BatchSchedule.sizes is {self.sizes!r}: pairs of whole numbers are needed, "
                "of a batch and of rows, the first of batch 0, such as ((0, 256), (50000, 512))."
            )
        if sorted(set(firsts)) != firsts:
            raise UserError(f"data.BatchSchedule.sizes is {self.sizes!r}: batches must ascend.")
        object.__setattr__(self, "sizes", pairs)

    @property
    def largest(self) -> int:
        """The most rows of a batch."""
        return max(rows for _, rows in self.sizes)

    def rows(self, batch: int) -> int:
        """The rows of a batch, counted from 0."""
        return next(rows for first, rows in reversed(self.sizes) if first <= batch)

    def rows_before(self, batch: int) -> int:
        """The rows of all batches before one, counted from 0."""
        ends = [first for first, _ in self.sizes[1:]] + [batch]
        return sum(
            rows * max(0, min(end, batch) - first)
            for (first, rows), end in zip(self.sizes, ends, strict=True)
        )


def linear_ramp(first: int, last: int, increment: int, rows: int) -> BatchSchedule:
    """A schedule whose batches grow by equal increments, as GPT-3's did (Brown et al. 2020).

    Every size but the last has about the same number of rows in all.

    Args:
      first: rows of the first batch.
      last: of the last.
      increment: by which a batch is larger than one of the size before.
      rows: in all, of the smaller sizes; GPT-3's 4 to 12 billion tokens over those of a row.

    Raises:
      UserError: increments do not lead from the first size to the last.
    """
    if first < 1 or increment < 1 or last <= first or (last - first) % increment or rows < 1:
        raise UserError(
            f"data.linear_ramp(first={first}, last={last}, increment={increment}, rows={rows}): "
            "increments must lead from the first number of rows to the larger last one."
        )
    count = (last - first) // increment
    sizes, batch = [], 0
    for size in range(first, last, increment):
        sizes.append((batch, size))
        batch += max(1, round(rows / count / size))
    return BatchSchedule((*sizes, (batch, last)))
