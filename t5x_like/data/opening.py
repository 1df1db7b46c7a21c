"""The tasks of a dataset, opened; what training and evaluation do in the same way."""

import functools
import math
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import grain
import numpy as np

from t5x_like.data import formats
from t5x_like.data.cache.status import require_cache
from t5x_like.data.config import DatasetConfig, first_tokens_of, not_one_text
from t5x_like.data.examples import TaskExamples, open_task
from t5x_like.data.long_examples import LongExamples, TrimLong
from t5x_like.data.mixing import ExamplesProportional, MixtureSchedule, Shares, constant
from t5x_like.errors import UserError
from t5x_like.protocols import Task

_MOST_STREAMS = 64


def start_id(of_tasks: Mapping[str, int]) -> int:
    """What the decoder reads first, the same in all tasks, which are given by name."""
    first, wanted = next(iter(of_tasks.items()))
    for name, found in of_tasks.items():
        if found != wanted:
            raise UserError(
                f"the decoder begins with token {wanted} in task {first!r} and with {found} in "
                f"{name!r}; give the tasks of a mixture one vocabulary"
            )
    return wanted


def shares_of(
    config: DatasetConfig,
    names: Sequence[str],
    examples: Sequence[int],
    mean_tokens: Callable[[], Sequence[float]],
) -> Shares:
    """Which share of the examples is of each task; see `Mixing.weights`."""
    rates = [rate for _, rate in config.task.tasks]
    rule = config.mixing
    if isinstance(rule, MixtureSchedule):
        return rule.shares(names, rates, examples, functools.cache(mean_tokens))
    if isinstance(rule, ExamplesProportional) and (note := rule.note(names, examples)):
        _say_once(f"{config.task.name}: {note}")
    return constant(rule.weights(names, rates, examples, mean_tokens))


def check_shards(config: DatasetConfig, shard_index: int, shard_count: int) -> None:
    """Raises `UserError` where the parts of a batch cannot be equal."""
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


def folder_of(task: Task, config: DatasetConfig) -> Path:
    """The folder on this machine with the cache of one of the tasks.

    Raises:
      UserError: it is not ready.
    """
    return require_cache(
        task,
        config.cache_dir,
        config.split,
        verify_source=config.verify_source,
        split_alone=config.shard_store is not None,
    )


def open_tasks(config: DatasetConfig, *, training: bool) -> list[TaskExamples]:
    """Each task of a dataset; `first_tokens`, `long_examples` and `shuffle` are of training alone.

    Raises:
      UserError: a cache is not ready or damaged, or a length does not fit.
    """
    _allow_open_files()
    opened = []
    long_examples: LongExamples = config.long_examples if training else TrimLong()
    for task, _ in config.task.tasks:
        opened.append(
            open_task(
                task,
                folder_of(task, config),
                config.split,
                config.task_feature_lengths,
                seed=config.seed if training and config.shuffle else None,
                long_examples=long_examples,
                first_tokens=first_tokens_of(config, task.name) if training else None,
            )
        )
    return opened


def numbered(data: grain.MapDataset, task: str, batch_format: str) -> grain.MapDataset:
    """Examples with the number of their task, where the format reads it."""
    if not getattr(formats.find(batch_format), "numbers_tasks", False):
        return data
    number = np.int32(formats.task_number(task))
    return data.map(lambda example: {**example, "task": number})


def contiguous_task(batch_format: str, opened: Sequence[TaskExamples]) -> TaskExamples:
    """The one task of rows that continue one another.

    Raises:
      UserError: there are several, or its rows cannot.
    """
    first = opened[0]
    if len(opened) > 1 or first.stream is None:
        raise not_one_text(batch_format, [task.name for task in opened])
    why = getattr(first.finish.objective, "rows_stand_alone", None)
    if why is not None:
        raise UserError(
            f"batches of the format {batch_format!r} are the consecutive pieces of one text, but "
            f"rows of task {first.name!r} stand alone: {why}."
        )
    return first


def say_what_is_too_long(opened: Sequence[TaskExamples]) -> None:
    """Counts, on standard error, the examples that are longer than the model is given."""
    for task in opened:
        if task.note:
            _say_once(task.note)


@functools.cache
def _say_once(note: str) -> None:
    """Once in a process: an evaluation opens a split for each of its measurements."""
    print(note, file=sys.stderr, flush=True)


def streams_of(config: DatasetConfig, shard_count: int) -> int:
    """How many streams pack the rows of all processes."""
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


def open_rows_of(config: DatasetConfig, examples: int, streams: int) -> int:
    """Rows that each stream keeps open: fewer of a small corpus.

    The examples in open rows are ahead of those in batches. So that each is seen once in an epoch
    all the same, not many more than an epoch's quarter are open at a time.
    """
    if config.open_rows < 1:
        raise UserError(f"open_rows is {config.open_rows}; it must be at least 1")
    return min(config.open_rows, max(2, examples // (4 * streams)))
