"""The documents of a task's source, for what reads them before they are tokenized."""

import argparse
import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from t5x_like.errors import UserError


def source_of(task: Any, splits: Sequence[str] | None = None) -> Any:
    """The source of a task, whose files are there.

    Args:
      task: of `tasks`.
      splits: that will be read, of which those are passed over that it has not; None for all.

    Raises:
      UserError: seqio alone reads it, or a file is missing.
    """
    from tasks import sources

    if not hasattr(task, "source") or not hasattr(task, "form"):
        raise UserError(
            f"the text of task '{task.name}' is read by seqio alone: declare it with `tasks`."
        )
    known = None if splits is None else [name for name in splits if name in task.source.splits]
    sources.check_files(task.source, known)
    return task.source


def shards(source: Any, split: str) -> Sequence[str]:
    """The names of the shards of a split.

    Raises:
      UserError: there is no such split.
    """
    if split not in source.splits:
        raise UserError(f"--splits={split}: the source has {', '.join(source.splits)}.")
    return list(source.shards(split))


def local_patterns(source: Any) -> list[str]:
    """The globs of the local files that a source reads, whatever it is wrapped in."""
    from tasks.sources import ParallelFiles
    from tasks.sources.files import FileSource, listed

    while not isinstance(source, FileSource | ParallelFiles):
        source = getattr(source, "source", None)
        if source is None:
            return []
    found: list[str] = []
    for given in source.files.values():
        columns = given.values() if isinstance(given, Mapping) else [given]
        found += [pattern for patterns in columns for pattern in listed(patterns)]
    return [pattern for pattern in dict.fromkeys(found) if "://" not in pattern]


def workers(options: argparse.Namespace) -> int:
    """The number of processes, `--num_workers`.

    Raises:
      UserError: it is below 1.
    """
    count = options.num_workers
    if count is None:
        count = len(os.sched_getaffinity(0))
    if count < 1:
        raise UserError(f"--num_workers={count}: give a whole number of 1 or more.")
    return int(count)


class TaskDocuments:
    """The texts of a task's source, before a list of duplicates is applied to it.

    Args:
      task: of `tasks`.
      splits: that will be read, whose files must be there; None for all.

    Raises:
      UserError: seqio alone reads the task, a file is missing, or an earlier list is inside other
        wrappers.
    """

    def __init__(self, task: Any, splits: Sequence[str] | None = None) -> None:
        from tasks.sources import Deduplicated

        if isinstance(getattr(task, "source", None), Deduplicated):
            task = dataclasses.replace(task, source=task.source.source)
        self.source = source_of(task, splits)
        self._task = dataclasses.replace(task, source=self.source)

    @property
    def column(self) -> str:
        """Of plain text, the column that it is in."""
        return str(self._task.form.columns[0])

    def shards(self, split: str) -> Sequence[str]:
        """See `near_duplicates.shard_keys.Documents`, as the others."""
        return shards(self.source, split)

    def texts(self, split: str, shard: str) -> Iterator[str]:
        """The text of each row: what its form makes of it."""
        for made in self._task.examples(split, [shard]):
            yield "\n".join(map(str, made.values()))

    def why_empty(self, split: str) -> str:
        """What to change where a split has no documents."""
        why = getattr(self.source, "why_empty", None)
        return str(why(split)) if why else "leave it out of --splits."

    @functools.cached_property
    def _fingerprint(self) -> str:  # read once: it may be of many files
        return str(self.source.fingerprint())

    def settings(self) -> Mapping[str, Any]:
        """The source's fingerprint, and how the text is made of its columns."""
        from tasks.sources import said

        form = self._task.form
        return {"source": self._fingerprint, "columns": list(form.columns), "form": said(form)}


class SourceRows:
    """The rows of a source, for `corpora.rewrite`.

    Args:
      source: whose filters count what they drop.
      name: of the task, for messages.

    Raises:
      UserError: the source does not say which columns it has.
    """

    def __init__(self, source: Any, name: str) -> None:
        self._source = source
        self.columns = tuple(source.columns)
        if not self.columns:
            raise UserError(f"the source of '{name}' gives all columns there are: name them.")

    def shards(self, split: str) -> Sequence[str]:
        """See `corpora.rewrite.Corpus`, as the others."""
        return shards(self._source, split)

    def rows(self, split: str, shard: str) -> Iterator[Mapping[str, str]]:
        """With each value as text."""
        from tasks.sources.wrappers.wrapper import in_texts

        return map(in_texts, self._source.rows(split, [shard]))

    def take_dropped(self) -> tuple[Mapping[str, int], Mapping[str, Sequence[str]]]:
        """Of all filters, one inside the other."""
        counts: dict[str, int] = {}
        examples: dict[str, list[str]] = {}
        source = self._source
        while source is not None:
            dropped = getattr(source, "dropped", None)
            if dropped is not None:
                for reason, count in dropped.items():
                    counts[reason] = counts.get(reason, 0) + count
                for reason, texts in dropped.examples.items():
                    examples.setdefault(reason, []).extend(texts)
                dropped.clear()
            source = getattr(source, "source", None)
        return counts, examples

    def fingerprint(self) -> str:
        """The source's."""
        return str(self._source.fingerprint())
