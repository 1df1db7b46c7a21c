"""From a declared task or mixture to batches."""

import bisect
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np

from t5x_like.data import examples as task_examples
from t5x_like.data import formats
from t5x_like.data.batch_schedule import BatchSchedule
from t5x_like.data.cache.status import require_cache
from t5x_like.data.config import (
    DatasetConfig,
    batches_of,
    check_pairing,
    facts_of,
    not_one_text,
    packs,
)
from t5x_like.data.contiguous import ContiguousRows
from t5x_like.data.evaluation import EvaluationDataset
from t5x_like.data.formats import BoundFormat, Item
from t5x_like.data.iterator import (
    PACKING_ORDER,
    DataIterator,
    NumberedRows,
    PackedRows,
    RowSource,
)
from t5x_like.data.long_examples import LongExamples, TrimLong
from t5x_like.data.mixing import Epochs, StreamMixing
from t5x_like.data.one_task_batches import OneTaskBatches, OneTaskRows
from t5x_like.errors import UserError

_MOST_STREAMS = 64


def _start_id(opened: Sequence[task_examples.TaskExamples]) -> int:
    """What the decoder reads first, the same in all tasks."""
    first = opened[0]
    for task in opened:
        if task.start_id != first.start_id:
            raise UserError(
                f"the decoder begins with token {first.start_id} in task {first.name!r} and with "
                f"{task.start_id} in {task.name!r}; give the tasks of a mixture one vocabulary"
            )
    return first.start_id


def _check_shards(config: DatasetConfig, shard_index: int, shard_count: int) -> None:
    if not isinstance(config.batch_size, int) or config.batch_size < 1:
        raise UserError(f"batch_size is {config.batch_size!r}; it must be a whole number above 0")
    for rows in config.batch_sizes:
        if rows % shard_count:
            raise UserError(
                f"batch_size {rows} cannot be divided among {shard_count} data shards; "
                f"the nearest that can are {rows // shard_count * shard_count or ''}"
                f"{' and ' if rows > shard_count else ''}"
                f"{-(-rows // shard_count) * shard_count}"
            )
    if not 0 <= shard_index < shard_count:
        raise ValueError(f"shard {shard_index} of {shard_count}")


def _allow_open_files() -> None:
    """A cache keeps a few files of each shard open; the usual limit of 1,024 is for 400 shards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _open_tasks(config: DatasetConfig, *, training: bool) -> list[task_examples.TaskExamples]:
    _allow_open_files()
    opened = []
    long_examples: LongExamples = config.long_examples if training else TrimLong()
    for task, _ in config.task.tasks:
        folder = require_cache(
            task, config.cache_dir, config.split, verify_source=config.verify_source
        )
        opened.append(
            task_examples.open_task(
                task,
                folder,
                config.split,
                config.task_feature_lengths,
                seed=config.seed if training and config.shuffle else None,
                long_examples=long_examples,
            )
        )
    return opened


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
    _check_shards(config, shard_index, shard_count)
    pack = packs(config, batch_format)
    facts = facts_of(config)
    check_pairing(config, batch_format)  # before files are opened
    members = config.task.tasks
    opened = _open_tasks(config, training=True)
    facts = dataclasses.replace(facts, start_id=_start_id(opened))
    bound = formats.bound(batch_format, facts)
    if shard_index == 0:
        _say_what_is_too_long(opened)
    lengths = dict(config.task_feature_lengths)
    convert = functools.partial(bound.batch, lengths=lengths, pack=pack)
    weights = config.mixing.weights(
        [task.name for task in opened],
        [rate for _, rate in members],
        [len(task.source) for task in opened],
        lambda: [task.mean_tokens(config.seed) for task in opened],
    )
    shards = shard_index, shard_count
    streams = open_rows = 0
    schedule = batches_of(config, batch_format)
    rows: RowSource
    parts = [
        _numbered(task.training(config.seed, config.shuffle), task.name, batch_format)
        for task in opened
    ]
    if formats.find(batch_format).contiguous:
        rows = _contiguous_rows(config, batch_format, opened, bound, *shards)
    elif isinstance(config.mixing, OneTaskBatches):
        rows = _one_task_rows(config, pack, parts, opened, bound, *shards)
    elif pack and not all(task.chunked for task in opened):
        streams = _streams(config, shard_count)
        open_rows = _open_rows(config, sum(len(task.source) for task in opened), streams)
        mixed = StreamMixing(weights, streams)

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
            mixed=len(parts) > 1,
            shard_index=shard_index,
            shard_count=shard_count,
        )
    else:
        data = parts[0] if len(parts) == 1 else grain.MapDataset.mix(parts, weights=weights)
        rows = NumberedRows(lambda index: bound.item(data[index]), schedule, *shards)
    identity = _identity(config, batch_format, opened, weights, pack, streams, open_rows)
    names, sizes = zip(*((task.name, len(task.source)) for task in opened), strict=True)
    epochs = Epochs(names, sizes, weights, schedule, streams)
    if isinstance(rows, OneTaskRows):  # an epoch has all batches of all tasks
        each = (rows.batches_in_epoch,) * len(names)
        epochs = Epochs(names, each, (1.0,) * len(names), BatchSchedule(((0, 1),)))
    return DataIterator(rows, convert, identity, config.prefetch, config.patience, epochs)


def _contiguous_rows(
    config: DatasetConfig,
    batch_format: str,
    opened: Sequence[task_examples.TaskExamples],
    bound: BoundFormat,
    shard_index: int,
    shard_count: int,
) -> ContiguousRows:
    first = _contiguous_task(batch_format, opened)
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


def _numbered(data: grain.MapDataset, task: str, batch_format: str) -> grain.MapDataset:
    """Examples with the number of their task, where the format reads it."""
    if not getattr(formats.find(batch_format), "numbers_tasks", False):
        return data
    number = np.int32(formats.task_number(task))
    return data.map(lambda example: {**example, "task": number})


def _contiguous_task(
    batch_format: str, opened: Sequence[task_examples.TaskExamples]
) -> task_examples.TaskExamples:
    first = opened[0]
    if len(opened) > 1 or first.stream is None:
        raise not_one_text(batch_format, [task.name for task in opened])
    return first


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
    weights: Sequence[float],
    pack: bool,
    streams: int,
    open_rows: int,
) -> str:
    """A digest of all that decides the order of the examples."""
    description: dict[str, Any] = {
        "batch_format": batch_format,
        "tasks": [[task.name, len(task.source)] for task in opened],
        "weights": list(weights),
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
    if isinstance(config.mixing, OneTaskBatches):
        description["batches"] = "of one task"
    if config.batch_schedule is not None:
        description["batch_schedule"] = [list(pair) for pair in config.batch_schedule.sizes]
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _say_what_is_too_long(opened: Sequence[task_examples.TaskExamples]) -> None:
    for task in opened:
        if task.note:
            _say_once(task.note)


@functools.cache
def _say_once(note: str) -> None:
    """Once in a process: an evaluation opens a split for each of its measurements."""
    print(note, file=sys.stderr, flush=True)


def open_evaluation(
    config: DatasetConfig,
    *,
    batch_format: str,
    shard_index: int = 0,
    shard_count: int = 1,
    limit: int | None = None,
) -> EvaluationDataset:
    """A split once through, in order, one example a row; a mixture's tasks one after another.

    With a limit, so many examples or fewer, with all of their rows, drawn evenly from the split,
    the same for every batch size and number of shards. Of the configuration, `shuffle`, `pack`,
    `mixing` and `prefetch` play no part.

    Raises:
      UserError: as `open_dataset`.
    """
    _check_shards(config, shard_index, shard_count)
    facts = facts_of(config)
    check_pairing(config, batch_format)
    opened = _open_tasks(config, training=False)
    if shard_index == 0:
        _say_what_is_too_long(opened)
    bound = formats.bound(batch_format, dataclasses.replace(facts, start_id=_start_id(opened)))
    data = [_numbered(task.evaluation(config.seed), task.name, batch_format) for task in opened]
    begins = [0, *itertools.accumulate(len(part) for part in data)]
    contiguous = formats.find(batch_format).contiguous
    if contiguous:
        _contiguous_task(batch_format, opened)

    def example_at(index: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        number = bisect.bisect_right(begins, index) - 1
        local = index - begins[number]
        raw = opened[number].raw
        return data[number][local], raw(local) if raw else {}

    def with_token_before(index: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        features, raw = example_at(index)
        return {**features, "before": data[0][index - 1]["targets"][-1]}, raw

    return EvaluationDataset(
        begins[-1],
        example_at,
        bound,
        dict(config.task_feature_lengths),
        config.batch_size,
        shard_index,
        shard_count,
        with_token_before if contiguous else None,
        limit,
        _per_target(opened, [task.text_bytes for task in opened]),
        _ends_of_examples(opened),
        _per_target(opened, [task.text_words for task in opened]),
        not contiguous and all(task.raw is not None for task in opened),
    )


def _ends_of_examples(opened: Sequence[task_examples.TaskExamples]) -> np.ndarray | None:
    """After which row each example ends, where some may have several."""
    if not any(task.windows is not None for task in opened):
        return None
    parts, before = [], 0
    for task in opened:
        rows = len(task.source)
        ends = np.arange(1, rows + 1) if task.windows is None else task.windows.ends
        parts.append(before + ends)
        before += rows
    return np.concatenate(parts)


def _per_target(
    opened: Sequence[task_examples.TaskExamples], sizes: Sequence[int | None]
) -> float | None:
    """What a target token of all tasks has of something; None where one did not count it."""
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    return sum(known) / max(1, sum(task.target_tokens for task in opened))
