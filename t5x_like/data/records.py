"""What a cache holds of a split, as it is: text and all, without objective, trimming or EOS."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from t5x_like.data.cache import layout
from t5x_like.data.cache.reader import CachedExamples
from t5x_like.data.cache.vocabularies import vocabulary_specs
from t5x_like.data.config import DatasetConfig
from t5x_like.data.examples import open_task, sample_of
from t5x_like.data.opening import folder_of
from t5x_like.errors import UserError
from t5x_like.protocols import Task


@dataclasses.dataclass(frozen=True)
class Records:
    """Examples of a split, or so many of them drawn evenly; can be iterated again.

    Attributes:
      examples: of the whole split.
      limit: the most that are given; None for all.
    """

    examples: CachedExamples
    limit: int | None = None

    @property
    def num_examples(self) -> int:
        """In the whole split."""
        return len(self.examples)

    def __len__(self) -> int:
        return self.num_examples if self.limit is None else min(self.limit, self.num_examples)

    @property
    def numbers(self) -> list[int]:
        """Of those that are given, in the whole split."""
        return sample_of(len(self), self.num_examples).tolist()

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self.examples.raw(number) for number in self.numbers)


def open_records(
    config: DatasetConfig, features: Sequence[str], limit: int | None = None
) -> Records | None:
    """A split's records; None where they lack one of the features.

    Args:
      config: which split of which task, not of a mixture.
      features: names in the cache.
      limit: the most records, drawn evenly from the split; None for all.

    Raises:
      UserError: the cache is not ready or damaged, or has no such split.
    """
    task = cast(Task, config.task)
    folder = folder_of(task, config)
    if not set(features) <= set(layout.read_info(folder, config.split).dtypes):
        return None
    return Records(CachedExamples(folder, config.split, ()), limit)


@dataclasses.dataclass(frozen=True)
class Documents:
    """The documents of a split of plain text, whole, or so many of them drawn evenly.

    Attributes:
      records: with the tokens of each.
      start_id: what a decoder reads first.
      end_id: what ends a document, whose probability counts; None for nothing.
      bytes_per_target: bytes of text for each token of the whole split, ends included; None where
        the cache did not count.
      words_per_target: the same of words.
    """

    records: Records
    start_id: int
    end_id: int | None
    bytes_per_target: float | None
    words_per_target: float | None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each document's token ids, int32, with its end."""
        end = [] if self.end_id is None else [self.end_id]
        for record in self.records:
            yield np.concatenate([record.get("targets", ()), end]).astype(np.int32)


def open_documents(config: DatasetConfig, limit: int | None = None) -> Documents:
    """The documents of a task on plain text.

    Args:
      config: which split of which task, not of a mixture.
      limit: the most documents, drawn evenly from the split; None for all.

    Raises:
      UserError: the task's targets are not its text, or the cache is not ready.
    """
    task = cast(Task, config.task)
    folder = folder_of(task, config)
    specs = vocabulary_specs(task, folder)
    objective = task.objective(specs)
    is_text = objective is None or getattr(objective, "targets_are_text", False)
    if not is_text or set(task.output_features) != {"targets"}:
        raise UserError(
            f"documents are read whole of plain text alone, but task {task.name!r} has "
            f"{' and '.join(task.output_features)}: choose a task of language modelling."
        )
    opened = open_task(task, folder, config.split, config.task_feature_lengths, seed=None)
    ends = task.output_features["targets"].add_eos or getattr(objective, "document_eos", False)

    def per_target(size: int | None) -> float | None:
        return None if size is None else size / max(1, opened.target_tokens)

    return Documents(
        Records(CachedExamples(folder, config.split, ()), limit),
        opened.start_id,
        specs["targets"]["eos_id"] if ends else None,
        per_target(opened.text_bytes),
        per_target(opened.text_words),
    )
