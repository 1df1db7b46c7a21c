"""Groups of shards as small caches by themselves, opened one after the other."""

import bisect
import functools
import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grain
import numpy as np
from etils import epath

from t5x_like.data.cache import layout
from t5x_like.data.cache.tfrecord import RecordFile
from t5x_like.data.config import DatasetConfig
from t5x_like.data.examples import TaskExamples, derived_seed, open_task
from t5x_like.data.sharded.store import LocalStore
from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.protocols import Example, Task

_STATS_AT_ONCE = 32


@dataclass(frozen=True)
class ShardedSplit:
    """A split of a task's cache, of which a few shards are opened at a time.

    Attributes:
      task: the task.
      config: how it is read.
      folder: of the cache, in a bucket or on a disk.
      description: a folder of this machine with the JSON files of the cache.
      store: where shards are copied to.
    """

    task: Task
    config: DatasetConfig
    folder: epath.Path
    description: Path
    store: LocalStore

    @property
    def is_remote(self) -> bool:
        """Whether shards are copied before they are read."""
        return files.is_remote(self.config.cache_dir)

    @functools.cached_property
    def shards(self) -> int:
        """How many there are."""
        return layout.read_info(self.description, self.config.split).num_shards

    @functools.cached_property
    def counts(self) -> dict[str, Any]:
        """What the cache says of the whole split: its `stats`."""
        return layout.read_json(layout.stats_path(self.description, self.config.split))

    def largest_bytes(self) -> int:
        """The size of the largest shard.

        Raises:
          UserError: one is missing.
        """

        def size(number: int) -> int:
            path = self._path(number)
            try:
                return path.stat().length
            except FileNotFoundError:
                raise UserError(f"{path} is missing; build the cache again") from None

        with ThreadPoolExecutor(_STATS_AT_ONCE) as pool:
            return max(pool.map(size, range(self.shards)), default=0)

    def _path(self, number: int) -> epath.Path:
        return layout.shard_path(self.folder, self.config.split, number, self.shards)

    def numbers(self, stream: int, streams: int, group: int) -> list[int]:
        """The shards of a group: each stream has every `streams`-th, in a new order each epoch."""
        own = np.arange(stream, self.shards, streams)
        together = self._together
        epoch, nth = divmod(group, -(-own.size // together))
        if self.config.shuffle:
            seed = derived_seed(self.config.seed, self.task.name, "shards")
            own = np.random.default_rng([seed, stream, epoch]).permutation(own)
        return own[nth * together : (nth + 1) * together].tolist()

    def groups_in_epoch(self, stream: int, streams: int) -> int:
        """How many groups a stream reads until it has read all of its shards."""
        return -(-len(range(stream, self.shards, streams)) // self._together)

    @property
    def _together(self) -> int:
        assert self.config.shard_store is not None
        return self.config.shard_store.shards_together

    def open_group(self, stream: int, streams: int, group: int) -> "OpenGroup":
        """Opens a group of a stream, counted on through the epochs.

        Raises:
          UserError: a shard is missing or damaged.
          DataFault: a shard cannot be read.
          DiskFull: there is no room for it.
        """
        place = self.store.new_folder()
        try:
            records = self._write(place, self.numbers(stream, streams, group))
            if not records:
                return OpenGroup(place, 0, None, None)
            seed = derived_seed(self.config.seed, f"stream {stream}", f"group {group}")
            examples = open_task(
                self.task,
                place,
                self.config.split,
                self.config.task_feature_lengths,
                seed=seed if self.config.shuffle else None,
                long_examples=self.config.long_examples,
            )
            return OpenGroup(place, records, examples, examples.training(seed, self.config.shuffle))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise

    def _write(self, place: Path, numbers: list[int]) -> int:
        """Makes a cache of some shards alone; returns how many examples it has."""
        split = self.config.split
        examples = 0
        for here, number in enumerate(numbers):
            source = self._path(number)
            target = layout.shard_path(place, split, here, len(numbers))
            index = layout.index_path(place, split, "records", here, len(numbers))
            if self.is_remote:
                self.store.fetch(source, target)
            else:
                target.symlink_to(source)
                _link_indices(Path(source), target)
            try:
                try:
                    examples += len(RecordFile(target, index))
                except UserError:
                    if not self.is_remote:
                        raise
                    self.store.fetch(source, target)  # it may have been damaged on its way
                    examples += len(RecordFile(target, index))
            except UserError as error:
                raise UserError(str(error).replace(str(target), str(source))) from None
        known = {name: n for name, n in self.counts.items() if name.endswith("_max_tokens")}
        counts = json.dumps({**known, "examples": examples})
        layout.stats_path(place, split).write_text(counts, "utf-8")
        info = layout.read_json(layout.info_path(self.description, split))
        here_alone = json.dumps({**info, "num_shards": len(numbers)})
        layout.info_path(place, split).write_text(here_alone, "utf-8")
        if layout.task_path(self.description).exists():
            shutil.copyfile(layout.task_path(self.description), layout.task_path(place))
        return examples


def _link_indices(source: Path, target: Path) -> None:
    """Links what was indexed of a shard when its cache was read as a whole."""
    split, _, numbers = source.name.partition(".tfrecord-")
    _, _, new_numbers = target.name.partition(".tfrecord-")
    for path in source.parent.glob(f".{split}.*.index-{numbers}"):
        name = path.name.removesuffix(numbers) + new_numbers
        target.with_name(name).symlink_to(path)


class OpenGroup:
    """The examples of a group, shuffled among themselves: `len(group)`, `group[i]`.

    Attributes:
      records: how many the shards have.
      examples: what is made of them; None where there are none.
    """

    def __init__(
        self,
        folder: Path,
        records: int,
        examples: TaskExamples | None,
        data: grain.MapDataset | None,
    ) -> None:
        """Takes the group's folder, its records, and its examples where it has any."""
        self._folder, self.records, self.examples, self._data = folder, records, examples, data
        self._length = 0 if examples is None else len(examples.source)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Example:
        """The features of an example, the objective drawn."""
        assert self._data is not None
        return self._data[index]

    def close(self) -> None:
        """Removes the group's folder."""
        self.examples = self._data = None
        shutil.rmtree(self._folder, ignore_errors=True)


class GroupReader:
    """The examples of one task in one stream, for ever; those behind are soon forgotten.

    While a group is read, the next one is opened in a thread of its own.
    """

    def __init__(self, open_group: Callable[[int], OpenGroup], groups_in_epoch: int):
        """Takes what opens a group, and how many make an epoch."""
        self._open_group, self._in_epoch = open_group, groups_in_epoch
        self._known: list[list[int]] = []  # of groups: first example, number, examples
        self._group: tuple[int, OpenGroup] | None = None
        self._coming: dict[int, Future[OpenGroup]] = {}

    def start(self) -> None:
        """Begins to open what is read next."""
        if self._group is None:
            self._begin(self._known[-1][1] if self._known else 0)

    def at(self, nth: int) -> Example:
        """Example `nth` of the stream."""
        if not self._known:
            self._known.append([0, 0, len(self._opened(0))])
        empty = 0
        while nth >= self._known[-1][0] + self._known[-1][2]:
            begin, number, size = self._known[-1]
            empty = 0 if size else empty + 1
            if empty > self._in_epoch:
                raise UserError(
                    "no shard of one of the streams has an example: give fewer virtual_streams"
                )
            self._known.append([begin + size, number + 1, len(self._opened(number + 1))])
        place = bisect.bisect_right(self._known, nth, key=lambda known: known[0]) - 1
        begin, number, _ = self._known[place]
        return self._opened(number)[nth - begin]

    def get_state(self, oldest: int, position: int) -> dict[str, Any]:
        """Where the stream is: the groups from example `oldest` on, and what it reads next."""
        while len(self._known) > 1 and self._known[0][0] + self._known[0][2] <= oldest:
            self._known.pop(0)
        return {"at": position, "groups": json.loads(json.dumps(self._known))}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a state."""
        self.close()
        self._known = [[int(number) for number in known] for known in state["groups"]]

    def close(self) -> None:
        """Forgets what is open."""
        if self._group is not None:
            self._group[1].close()
            self._group = None
        for coming in self._coming.values():
            coming.add_done_callback(_close_result)
        self._coming = {}

    def _begin(self, number: int) -> "Future[OpenGroup]":
        if number not in self._coming:
            coming: Future[OpenGroup] = Future()
            self._coming[number] = coming
            threading.Thread(
                target=_run, args=(coming, self._open_group, number), name="shards", daemon=True
            ).start()
        return self._coming[number]

    def _opened(self, number: int) -> OpenGroup:
        if self._group is None or self._group[0] != number:
            coming = self._begin(number)
            if self._group is not None:  # first, so that no more than two are there
                self._group[1].close()
                self._group = None
            group = coming.result()
            del self._coming[number]
            self._group = number, group
            for other in list(self._coming):
                if other != number + 1:
                    self._coming.pop(other).add_done_callback(_close_result)
            self._begin(number + 1)
        return self._group[1]


def _run(coming: "Future[OpenGroup]", open_group: Callable[[int], OpenGroup], number: int) -> None:
    # A thread of its own, not of a pool: pools wait for theirs when the process ends.
    try:
        coming.set_result(open_group(number))
    except BaseException as error:
        coming.set_exception(error)


def _close_result(done: "Future[OpenGroup]") -> None:
    if done.exception() is None:
        done.result().close()
