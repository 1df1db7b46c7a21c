"""What a measurement is: asked of a model on one task's split, it gives values and predictions."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from t5x_like.data import DatasetConfig
from t5x_like.host.journal import NO_JOURNAL, Journal
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Model, Params

# Values that every measurement has: how many rows were measured, and how many the split has.
ROWS, SPLIT_ROWS = "rows", "split_rows"


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is measured: a model, and the split of one task.

    Attributes:
      model: as it is for this task.
      params: placed by `partitioner`.
      dataset: the split, of a task and not of a mixture.
      partitioner: the mesh.
      limit: the most rows, drawn evenly from the split; None for all.
      frozen: parameters of frozen models by name.
      journal: of the results of batches, some of which an interrupted evaluation may have left.
    """

    model: Model
    params: Params
    dataset: DatasetConfig
    partitioner: Partitioner
    limit: int | None = None
    frozen: Mapping[str, Params] | None = None
    journal: Journal = NO_JOURNAL


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a measurement found.

    Attributes:
      values: by name; `rows`, those measured, of `split_rows` among them.
      predictions: dataclasses, one a line of the measurement's file; empty for no file.
      settings: what decides the values beside model and rows, for the record and for a person.
      examples: the numbers in the cache of those that were measured, in the order of predictions.
      part: the values of some of them alone, by their places in `examples`; None where values
        cannot be told apart.
      file_part: what stands before the measurement's name in the name of its file.
    """

    values: Mapping[str, float]
    predictions: Sequence[Any] = ()
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    examples: Sequence[int] = ()
    part: Callable[[Sequence[int]], Mapping[str, float]] | None = None
    file_part: str = ""


class Measurement(Protocol):
    """One thing that is measured of a model on a task.

    Attributes:
      name: of it, and of its file of predictions.
    """

    @property
    def name(self) -> str:
        """See above."""

    def measure(self, subject: Subject) -> Finding | None:
        """What is found; None where the task or the model has nothing of the kind.

        Raises:
          UserError: it should have, but cannot be measured.
        """
