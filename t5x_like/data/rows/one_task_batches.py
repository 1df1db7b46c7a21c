"""Batches of one task each, as a model with a head for each task is trained."""

import bisect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from t5x_like.data.formats import Item, Row

# Item `n` of a task, counted through its epochs.
TaskItemAt = Callable[[int, int], Item]


@dataclass(frozen=True)
class OneTaskBatches:
    """Each batch is of one task; an epoch has all batches of all tasks, in a random order.

    Algorithm 1 of MT-DNN (Liu et al. 2019): the examples of each task are dealt to batches, of
    which the last may not be full, and the batches of all tasks are shuffled together. How often a
    task is drawn is so its share of the batches; rates that the mixture declares do not count.
    """

    def weights(
        self,
        names: Sequence[str],
        rates: Sequence[float],
        examples: Sequence[int],
        mean_tokens: Callable[[], Sequence[float]],
    ) -> list[float]:
        """See `mixing.Mixing.weights`: in proportion to the number of examples."""
        return [n / sum(examples) for n in examples]


class OneTaskRows:
    """Rows of batches of one task each, one example a row; see `iterator.RowSource`.

    Batch s stands in epoch s // m at place s % m of the m batches of an epoch; an epoch of the run
    is one of every task. All is a function of the seed and of s.
    """

    def __init__(
        self,
        item_at: TaskItemAt,
        blank: Callable[[Item], Item] | None,
        examples: Sequence[int],
        *,
        batch_size: int,
        seed: int | None,
        shard_index: int,
        shard_count: int,
    ):
        """Starts at step 0.

        Args:
          item_at: task and number, counted on through the epochs, to its item.
          blank: what fills a batch up, of an item of its task; None fills it with empty rows.
          examples: number of examples of each task.
          batch_size: rows of all processes together.
          seed: of the order of the batches; None takes them task by task.
          shard_index: which part of each batch is this process's.
          shard_count: number of parts.
        """
        self._item_at, self._blank, self._examples = item_at, blank, examples
        self._batch_size, self._seed = batch_size, seed
        rows = batch_size // shard_count
        self._mine = range(shard_index * rows, (shard_index + 1) * rows)
        counts = [-(-n // batch_size) for n in examples]
        self._ends = list(itertools.accumulate(counts))
        self._order: tuple[int, np.ndarray | None] = (-1, None)
        self._step = 0
        self.examples_read = 0

    @property
    def batches_in_epoch(self) -> int:
        """Of all tasks together."""
        return self._ends[-1]

    def batches_of(self, epoch: int) -> np.ndarray:
        """The numbers of the batches of an epoch in their order, those of the first task first."""
        known, order = self._order
        if known != epoch or order is None:
            order = np.arange(self._ends[-1])
            if self._seed is not None:
                order = np.random.default_rng([self._seed, epoch]).permutation(order)
            self._order = epoch, order
        return order

    def place(self, step: int) -> tuple[int, int, int]:
        """The task of a batch, the number of its first example, and how many it has."""
        epoch, nth = divmod(step, self._ends[-1])
        number = int(self.batches_of(epoch)[nth])
        task = bisect.bisect_right(self._ends, number)
        local = (number - (self._ends[task - 1] if task else 0)) * self._batch_size
        size = self._examples[task]
        return task, epoch * size + local, min(self._batch_size, size - local)

    def next_rows(self) -> list[Row]:
        """See `RowSource`."""
        task, first, count = self.place(self._step)
        self._step += 1
        rows: list[Row] = []
        for row in self._mine:
            if row < count:
                rows.append((self._item_at(task, first + row),))
                self.examples_read += 1
            else:
                rows.append((self._blank(self._item_at(task, first)),) if self._blank else ())
        return rows

    def get_state(self) -> dict[str, Any]:
        """See `RowSource`."""
        return {"step": self._step}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `RowSource`."""
        self._step = int(state["step"])
