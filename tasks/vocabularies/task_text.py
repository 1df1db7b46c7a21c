"""The text of a task that a vocabulary is trained on."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Protocol


class TextSource(Protocol):
    """What a vocabulary needs of a task."""

    output_features: Any

    def examples(self, split: str) -> Iterable[dict[str, Any]]:
        """The text of the examples of a split, before it is tokenized."""


@dataclasses.dataclass(frozen=True)
class TaskText:
    """The text of every feature of a task's examples, which can be read more than once.

    Attributes:
      task: has the text, `task.examples(split)`.
      split: which split is read.
      max_examples: most examples that are read; None reads all.
    """

    task: TextSource
    split: str = "train"
    max_examples: int | None = None

    def __iter__(self) -> Iterator[str]:
        for i, example in enumerate(self.task.examples(self.split)):
            if self.max_examples is not None and i >= self.max_examples:
                return
            names = self.task.output_features
            yield from (example[name] for name in names if name in example)
