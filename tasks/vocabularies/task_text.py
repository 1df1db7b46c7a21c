"""The text of a task that a vocabulary is trained on."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from tasks.vocabularies.listed_texts import WORDS


class TextSource(Protocol):
    """What a vocabulary needs of a task or mixture."""

    @property
    def tasks(self) -> Sequence[tuple[Any, float]]:
        """The tasks with their rates."""


class _Texts(Protocol):
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
      task: has the text, `task.examples(split)`; of a mixture all tasks do, one after the other,
        whatever their rates.
      split: which split is read.
      max_examples: most examples that are read of each task; None reads all.
    """

    task: TextSource
    split: str = "train"
    max_examples: int | None = None

    def __iter__(self) -> Iterator[str]:
        for task, _ in self.task.tasks:
            yield from self._of(task)

    def _of(self, task: _Texts) -> Iterator[str]:
        for example in itertools.islice(task.examples(self.split), self.max_examples):
            for name in task.cached_features:
                text = example.get(name, ())
                if isinstance(text, str):
                    yield text
                elif task.listed.get(name) == WORDS:
                    yield " ".join(text)
                else:
                    yield from text
