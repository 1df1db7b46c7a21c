"""What a suite is: the rows of a paper's table."""

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from t5x_like.decoding.options import Normalization
from t5x_like.errors import UserError
from t5x_like.evaluation import Measurement, Ranking

_NAME = re.compile(r"[\w-][\w.-]*")
# The values that `evaluation.Loss` finds.
_OF_TEXTS = ("loss", "perplexity", "word_perplexity", "bits_per_byte")


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
      task: its name.
      value: the value that is compared, which says what is measured: `ranking_…` ranks options,
        `continuation_…` scores what follows, `loss`, `bits_per_byte` and the perplexities are of
        texts, and any other is a metric of generated text.
      shots: as for `evaluation.Shots`.
      split: which is measured.
      longest: most tokens of an answer that is generated.
      published: model to the number in the table, in the unit of `value`.
    """

    task: str
    value: str
    shots: int | Literal["fit"] = 0
    split: str = "validation"
    longest: int = 64
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def wrong(self) -> str:
        """What of it has another type than it must have, in one line; "" for nothing."""
        for name in ("task", "value", "split"):
            if not isinstance(getattr(self, name), str):
                return f"'{name}' is {getattr(self, name)!r}: give a name."
        if type(self.longest) is not int or self.longest < 1:
            return f"'longest' is {self.longest!r}: give a number of tokens, 1 or more."
        numbers = self.published.values() if isinstance(self.published, Mapping) else [None]
        if not all(type(number) in (int, float) for number in numbers):
            return (
                f"'published' is {self.published!r}: give a number for each model, such as "
                "{'GPT-3 175B': 81.0}."
            )
        return ""


@dataclasses.dataclass(frozen=True)
class Suite:
    """A table of a paper.

    Attributes:
      name: of the suite, and of the folder of its results.
      rows: each a `Row`, or its fields by name.
      measurements: how rows are measured; of each row's, `shots` and what options are ranked by are
        the row's.
    """

    name: str
    rows: Sequence[Row | Mapping[str, Any]]
    measurements: Sequence[Measurement]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise UserError(
                f"the suite is called {self.name!r} (SUITE_NAME): give letters, digits, '_', '-' "
                "and '.', of which a folder's name is made."
            )
        known = {field.name for field in dataclasses.fields(Row)}
        rows = []
        for number, row in enumerate(self.rows, start=1):
            if isinstance(row, Row):
                rows.append(row)
                continue
            wrong = sorted({*row} - known) or sorted({"task", "value"} - {*row})
            if wrong:
                raise UserError(
                    f"suite '{self.name}', row {number} has {', '.join(map(str, row))}: it needs "
                    f"task and value, and may have {', '.join(sorted(known))}."
                )
            rows.append(Row(**row))
        object.__setattr__(self, "rows", tuple(rows))
        self._check(rows)

    def _check(self, rows: Sequence[Row]) -> None:
        """Refuses what would be measured in vain, or otherwise than it says."""
        if not rows:
            raise UserError(f"suite '{self.name}' has no rows: bind ROWS.")
        for one in self.measurements:
            count = getattr(getattr(one, "shots", None), "count", 0)
            if count:
                raise UserError(
                    f"suite '{self.name}': SHOTS is {count!r}, but each row says how many examples "
                    "it has, as 'shots' in ROWS: leave SHOTS out."
                )
        seen: dict[tuple[object, ...], int] = {}
        for number, row in enumerate(rows, start=1):
            place = f"suite '{self.name}', row {number}"
            wrong = row.wrong
            if wrong:
                raise UserError(f"{place}: {wrong}")
            first = seen.setdefault((row.task, row.shots, row.split, row.value), number)
            if first != number:
                raise UserError(f"{place} asks for the same as row {first}: leave one of them out.")
            self.measurement(row)  # refuses a value that nothing measures

    def measurement(self, row: Row) -> Measurement:
        """What measures a row.

        Raises:
          UserError: none of the measurements does.
        """
        kind = "loss" if row.value in _OF_TEXTS else row.value.partition("_")[0]
        by_name = {one.name: one for one in self.measurements}
        found = by_name.get(kind, by_name.get("generation"))
        if found is None:
            raise UserError(
                f"suite '{self.name}': nothing measures '{row.value}' of '{row.task}'; its "
                f"measurements are {', '.join(by_name) or 'none'}."
            )
        changes: dict[str, Any] = {}
        if hasattr(found, "shots"):
            changes["shots"] = dataclasses.replace(found.shots, count=row.shots)
        by = row.value.removeprefix("ranking_accuracy_")
        if isinstance(found, Ranking) and by in typing.get_args(Normalization):
            changes["normalization"] = by
        return dataclasses.replace(found, **changes) if changes else found  # type: ignore[type-var]
