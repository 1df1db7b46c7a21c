"""What a measurement is: asked of a model on one task's split, it gives values and predictions."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax

from t5x_like.data import DatasetConfig
from t5x_like.host.journal import NO_JOURNAL, Journal
from t5x_like.host.progress import ProgressBar
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

    @property
    def label(self) -> str:
        """The task and its split, for a person."""
        return f"{self.dataset.task.name} {self.dataset.split}"

    def bar(self, total: int, unit: str = "", *, summary: bool = True) -> ProgressBar:
        """How far a measurement is, on standard error of the first process; see `ProgressBar`."""
        return ProgressBar(
            total,
            label=self.label,
            unit=unit,
            stream=sys.stderr,
            shown=jax.process_index() == 0,
            summary=summary,
        )

    @contextlib.contextmanager
    def bar_of_batches(self, rows: int, batches: int) -> Iterator[Callable[[int], None]]:
        """The same of rows that come in batches; gives what is called with those just done.

        The values that follow say how many rows there were, so that no line at the end does.

        Args:
          rows: in all.
          batches: that they come in.
        """
        done = 0
        with self.bar(rows, "rows", summary=False) as bar:

            def add(count: int) -> None:
                nonlocal done
                done += count
                bar.update(rows * done // batches)

            yield add


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
      file_part: what stands before the measurement's name in the name of its file, such as
        `5_shots`; records of evaluations with another one stand beside this one's.
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
