"""Rows that continue those of the batch before, for models that carry a state along."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from t5x_like.data.cache.token_stream import TokenStream
from t5x_like.data.examples import Finish, rotations
from t5x_like.data.formats import Item, Row
from t5x_like.errors import UserError
from t5x_like.protocols import Example

# Of AWD-LSTM's lengths: their standard deviation, the least of them, and how often they are drawn
# around the half of the usual mean (Merity et al. 2018, section 5 and the released code).
_SPREAD, _LEAST, _HALVED = 5.0, 5, 0.05
# Standard deviations between the mean and the length of a row.
_ROOM = 3


class ContiguousRows:
    """The text of a split as one track for each row of a batch; a `RowSource`.

    Row r of step s is a piece of track r, the one after that of step s - 1. Where the tracks end
    they begin anew, each epoch at another place of the text if it is shuffled. The state is the
    step, so that a run may resume on any number of processes.

    With lengths that are drawn, the pieces of a step are all of one length, and the last ones of an
    epoch end where the tracks do.
    """

    def __init__(
        self,
        stream: TokenStream,
        finish: Finish,
        item: Callable[[Example], Item],
        length: int,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        draws_lengths: bool = False,
        shard_index: int,
        shard_count: int,
    ):
        """Starts at step 0.

        Args:
          stream: all documents.
          finish: what is done to each piece last.
          item: from features to what a row is laid out of.
          length: tokens of a piece; the most where lengths are drawn.
          batch_size: rows of all processes together.
          seed: decides where an epoch begins, and what an objective draws.
          shuffle: whether epochs begin at different places.
          draws_lengths: whether lengths are drawn, see `drawn_lengths`.
          shard_index: which part of each batch is this process's.
          shard_count: number of parts.

        Raises:
          UserError: the split is too small to give every row a piece, or rows too short for
            lengths to be drawn.
        """
        self._stream, self._finish, self._item, self._length = stream, finish, item, length
        self._seed = seed
        self._track = len(stream) // batch_size
        if self._track < length:
            raise UserError(
                f"the split has {len(stream):,} tokens, of which {batch_size} rows of {length} "
                "that continue one another cannot be made: lower BATCH_SIZE or "
                "TASK_FEATURE_LENGTHS."
            )
        self._draws_lengths = draws_lengths
        if draws_lengths and length < _ROOM * _SPREAD + 2 * _LEAST:
            raise UserError(
                f"TASK_FEATURE_LENGTHS['targets'] is {length}, but lengths are drawn around "
                f"{_ROOM * _SPREAD:.0f} tokens less, and half of that: give "
                f"{_ROOM * _SPREAD + 2 * _LEAST:.0f} or more."
            )
        # An epoch, the step at which it began, and its cuts.
        self._reached = (0, 0, self._cuts(0))
        self._rotation = rotations(seed, len(stream)) if shuffle else lambda epoch: 0
        self._batch_size = batch_size
        rows = batch_size // shard_count
        self._mine = range(shard_index * rows, (shard_index + 1) * rows)
        self._step = 0
        self.examples_read = 0

    def next_rows(self) -> list[Row]:
        """See `RowSource`."""
        epoch, place, cuts = self._place(self._step)
        begin, length = self._rotation(epoch), int(cuts[place + 1] - cuts[place])
        rows: list[Row] = []
        for row in self._mine:
            start = (begin + row * self._track + int(cuts[place])) % len(self._stream)
            counter = [0, 0, self._step, row]
            rng = np.random.Generator(np.random.Philox(key=self._seed, counter=counter))
            example = self._finish({"targets": self._read(start, length)}, rng)
            if place:
                example["before"] = self._read(start - 1, 1)[0]
            rows.append((self._item(example),))
            self.examples_read += 1
        self._step += 1
        return rows

    def _place(self, step: int) -> tuple[int, int, np.ndarray]:
        """The epoch of a step, the number of its pieces within it, and the epoch's cuts."""
        epoch, first, cuts = self._reached
        if step < first:
            epoch, first, cuts = 0, 0, self._cuts(0)
        while step - first >= cuts.size - 1:
            epoch, first = epoch + 1, first + cuts.size - 1
            cuts = self._cuts(epoch)
        self._reached = epoch, first, cuts
        return epoch, step - first, cuts

    def _cuts(self, epoch: int) -> np.ndarray:
        """Where each piece of an epoch begins in its track, and where the last one ends."""
        if not self._draws_lengths:
            return np.arange(self._track // self._length + 1) * self._length
        rng = np.random.Generator(np.random.Philox(key=self._seed, counter=[0, 0, 1, epoch]))
        ends = np.cumsum(drawn_lengths(rng, self._track // _LEAST + 1, self._length))
        return np.concatenate([[0], ends[ends < self._track], [self._track]])

    def _read(self, start: int, length: int) -> np.ndarray:
        """Tokens of the text as a ring."""
        start %= len(self._stream)
        stop = start + length
        if stop <= len(self._stream):
            return self._stream.read(start, stop)
        parts = (
            self._stream.read(start, len(self._stream)),
            self._stream.read(0, stop - len(self._stream)),
        )
        return np.concatenate(parts)

    def get_state(self) -> dict[str, Any]:
        """See `RowSource`."""
        return {"step": self._step}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `RowSource`."""
        self._step = int(state["step"])


def drawn_lengths(rng: np.random.Generator, count: int, longest: int) -> np.ndarray:
    """Lengths for pieces of text, as AWD-LSTM draws those of its rows.

    They are normally distributed with a standard deviation of 5 around 15 tokens less than the
    longest, which 85 makes the 70 of the paper, or in 5 of 100 cases around half of that; none is
    below 5 or above the longest (Merity et al. 2018, section 5).

    Args:
      rng: a source of randomness.
      count: how many.
      longest: tokens of a row.

    Returns:
      int `[count]`.
    """
    mean = longest - _ROOM * _SPREAD
    means = np.where(rng.random(count) < _HALVED, mean / 2, mean)
    return np.clip(rng.normal(means, _SPREAD).astype(np.int64), _LEAST, longest)
