"""The tasks of a dataset, opened; what training and evaluation do in the same way."""

import functools
import resource
import sys
from collections.abc import Sequence

import grain
import numpy as np

from t5x_like.data import formats
from t5x_like.data.cache.status import require_cache
from t5x_like.data.config import DatasetConfig, first_tokens_of, not_one_text
from t5x_like.data.examples import TaskExamples, open_task
from t5x_like.data.long_examples import LongExamples, TrimLong
from t5x_like.errors import UserError


def start_id(opened: Sequence[TaskExamples]) -> int:
    """What the decoder reads first, the same in all tasks."""
    first = opened[0]
    for task in opened:
        if task.start_id != first.start_id:
            raise UserError(
                f"the decoder begins with token {first.start_id} in task {first.name!r} and with "
                f"{task.start_id} in {task.name!r}; give the tasks of a mixture one vocabulary"
            )
    return first.start_id


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


def open_tasks(config: DatasetConfig, *, training: bool) -> list[TaskExamples]:
    """Each task of a dataset; `first_tokens`, `long_examples` and `shuffle` are of training alone.

    Raises:
      UserError: a cache is not ready or damaged, or a length does not fit.
    """
    _allow_open_files()
    opened = []
    long_examples: LongExamples = config.long_examples if training else TrimLong()
    for task, _ in config.task.tasks:
        folder = require_cache(
            task, config.cache_dir, config.split, verify_source=config.verify_source
        )
        opened.append(
            open_task(
                task,
                folder,
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
    """The one task of rows that continue one another."""
    first = opened[0]
    if len(opened) > 1 or first.stream is None:
        raise not_one_text(batch_format, [task.name for task in opened])
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
