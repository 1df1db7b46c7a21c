"""The text of a task that a vocabulary is trained on."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from tasks.vocabularies.listed_texts import WORDS


class TextSource(Protocol):
    """What a vocabulary needs of a task."""

    @property
    def cached_features(self) -> Sequence[str]:
        """The features that are text before they are tokenized."""

    @property
    def listed(self) -> Mapping[str, str]:
        """Those that are lists of texts, see `forms.Form`."""

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
            for name in self.task.cached_features:
                text = example.get(name, ())
                if isinstance(text, str):
                    yield text
                elif self.task.listed.get(name) == WORDS:
                    yield " ".join(text)
                else:
                    yield from text
