"""What a cache holds of a split, as it is: text and all, without objective, trimming or EOS."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from t5x_like.data.cache import layout
from t5x_like.data.cache.reader import CachedExamples
from t5x_like.data.cache.status import require_cache
from t5x_like.data.config import DatasetConfig
from t5x_like.data.evaluation import evenly_drawn
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

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for nth in range(len(self)):
            yield self.examples.raw(evenly_drawn(nth, len(self), self.num_examples))


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
    folder = require_cache(task, config.cache_dir, config.split, verify_source=config.verify_source)
    if not set(features) <= set(layout.read_info(folder, config.split).dtypes):
        return None
    return Records(CachedExamples(folder, config.split, ()), limit)
