"""What a batch format is, and the formats by name.

A batch format joins a task's features to a model's batch. A model names the one that it takes
(`Model.batch_format`); the engine asks it for everything that depends on the shape of a batch.
A module of one's own may call `register`; a gin file that imports the module then knows it.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from t5x_like.data.formats.prompts import PromptFormat
from t5x_like.data.formats.rows import Item, ModelBatch, Row
from t5x_like.errors import UserError


@dataclasses.dataclass(frozen=True)
class TaskFacts:
    """What a format must know of a task.

    Attributes:
      features: its output features.
      example_features: what every example has, with weights and labels; None for `features`.
      zero_is_token: whether id 0 is a token of the vocabulary like any other, so that only
        lengths tell tokens from padding.
      positioned: features that come with `NAME_positions`.
      start_id: what a decoder reads first, in every row and every segment of it.
    """

    features: tuple[str, ...]
    example_features: tuple[str, ...] | None = None
    zero_is_token: bool = False
    positioned: tuple[str, ...] = ()
    start_id: int = 0


class BoundFormat(Protocol):
    """A format for one task's features."""

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """Length of each part of a row, for these lengths of the task's features."""

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """The parts of one example, trimmed to the task's lengths and with EOS."""

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """Lays rows out.

        Args:
          rows: the items of each row; without `pack`, one or none.
          lengths: of the task's features.
          pack: whether to add segment ids and positions.

        Returns:
          For each of the model's features an array whose first axis is the rows. A row without
          an item has weights 0: it fills the last batch of a split up.
        """


class BatchFormat(Protocol):
    """How a kind of model is given a task's features.

    Attributes:
      task_features: output features that a task must have.
      reads: what examples must have, of features, weights and labels.
      may_read: what is read as well where examples have it; anything else is refused.
      packs: whether a row may hold several examples.
      contiguous: whether each row continues the same row of the batch before, so that a state
        can be carried on.
      prompts: how prompts are laid out for generation and scoring; None where a model of this
        format writes no text.

    One whose rows are pieces of a text may have `of_texts`, the name of the format that a text at
    hand has in its place, which is whole.
    """

    @property
    def task_features(self) -> tuple[str, ...]:
        """See above."""

    @property
    def reads(self) -> tuple[str, ...]:
        """See above."""

    @property
    def may_read(self) -> tuple[str, ...]:
        """See above."""

    @property
    def packs(self) -> bool:
        """See above."""

    @property
    def contiguous(self) -> bool:
        """See above."""

    @property
    def prompts(self) -> PromptFormat | None:
        """See above."""

    def bind(self, facts: TaskFacts) -> BoundFormat:
        """The format for a task that has `task_features`."""


@dataclasses.dataclass(frozen=True)
class DerivedFormat(abc.ABC):
    """A format that gives an encoder's rows, one to an example, to a model of another kind.

    What a subclass does not say is as `format` has it.

    Attributes:
      format: the encoder's.
    """

    format: BatchFormat

    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[None] = None

    @property
    def task_features(self) -> tuple[str, ...]:
        """See `BatchFormat`."""
        return self.format.task_features

    @property
    def reads(self) -> tuple[str, ...]:
        """See `BatchFormat`."""
        return self.format.reads

    @property
    def may_read(self) -> tuple[str, ...]:
        """See `BatchFormat`."""
        return self.format.may_read

    @property
    def measured(self) -> Any:
        """How labels, tags or choices are read and compared; None of a format without."""
        return getattr(self.format, "measured", None)

    @property
    def extracted(self) -> Any:
        """The names by which spans are found; None of a format without."""
        return getattr(self.format, "extracted", None)

    @abc.abstractmethod
    def bind(self, facts: TaskFacts) -> BoundFormat:
        """See `BatchFormat`."""


_FORMATS: dict[str, BatchFormat] = {}


def register(name: str, batch_format: BatchFormat) -> None:
    """Makes a format known under the name that models give.

    Raises:
      UserError: another format has this name.
    """
    if _FORMATS.setdefault(name, batch_format) != batch_format:
        raise UserError(f"batch format {name!r} is registered already: choose another name.")


def find(name: str) -> BatchFormat:
    """The format of this name.

    Raises:
      UserError: there is none.
    """
    if name not in _FORMATS:
        raise UserError(
            f"no batch format {name!r}: there are {', '.join(sorted(_FORMATS))}."
            " A module that registers another is imported by a gin "
            "file or by --module_import."
        )
    return _FORMATS[name]


def names() -> tuple[str, ...]:
    """The names of all formats."""
    return tuple(sorted(_FORMATS))


def bound(name: str, facts: TaskFacts) -> BoundFormat:
    """The format of this name for a task.

    Raises:
      UserError: there is no such format, the task lacks what it reads, or has what it does not.
    """
    batch_format = find(name)
    for feature in batch_format.task_features:
        if feature not in facts.features:
            raise UserError(
                f"the model takes batches of the format {name!r}, which needs the feature "
                f"{feature!r}; the task has {', '.join(sorted(facts.features))}: choose a task "
                f"with {feature!r}, or another model."
            )
    written = facts.features if facts.example_features is None else facts.example_features
    missing = [one for one in batch_format.reads if one not in written]
    unread = [one for one in written if one not in (*batch_format.reads, *batch_format.may_read)]
    if missing or unread:
        wrong = f"lack {missing[0]!r}" if missing else f"have {unread[0]!r}, which it does not read"
        raise UserError(
            f"the model takes batches of the format {name!r}, but the task's examples {wrong}: "
            f"they have {', '.join(written)}. Choose a task with an objective for this kind of "
            "model, or another model."
        )
    return batch_format.bind(facts)


def example_batch(
    name: str,
    lengths: Mapping[str, int],
    rows: int,
    *,
    pack: bool = False,
    facts: TaskFacts | None = None,
) -> ModelBatch:
    """A batch of empty rows: the names, dtypes and shapes of all that a model is given.

    Args:
      name: of the format.
      lengths: of the task's features.
      rows: how many.
      pack: whether rows are packed.
      facts: of the task; one that has the features of `lengths` when None.

    Raises:
      UserError: as `bound`, or a length is missing.
    """
    if facts is None:
        reads = find(name).reads
        facts = TaskFacts(tuple(lengths), tuple(dict.fromkeys((*lengths, *reads))))
    batch_format = bound(name, facts)
    if pack and not find(name).packs:
        raise UserError(f"rows of the batch format {name!r} hold one example: they are not packed.")
    for feature in find(name).task_features:
        if feature not in lengths:
            raise UserError(
                f"TASK_FEATURE_LENGTHS has {', '.join(lengths)}, but the model needs '{feature}'."
            )
    return batch_format.batch([()] * rows, lengths, pack)
