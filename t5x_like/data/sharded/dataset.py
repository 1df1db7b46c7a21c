"""Training batches of caches that are read shard by shard."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import overload

import numpy as np

from t5x_like.data import formats
from t5x_like.data.cache.status import described, refuse_unless_ready
from t5x_like.data.cache.vocabularies import start_id_of, vocabulary_specs
from t5x_like.data.config import DatasetConfig, batches_of, facts_of, packs
from t5x_like.data.effort import Effort
from t5x_like.data.examples import for_lengths
from t5x_like.data.formats import Item
from t5x_like.data.identity import identity
from t5x_like.data.iterator import DataIterator
from t5x_like.data.opening import open_rows_of, shares_of, start_id, streams_of
from t5x_like.data.rows.one_task_batches import OneTaskBatches
from t5x_like.data.rows.packed import PackedRows
from t5x_like.data.sharded.groups import GroupReader, ShardedSplit
from t5x_like.data.sharded.store import LocalStore, ShardStore
from t5x_like.data.sharded.streams import ShardedStreams, epochs
from t5x_like.errors import UserError
from t5x_like.protocols import Example

_MOST_STREAMS = 8
_GROUPS = 2  # of a task in a stream: one is read, and the next is opened
# Where shards come more slowly than they are read; each process fetches its own streams' alone.
_REMEDY = (
    "the cache nearer to this machine (CACHE_DIR), more processes, or, where the disk has room for "
    "all of it, no SHARD_STORE"
)


def open_sharded(
    config: DatasetConfig, batch_format: str, shard_index: int, shard_count: int
) -> DataIterator:
    """Endless training batches, as `open_dataset` gives them, of caches that stay where they are.

    The shards of each task are dealt to virtual streams. A stream goes through its shards in an
    order that each epoch draws anew, several of them at a time, whose examples are shuffled as a
    whole; text is cut into pieces within such a group. The batch of a step is the same for any
    number of processes.

    Raises:
      UserError: as `open_dataset`; the store is too small, or a task has too few shards; what is
        asked for needs the whole text.
    """
    settings = config.shard_store
    assert settings is not None
    _refuse_what_needs_all(config, batch_format)
    pack, schedule = packs(config, batch_format), batches_of(config, batch_format)
    store = LocalStore(settings)
    try:
        splits = [_split(config, store, number) for number in range(len(config.task.tasks))]
        streams = _streams(config, splits, shard_count)
        mine = streams // shard_count
        own = range(shard_index * mine, (shard_index + 1) * mine)
        _check_room(settings, splits, len(own))
        chunked = [_is_chunked(split) for split in splits]
        names = [split.task.name for split in splits]
        starts = {split.task.name: start_id_of(split.task, split.description) for split in splits}
        facts = facts_of(config, start_id(starts))
        bound = formats.bound(batch_format, facts)
        lengths = dict(config.task_feature_lengths)
        examples = {split.task.name: int(split.counts["examples"]) for split in splits}
        shares = shares_of(
            config,
            names,
            _Estimated([functools.partial(_size, split, streams) for split in splits]),
            lambda: [_mean_tokens(split, streams) for split in splits],
        )
        packing = pack and not all(chunked)
        open_rows = open_rows_of(config, sum(examples.values()), streams) if packing else 0
        numbered = getattr(formats.find(batch_format), "numbers_tasks", False)

        def item(task: int, example: Example) -> Item:
            if numbered:
                number = np.int32(formats.task_number(names[task]))
                example = {**example, "task": number}  # type: ignore[dict-item]
            made = bound.item(example)
            return made if facts.zero_is_token or not packing else made.before_padding()

        readers = {
            stream: [
                GroupReader(
                    functools.partial(split.open_group, stream, streams),
                    split.groups_in_epoch(stream, streams),
                )
                for split in splits
            ]
            for stream in own
        }
        order = ShardedStreams(shares, streams, readers, item)
        rows = PackedRows(
            order.at,
            bound.capacities(config.task_feature_lengths),
            schedule=schedule,
            streams=streams,
            open_rows=open_rows,
            mixing=order,
            mixed=len(splits) > 1,
            shard_index=shard_index,
            shard_count=shard_count,
        )
    except BaseException:
        store.close()
        raise

    def close() -> None:
        order.close()
        store.close()

    return DataIterator(
        rows,
        functools.partial(bound.batch, lengths=lengths, pack=pack),
        identity(config, batch_format, examples, shares, pack, streams, open_rows),
        config.prefetch,
        config.patience,
        lambda state: epochs(
            state, names, lambda task, stream: splits[task].groups_in_epoch(stream, streams)
        ),
        close,
        lambda: store.bytes_fetched,
        Effort(remedy=_REMEDY),
    )


def _refuse_what_needs_all(config: DatasetConfig, batch_format: str) -> None:
    wants = None
    if formats.find(batch_format).contiguous:
        wants = f"the batch format {batch_format!r}"
    elif isinstance(config.mixing, OneTaskBatches):
        wants = "data.OneTaskBatches"
    elif config.first_tokens is not None:
        wants = "data.DatasetConfig.first_tokens"
    if wants is not None:
        raise UserError(
            f"{wants} needs the whole split at once, and data.ShardStore (SHARD_STORE) reads it "
            "shard by shard: leave one of them out."
        )


def _split(config: DatasetConfig, store: LocalStore, number: int) -> ShardedSplit:
    task, _ = config.task.tasks[number]
    folder, report = described(
        task,
        config.cache_dir,
        config.split,
        store.new_folder(),
        verify_source=config.verify_source,
    )
    refuse_unless_ready(report)
    return ShardedSplit(task, config, folder, report.path, store)


def _is_chunked(split: ShardedSplit) -> bool:
    """Whether its examples are pieces of text that fill their rows."""
    lengths = split.config.task_feature_lengths
    objective = for_lengths(
        split.task.objective(vocabulary_specs(split.task, split.description)), lengths
    )
    if getattr(objective, "counts_pairs", False):
        raise UserError(
            f"task {split.task.name!r} counts pairs of words in the whole split, and "
            "data.ShardStore (SHARD_STORE) reads it shard by shard: leave it out."
        )
    return objective is not None and objective.chunk_length(lengths) is not None


def _streams(config: DatasetConfig, splits: Sequence[ShardedSplit], shard_count: int) -> int:
    """How many streams there are: each has shards of every task."""
    fewest = min(splits, key=lambda split: split.shards)
    if config.virtual_streams is None:
        most = math.gcd(*config.batch_sizes, _MOST_STREAMS)
        while most > max(1, fewest.shards):
            most //= 2
        if most % shard_count == 0:
            return most
        streams = shard_count
    else:
        streams = streams_of(config, shard_count)
    if streams > fewest.shards:
        raise UserError(
            f"split {config.split!r} of task {fewest.task.name!r} has {fewest.shards} shards, too "
            f"few for {streams} streams, of which each reads some alone: give fewer "
            "virtual_streams or processes, or remove the cache and build it with more --num_shards"
        )
    return streams


def _check_room(settings: ShardStore, splits: Sequence[ShardedSplit], streams: int) -> None:
    """Raises `UserError` where the shards that are read at a time are more than may be here."""
    needed = sum(
        _GROUPS * min(settings.shards_together, split.shards) * split.largest_bytes()
        for split in splits
        if split.is_remote
    )
    if needed * streams > settings.store_bytes:
        raise UserError(
            f"data.ShardStore.store_bytes is {settings.store_bytes:,}, but {needed * streams:,} "
            f"may be needed: twice {settings.shards_together} shards (shards_together) of each "
            f"task in each of {streams} streams (virtual_streams). Raise it, or lower one of these"
        )


class _Estimated(Sequence[int]):
    """Numbers of examples, each counted when it is first asked for."""

    def __init__(self, counts: Sequence[Callable[[], int]]):
        self._counts = [functools.cache(count) for count in counts]

    def __len__(self) -> int:
        return len(self._counts)

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...

    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        if isinstance(index, slice):
            return [count() for count in self._counts[index]]
        return self._counts[index]()


def _size(split: ShardedSplit, streams: int) -> int:
    """About how many examples a split has, by what the first group makes of its records."""
    group = split.open_group(0, streams, 0)
    try:
        return round(len(group) / max(1, group.records) * split.counts["examples"])
    finally:
        group.close()


def _mean_tokens(split: ShardedSplit, streams: int) -> float:
    """The mean number of tokens of an example of the first group."""
    group = split.open_group(0, streams, 0)
    try:
        examples = group.examples
        return 1.0 if examples is None else examples.mean_tokens(split.config.seed)
    finally:
        group.close()
