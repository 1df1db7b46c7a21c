"""Building a task's cache.

Only this imports seqio, and so TensorFlow, and does so in worker processes. What is written is
seqio's own layout, so that `seqio` reads it with `use_cached=True`, and a cache that seqio's Beam
tool wrote is read just as well.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from t5x_like.data.cache import layout, writer
from t5x_like.data.cache.choice import choose
from t5x_like.errors import UserError
from t5x_like.host import disk_space, files
from t5x_like.protocols import Task


def build_folder(task: Task, cache_dir: str | os.PathLike[str]) -> Path:
    """The folder to build a task's cache in, or to complete it.

    Raises:
      UserError: the cache directory is not a local path, or the task cannot be cached here.
    """
    if files.is_remote(cache_dir):
        raise UserError(
            f"the cache directory {os.fspath(cache_dir)} is not a local path; caches are written "
            "to local disks: copy it there afterwards"
        )
    return choose(task, Path(cache_dir).expanduser(), task.fingerprint(), True).folder


@dataclass(frozen=True)
class CacheCounts:
    """What `cache_task` did.

    Attributes:
      path: the task's folder.
      examples: of each split.
      tokens: of each split, by feature, padding and EOS not counted.
      dropped: of each split, documents and lines that filters dropped, by reason.
      written: shards written now; the others were there already.
      seconds: how long it took.
    """

    path: Path
    examples: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    written: int = 0
    seconds: float = 0.0


def cache_task(
    task: Task,
    cache_dir: str | os.PathLike[str],
    splits: Sequence[str] | None = None,
    *,
    num_shards: int | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> CacheCounts:
    """Tokenizes a task into its cache, or does nothing where that is done.

    What is finished is kept: after an interruption the shards that are there are not made again.
    What is damaged is made again. Where the source, the vocabulary or the preprocessing has
    changed, a folder of its own is made, and the earlier cache stays as it is. The bytes written
    depend on the task and the number of shards only.

    Args:
      task: the task; a mixture's tasks are cached one by one.
      cache_dir: the cache directory.
      splits: names of splits; None takes all that the source has.
      num_shards: files for each split; None takes 8, or as many as a split has.
      num_workers: processes; None takes one for each core, up to `num_shards`. A task that
        cannot be sent to another process is cached in this one.
      progress: whether to show a bar on standard error, where that is a terminal.

    Returns:
      The counts of the splits that were asked for.

    Raises:
      UserError: a split is unknown, without examples, or there in another number of shards, or
        the folder cannot be written.
      DiskFull: there is no room; what is finished stays.
      DataFault: a worker process was killed.
    """
    if (num_shards is not None and num_shards < 1) or (num_workers is not None and num_workers < 1):
        raise UserError(f"num_shards is {num_shards}, num_workers {num_workers}: 1 or more.")
    started = time.monotonic()
    folder = build_folder(task, cache_dir)
    try:
        with disk_space.explained(folder), writer.locked(folder):
            written = writer.build(task, folder, splits, num_shards, num_workers, progress)
            layout.link_for_seqio(folder)
    except OSError as error:
        if hasattr(error, "exit_code"):
            raise  # the task's own, about its source
        raise UserError(f"the cache {folder} cannot be written: {error}") from None
    counts = CacheCounts(folder, written=written, seconds=time.monotonic() - started)
    for split in splits if splits is not None else layout.splits(folder):
        stats = layout.read_json(layout.stats_path(folder, split))
        counts.examples[split] = int(stats["examples"])
        counts.tokens[split] = {
            name.removesuffix("_tokens"): int(value)
            for name, value in stats.items()
            if name.endswith("_tokens") and not name.endswith("_max_tokens")
        }
        counts.dropped[split] = {
            name.removeprefix(layout.DROPPED): int(value)
            for name, value in stats.items()
            if name.startswith(layout.DROPPED)
        }
    return counts
