"""From a declared task or mixture to batches."""

import bisect
import dataclasses
import hashlib
import itertools
import json
import math
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grain

from t5x_like.data import examples as task_examples
from t5x_like.data.cache.status import require_cache
from t5x_like.data.evaluation import EvaluationDataset
from t5x_like.data.feature_converters import (
    LM,
    EncDec,
    FeatureConverter,
    Item,
    ModelBatch,
    PrefixLM,
    Row,
    converter_for,
)
from t5x_like.data.iterator import DataIterator, NumberedRows, PackedRows, RowSource
from t5x_like.data.long_examples import LongExamples, TrimLong
from t5x_like.data.mixing import GivenRates, Mixing
from t5x_like.errors import UserError
from t5x_like.protocols import Architecture, Mixture, Task

_MOST_STREAMS = 64


@dataclass(frozen=True)
class DatasetConfig:
    """What to read, and how.

    Attributes:
      task: a task or mixture (not its name).
      task_feature_lengths: tokens of each of its features, `{"inputs": 512, "targets": 114}`.
      cache_dir: where `t5x-like cache` wrote it.
      split: name of the split.
      batch_size: rows of a batch, all processes together.
      shuffle: whether every epoch is shuffled as a whole; training only.
      seed: decides order, cuts and objectives.
      pack: whether a row holds several examples, with segment ids; training only.
      mixing: how a mixture's tasks are weighed.
      virtual_streams: parts in which packing is done; divides the batch, and the number of
        processes divides it. None takes the largest power of two up to 64. To continue a run on
        more processes than this, choose it from the start.
      open_rows: rows each stream keeps open while it packs.
      prefetch: batches made ahead in the background.
      patience: seconds without a single example read, after which reading is given up; it needs
        `prefetch`. None waits for ever.
      long_examples: what becomes of examples longer than `task_feature_lengths`, which are
        counted on standard error; training only.
      verify_source: whether a cache whose fingerprint differs from the task's is refused.
    """

    task: Task | Mixture
    task_feature_lengths: Mapping[str, int]
    cache_dir: str | os.PathLike[str]
    split: str = "train"
    batch_size: int = 32
    shuffle: bool = True
    seed: int = 0
    pack: bool = True
    mixing: Mixing = field(default_factory=GivenRates)
    virtual_streams: int | None = None
    open_rows: int = 16
    prefetch: int = 2
    patience: float | None = 60.0
    long_examples: LongExamples = field(default_factory=TrimLong)
    verify_source: bool = True


def tasks_of(task: Task | Mixture) -> list[tuple[Task, float]]:
    """The tasks of a mixture with their rates; a task alone has rate 1."""
    return list(task.tasks) if hasattr(task, "tasks") else [(task, 1.0)]


def feature_names(task: Task | Mixture) -> tuple[str, ...]:
    """Names of the features that a model is given.

    Raises:
      UserError: the tasks of a mixture do not have the same features, or there are none.
    """
    members = tasks_of(task)
    if not members:
        raise UserError(f"mixture {task.name!r} has no tasks")
    names = tuple(members[0][0].output_features)
    for member, _ in members:
        if set(member.output_features) != set(names):
            raise UserError(
                f"the tasks of mixture {task.name!r} differ in their features: "
                f"{members[0][0].name!r} has {sorted(names)}, {member.name!r} has "
                f"{sorted(member.output_features)}"
            )
    return names


def model_feature_shapes(
    config: DatasetConfig, architecture: Architecture, shard_count: int = 1
) -> dict[str, tuple[int, int]]:
    """Shapes of a training batch's features, without reading any data."""
    convert = _laying_out(config, _converter(config, architecture), config.pack)
    rows = config.batch_size // shard_count
    return {name: array.shape for name, array in convert([()] * rows).items()}


def _converter(config: DatasetConfig, architecture: Architecture) -> EncDec | LM | PrefixLM:
    """The converter, but for its `start_id`, which the opened tasks know."""
    members = [task for task, _ in tasks_of(config.task)]
    return converter_for(
        architecture,
        feature_names(config.task),
        zero_is_token=any(
            getattr(feature.vocabulary, "zero_is_token", False)
            for task in members
            for feature in task.output_features.values()
        ),
        positioned=any("targets" in getattr(task, "positioned", ()) for task in members),
    )


def _laying_out(
    config: DatasetConfig, converter: FeatureConverter, pack: bool
) -> Callable[[Sequence[Row]], ModelBatch]:
    lengths = dict(config.task_feature_lengths)

    def convert(rows: Sequence[Row]) -> ModelBatch:
        return converter.batch(rows, lengths, pack)

    return convert


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
    if config.batch_size % shard_count:
        raise UserError(
            f"batch_size {config.batch_size} cannot be divided among {shard_count} data shards; "
            f"the nearest that can are {config.batch_size // shard_count * shard_count or ''}"
            f"{' and ' if config.batch_size > shard_count else ''}"
            f"{-(-config.batch_size // shard_count) * shard_count}"
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
    for task, _ in tasks_of(config.task):
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
    architecture: Architecture,
    shard_index: int = 0,
    shard_count: int = 1,
) -> DataIterator:
    """Endless training batches.

    The parts of all shards, one after the other, make the same batches for every
    `shard_count`.

    Args:
      config: what to read.
      architecture: of the model, which decides the features.
      shard_index: which part of the batch this process reads.
      shard_count: number of parts.

    Raises:
      UserError: the cache is not ready or damaged, the split is empty, a length or the batch
        size does not fit.
    """
    _check_shards(config, shard_index, shard_count)
    converter = _converter(config, architecture)
    members = tasks_of(config.task)
    opened = _open_tasks(config, training=True)
    converter = dataclasses.replace(converter, start_id=_start_id(opened))
    for task in opened:
        if task.note and shard_index == 0:
            print(task.note, file=sys.stderr, flush=True)
    parts = [task.training(config.seed, config.shuffle) for task in opened]
    weights = config.mixing.weights(
        [task.name for task in opened],
        [rate for _, rate in members],
        [len(task.source) for task in opened],
    )
    data = parts[0] if len(parts) == 1 else grain.MapDataset.mix(parts, weights=weights)

    def item_at(index: int) -> Item:
        return converter.item(data[index])

    def packable_at(index: int) -> Item:
        item = item_at(index)
        return item if converter.zero_is_token else item.before_padding()

    streams = 0
    rows: RowSource
    if config.pack and not all(task.chunked for task in opened):
        streams = _streams(config, shard_count)
        rows = PackedRows(
            packable_at,
            converter.capacities(config.task_feature_lengths),
            batch_size=config.batch_size,
            streams=streams,
            open_rows=config.open_rows,
            shard_index=shard_index,
            shard_count=shard_count,
        )
    else:
        rows = NumberedRows(item_at, config.batch_size, shard_index, shard_count)
    identity = _identity(config, architecture, opened, weights, streams)
    convert = _laying_out(config, converter, config.pack)
    return DataIterator(rows, convert, identity, config.prefetch, config.patience)


def _streams(config: DatasetConfig, shard_count: int) -> int:
    streams = config.virtual_streams
    if streams is None:
        streams = math.gcd(config.batch_size, _MOST_STREAMS)
    if streams < 1 or config.batch_size % streams or streams % shard_count:
        raise UserError(
            f"virtual_streams is {streams}; it must divide batch_size {config.batch_size}, and be "
            f"a multiple of the {shard_count} data shards"
        )
    return streams


def _identity(
    config: DatasetConfig,
    architecture: Architecture,
    opened: Sequence[task_examples.TaskExamples],
    weights: Sequence[float],
    streams: int,
) -> str:
    """A digest of all that decides which example stands where."""
    description: dict[str, Any] = {
        "architecture": architecture,
        "tasks": [[task.name, len(task.source)] for task in opened],
        "weights": list(weights),
        "split": config.split,
        "lengths": dict(config.task_feature_lengths),
        "batch_size": config.batch_size,
        "shuffle": config.shuffle,
        "seed": config.seed,
        "pack": config.pack,
        "streams": streams,
        "open_rows": config.open_rows if streams else 0,
    }
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def open_evaluation(
    config: DatasetConfig,
    *,
    architecture: Architecture,
    shard_index: int = 0,
    shard_count: int = 1,
) -> EvaluationDataset:
    """A split once through, in order, one example a row; a mixture's tasks one after another.

    Of the configuration, `shuffle`, `pack`, `mixing` and `prefetch` play no part.

    Raises:
      UserError: as `open_dataset`.
    """
    _check_shards(config, shard_index, shard_count)
    converter = _converter(config, architecture)
    opened = _open_tasks(config, training=False)
    converter = dataclasses.replace(converter, start_id=_start_id(opened))
    convert = _laying_out(config, converter, pack=False)
    data = [task.evaluation(config.seed) for task in opened]
    begins = [0, *itertools.accumulate(len(part) for part in data)]

    def example_at(index: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        number = bisect.bisect_right(begins, index) - 1
        local = index - begins[number]
        raw = opened[number].raw
        return data[number][local], raw(local) if raw else {}

    return EvaluationDataset(
        begins[-1], example_at, converter.item, convert, config.batch_size, shard_index, shard_count
    )
