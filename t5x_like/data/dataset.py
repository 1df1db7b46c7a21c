"""From a declared task or mixture to batches."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

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
from t5x_like.data.interleaving import Epochs, StreamMixing, interleaved
from t5x_like.data.iterator import DataIterator
from t5x_like.data.mixing import MixtureSchedule, Shares, constant
from t5x_like.data.opening import (
    check_shards,
    contiguous_task,
    numbered,
    open_tasks,
    say_what_is_too_long,
    start_id,
)
from t5x_like.data.rows.contiguous import ContiguousRows
from t5x_like.data.rows.numbered import NumberedRows
from t5x_like.data.rows.one_task_batches import OneTaskBatches, OneTaskRows
from t5x_like.data.rows.packed import PACKING_ORDER, PackedRows
from t5x_like.data.rows.row_source import RowSource
from t5x_like.errors import UserError

_MOST_STREAMS = 64


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
    facts = facts_of(config)
    check_pairing(config, batch_format)  # before files are opened
    members = config.task.tasks
    opened = open_tasks(config, training=True)
    facts = dataclasses.replace(facts, start_id=start_id(opened))
    bound = formats.bound(batch_format, facts)
    if shard_index == 0:
        say_what_is_too_long(opened)
    lengths = dict(config.task_feature_lengths)
    convert = functools.partial(bound.batch, lengths=lengths, pack=pack)
    shares = _shares(config, opened, [rate for _, rate in members])
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
        streams = _streams(config, shard_count)
        open_rows = _open_rows(config, sum(len(task.source) for task in opened), streams)
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
    identity = _identity(config, batch_format, opened, shares, pack, streams, open_rows)
    names, sizes = zip(*((task.name, len(task.source)) for task in opened), strict=True)
    epochs = Epochs(names, sizes, shares, schedule, streams)
    if isinstance(rows, OneTaskRows):  # an epoch has all batches of all tasks
        each = (rows.batches_in_epoch,) * len(names)
        epochs = Epochs(names, each, constant((1.0,) * len(names)), BatchSchedule(((0, 1),)))
    return DataIterator(rows, convert, identity, config.prefetch, config.patience, epochs)


def _shares(
    config: DatasetConfig, opened: Sequence[task_examples.TaskExamples], rates: Sequence[float]
) -> Shares:
    """Which share of the examples is of each task."""
    rule = config.mixing
    facts = (
        [task.name for task in opened],
        rates,
        [len(task.source) for task in opened],
        functools.cache(lambda: [task.mean_tokens(config.seed) for task in opened]),
    )
    return (
        rule.shares(*facts) if isinstance(rule, MixtureSchedule) else constant(rule.weights(*facts))
    )


def _contiguous_rows(
    config: DatasetConfig,
    batch_format: str,
    opened: Sequence[task_examples.TaskExamples],
    bound: BoundFormat,
    shard_index: int,
    shard_count: int,
) -> ContiguousRows:
    first = contiguous_task(batch_format, opened)
    assert first.stream is not None
    return ContiguousRows(
        first.stream,
        first.finish,
        bound.item,
        bound.capacities(config.task_feature_lengths)[0],
        batch_size=config.batch_size,
        seed=task_examples.derived_seed(config.seed, first.name),
        shuffle=config.shuffle,
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


def _streams(config: DatasetConfig, shard_count: int) -> int:
    streams = config.virtual_streams
    if streams is None:
        streams = math.gcd(*config.batch_sizes, _MOST_STREAMS)
    sizes = config.batch_sizes
    if streams < 1 or any(rows % streams for rows in sizes) or streams % shard_count:
        raise UserError(
            f"virtual_streams is {streams}; it must divide batch_size "
            f"{' and '.join(map(str, sizes))}, and be a multiple of the {shard_count} data shards"
        )
    return streams


def _open_rows(config: DatasetConfig, examples: int, streams: int) -> int:
    """Rows that each stream keeps open: fewer of a small corpus.

    The examples in open rows are ahead of those in batches. So that each is seen once in an epoch
    all the same, not many more than an epoch's quarter are open at a time.
    """
    if config.open_rows < 1:
        raise UserError(f"open_rows is {config.open_rows}; it must be at least 1")
    return min(config.open_rows, max(2, examples // (4 * streams)))


def _identity(
    config: DatasetConfig,
    batch_format: str,
    opened: Sequence[task_examples.TaskExamples],
    shares: Shares,
    pack: bool,
    streams: int,
    open_rows: int,
) -> str:
    """A digest of all that decides the order of the examples."""
    description: dict[str, Any] = {
        "batch_format": batch_format,
        "tasks": [[task.name, len(task.source)] for task in opened],
        "weights": list(shares.weights[0]),
        "split": config.split,
        "lengths": dict(config.task_feature_lengths),
        "batch_size": config.batch_size,
        "shuffle": config.shuffle,
        "seed": config.seed,
        "pack": pack,
        "streams": streams,
        "open_rows": open_rows,
    }
    if streams:
        description["order"] = PACKING_ORDER
    if len(shares.begins) > 1:
        description["shares"] = [shares.begins, shares.weights]
    if config.first_tokens is not None:
        description["first_tokens"] = config.first_tokens
    if isinstance(config.mixing, OneTaskBatches):
        description["batches"] = "of one task"
    if config.batch_schedule is not None:
        description["batch_schedule"] = [list(pair) for pair in config.batch_schedule.sizes]
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
