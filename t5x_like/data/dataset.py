"""From a declared task or mixture to batches."""

import functools
from collections.abc import Sequence

import grain

from t5x_like.data import examples as task_examples
from t5x_like.data import formats
from t5x_like.data.batch_schedule import BatchSchedule
from t5x_like.data.config import (
    DatasetConfig,
    batches_of,
    check_pairing,
    facts_of,
    packs,
)
from t5x_like.data.formats import BoundFormat, Item
from t5x_like.data.identity import identity
from t5x_like.data.interleaving import Epochs, StreamMixing, interleaved
from t5x_like.data.iterator import DataIterator
from t5x_like.data.mixing import constant
from t5x_like.data.opening import (
    check_shards,
    contiguous_task,
    numbered,
    open_rows_of,
    open_tasks,
    say_what_is_too_long,
    shares_of,
    start_id,
    streams_of,
)
from t5x_like.data.rows.contiguous import ContiguousRows
from t5x_like.data.rows.numbered import NumberedRows
from t5x_like.data.rows.one_task_batches import OneTaskBatches, OneTaskRows
from t5x_like.data.rows.packed import PackedRows
from t5x_like.data.rows.row_source import RowSource
from t5x_like.data.sharded.dataset import open_sharded
from t5x_like.errors import UserError


def open_dataset(
    config: DatasetConfig,
    *,
    batch_format: str,
    shard_index: int = 0,
    shard_count: int = 1,
) -> DataIterator:
    """Endless training batches.

    The parts of all shards, one after the other, make the same batches for every
    `shard_count`.

    Args:
      config: what to read.
      batch_format: of the model, which decides the features.
      shard_index: which part of the batch this process reads.
      shard_count: number of parts.

    Raises:
      UserError: the cache is not ready or damaged, the split is empty, a length or the batch
        size does not fit.
    """
    check_shards(config, shard_index, shard_count)
    pack = packs(config, batch_format)
    check_pairing(config, batch_format)  # before files are opened
    if config.shard_store is not None:
        return open_sharded(config, batch_format, shard_index, shard_count)
    opened = open_tasks(config, training=True)
    facts = facts_of(config, start_id({task.name: task.start_id for task in opened}))
    bound = formats.bound(batch_format, facts)
    if shard_index == 0:
        say_what_is_too_long(opened)
    lengths = dict(config.task_feature_lengths)
    convert = functools.partial(bound.batch, lengths=lengths, pack=pack)
    shares = shares_of(
        config,
        [task.name for task in opened],
        [len(task.source) for task in opened],
        lambda: [task.mean_tokens(config.seed) for task in opened],
    )
    shards = shard_index, shard_count
    streams = open_rows = 0
    schedule = batches_of(config, batch_format)
    rows: RowSource
    parts = [
        numbered(task.training(config.seed, config.shuffle), task.name, batch_format)
        for task in opened
    ]
    if formats.find(batch_format).contiguous:
        rows = _contiguous_rows(config, batch_format, opened, bound, *shards)
    elif isinstance(config.mixing, OneTaskBatches):
        rows = _one_task_rows(config, pack, parts, opened, bound, *shards)
    elif pack and not all(task.chunked for task in opened):
        streams = streams_of(config, shard_count)
        open_rows = open_rows_of(config, sum(len(task.source) for task in opened), streams)
        mixed = StreamMixing(shares, streams)

        def packable_at(stream: int, ordinal: int) -> Item:
            part, index = mixed.at(stream, ordinal)
            item = bound.item(parts[part][index])
            return item if facts.zero_is_token else item.before_padding()

        rows = PackedRows(
            packable_at,
            bound.capacities(config.task_feature_lengths),
            schedule=schedule,
            streams=streams,
            open_rows=open_rows,
            mixing=mixed,
            mixed=len(parts) > 1,
            shard_index=shard_index,
            shard_count=shard_count,
        )
    elif len(shares.begins) > 1:
        order = interleaved(shares, schedule)

        def item_at(index: int) -> Item:
            part, number = order.at(index)
            return bound.item(parts[part][number])

        rows = NumberedRows(item_at, schedule, *shards)
    else:
        data = parts[0]
        if len(parts) > 1:
            data = grain.MapDataset.mix(parts, weights=shares.weights[0])
        rows = NumberedRows(lambda index: bound.item(data[index]), schedule, *shards)
    sizes = {task.name: len(task.source) for task in opened}
    what = identity(config, batch_format, sizes, shares, pack, streams, open_rows)
    names = tuple(sizes)
    epochs = Epochs(names, tuple(sizes.values()), shares, schedule, streams)
    if isinstance(rows, OneTaskRows):  # an epoch has all batches of all tasks
        each = (rows.batches_in_epoch,) * len(names)
        epochs = Epochs(names, each, constant((1.0,) * len(names)), BatchSchedule(((0, 1),)))
    return DataIterator(rows, convert, what, config.prefetch, config.patience, epochs)


def _contiguous_rows(
    config: DatasetConfig,
    batch_format: str,
    opened: Sequence[task_examples.TaskExamples],
    bound: BoundFormat,
    shard_index: int,
    shard_count: int,
) -> ContiguousRows:
    first = contiguous_task(batch_format, opened)
    objective = first.finish.objective
    assert first.stream is not None and objective is not None
    length = objective.chunk_length(config.task_feature_lengths)
    assert length is not None
    return ContiguousRows(
        first.stream,
        first.finish,
        bound.item,
        length,
        batch_size=config.batch_size,
        seed=task_examples.derived_seed(config.seed, first.name),
        shuffle=config.shuffle,
        draws_lengths=getattr(formats.find(batch_format), "draws_lengths", False),
        shard_index=shard_index,
        shard_count=shard_count,
    )


def _one_task_rows(
    config: DatasetConfig,
    pack: bool,
    parts: Sequence[grain.MapDataset],
    opened: Sequence[task_examples.TaskExamples],
    bound: BoundFormat,
    shard_index: int,
    shard_count: int,
) -> OneTaskRows:
    if pack:
        raise UserError(
            "data.OneTaskBatches deals one example a row: set data.DatasetConfig.pack to False."
        )
    return OneTaskRows(
        lambda task, number: bound.item(parts[task][number]),
        getattr(bound, "blank", None),
        [len(task.source) for task in opened],
        batch_size=config.batch_size,
        seed=task_examples.derived_seed(config.seed, "batches") if config.shuffle else None,
        shard_index=shard_index,
        shard_count=shard_count,
    )
