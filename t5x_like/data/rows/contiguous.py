"""Rows that continue those of the batch before, for models that carry a state along."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from t5x_like.data.cache.token_stream import TokenStream
from t5x_like.data.examples import Finish, rotations
from t5x_like.data.formats import Item, Row
from t5x_like.errors import UserError
from t5x_like.protocols import Example


class ContiguousRows:
    """The text of a split as one track for each row of a batch; a `RowSource`.

    Row r of step s is a piece of track r, the one after that of step s - 1. Where the tracks end
    they begin anew, each epoch at another place of the text if it is shuffled. The state is the
    step, so that a run may resume on any number of processes.
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
        shard_index: int,
        shard_count: int,
    ):
        """Starts at step 0.

        Args:
          stream: all documents.
          finish: what is done to each piece last.
          item: from features to what a row is laid out of.
          length: tokens of a piece.
          batch_size: rows of all processes together.
          seed: decides where an epoch begins, and what an objective draws.
          shuffle: whether epochs begin at different places.
          shard_index: which part of each batch is this process's.
          shard_count: number of parts.

        Raises:
          UserError: the split is too small to give every row a piece.
        """
        self._stream, self._finish, self._item, self._length = stream, finish, item, length
        self._seed = seed
        self._track = len(stream) // batch_size
        self._steps = self._track // length
        if not self._steps:
            raise UserError(
                f"the split has {len(stream):,} tokens, of which {batch_size} rows of {length} "
                "that continue one another cannot be made: lower BATCH_SIZE or "
                "TASK_FEATURE_LENGTHS."
            )
        self._rotation = rotations(seed, len(stream)) if shuffle else lambda epoch: 0
        self._batch_size = batch_size
        rows = batch_size // shard_count
        self._mine = range(shard_index * rows, (shard_index + 1) * rows)
        self._step = 0
        self.examples_read = 0

    def next_rows(self) -> list[Row]:
        """See `RowSource`."""
        epoch, place = divmod(self._step, self._steps)
        begin = self._rotation(epoch)
        rows: list[Row] = []
        for row in self._mine:
            start = (begin + row * self._track + place * self._length) % len(self._stream)
            counter = [0, 0, self._step, row]
            rng = np.random.Generator(np.random.Philox(key=self._seed, counter=counter))
            example = self._finish({"targets": self._read(start, self._length)}, rng)
            if place:
                example["before"] = self._read(start - 1, 1)[0]
            rows.append((self._item(example),))
            self.examples_read += 1
        self._step += 1
        return rows

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
