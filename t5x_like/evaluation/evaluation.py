"""What is measured of a split, and how often while a run trains."""

import dataclasses
from collections.abc import Sequence

from t5x_like.data import DatasetConfig, limit_in_rows
from t5x_like.errors import UserError
from t5x_like.evaluation.clean_parts import Overlap
from t5x_like.evaluation.measurement import Measurement
from t5x_like.evaluation.task import EVERYTHING, check_names


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Measurements of a split of a task, or of each task of a mixture, while a run trains.

    Attributes:
      dataset: the split.
      measurements: as for `evaluate.evaluate`.
      period: updates between two; None for the run's `validation_period`. There is one after the
        last update too.
      max_rows: most rows of each task, drawn evenly from the whole split; None for all.
      overlap: as for `evaluate.evaluate`.

    Raises:
      UserError: nothing to measure, two measurements of one name, or a number below 1.
    """

    dataset: DatasetConfig
    measurements: Sequence[Measurement] = EVERYTHING
    period: int | None = None
    max_rows: int | None = None
    overlap: Overlap | None = None

    def __post_init__(self) -> None:
        if not self.measurements:
            raise UserError(
                "evaluation.Evaluation.measurements is empty: list what is measured, such as "
                "[@evaluation.Ranking()]."
            )
        check_names(self.measurements)
        if self.period is not None and (not isinstance(self.period, int) or self.period < 1):
            raise UserError(
                f"evaluation.Evaluation.period is {self.period!r}: give a whole number of updates, "
                "1 or more, or None for train.validation_period."
            )
        limit_in_rows(self.max_rows, None)
