"""Streams of a mixture whose tasks are read in groups of shards."""

import bisect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from t5x_like.data.formats import Item
from t5x_like.data.interleaving import StreamMixing
from t5x_like.data.mixing import Shares
from t5x_like.data.sharded.groups import GroupReader
from t5x_like.protocols import Example


class ShardedStreams:
    """Which examples each stream reads, and reading them; a `StreamOrder` of packed rows."""

    def __init__(
        self,
        shares: Shares,
        streams: int,
        readers: Mapping[int, Sequence[GroupReader]],
        item: Callable[[int, Example], Item],
    ):
        """Begins at the beginning.

        Args:
          shares: of the tasks.
          streams: number of streams, of all processes together.
          readers: of this process's streams, for each task.
          item: of the number of a task and its example, what rows are made of.
        """
        self._shares, self._readers, self._item = shares, readers, item
        self._mixing = StreamMixing(shares, streams)

    def at(self, stream: int, ordinal: int) -> Item:
        """The item that a stream reads at a place of its own."""
        task, nth = self._mixing.place(stream, ordinal)
        return self._item(task, self._readers[stream][task].at(nth))

    def begin_batch(self, stream: int, batch: int, ordinal: int) -> None:
        """See `StreamOrder`; opens what the stream has to read, beside the other streams."""
        self._mixing.begin_batch(stream, batch, ordinal)
        stage = bisect.bisect_right(self._shares.begins, batch) - 1
        weights = self._shares.weights[stage]
        for reader, weight in zip(self._readers[stream], weights, strict=True):
            if weight:
                reader.start()

    def get_state(self, stream: int, oldest: int, position: int) -> dict[str, Any]:
        """See `StreamOrder`; `tasks` has for each task where its shards are being read."""
        first, now = (self._mixing.counts(stream, place) for place in (oldest, position))
        tasks = [
            reader.get_state(kept, at)
            for reader, kept, at in zip(self._readers[stream], first, now, strict=True)
        ]
        return {**self._mixing.get_state(stream, oldest, position), "tasks": tasks}

    def set_state(self, stream: int, state: Mapping[str, Any]) -> None:
        """See `StreamOrder`."""
        self._mixing.set_state(stream, state)
        for reader, kept in zip(self._readers[stream], state["tasks"], strict=True):
            reader.set_state(kept)

    def close(self) -> None:
        """Forgets what is open."""
        for readers in self._readers.values():
            for reader in readers:
                reader.close()


def epochs(
    state: Mapping[str, Any], names: Sequence[str], groups_in_epoch: Callable[[int, int], int]
) -> dict[str, float]:
    """How often each task was gone through: groups read, by those of an epoch.

    Args:
      state: a position; of several processes that of one, whose streams stand for all.
      names: of the tasks.
      groups_in_epoch: of the number of a task and a stream.
    """
    found = []
    for task in range(len(names)):
        parts = []
        for stream, kept in state["streams"].items():
            of_task = kept["tasks"][task]
            read = 0.0
            if of_task["groups"]:
                begin, number, size = of_task["groups"][-1]
                read = number + (of_task["at"] - begin) / max(1, size)
            parts.append(read / groups_in_epoch(task, int(stream)))
        found.append(sum(parts) / len(parts))
    return dict(zip(names, found, strict=True))
