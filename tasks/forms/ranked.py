"""A query with candidates, one of which is relevant."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.errors import TaskError
from tasks.forms.form import text_of


def candidate_features(count: int) -> tuple[str, ...]:
    """The names of the candidates' features, `inputs_1`, `inputs_2` and so on."""
    return tuple(f"inputs_{i + 1}" for i in range(count))


@dataclasses.dataclass(frozen=True)
class Ranked:
    """The query as `inputs`, the candidates as `inputs_1`, `inputs_2`, …, and `label`.

    Attributes:
      query: column of the query.
      candidates: columns of the candidates, two or more.
      label: column of the number of the relevant one, counted from 0.
    """

    query: str
    candidates: Sequence[str]
    label: str

    def __post_init__(self) -> None:
        if isinstance(self.candidates, str) or len(self.candidates) < 2:
            raise TaskError(
                f"Ranked.candidates is {self.candidates!r}: a list of two columns or more is "
                "needed."
            )
        # A row, and so the cache, is the same whether gin or Python has named the columns.
        object.__setattr__(self, "candidates", tuple(map(str, self.candidates)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The query, the candidates and the label."""
        return (self.query, *self.candidates, self.label)

    @property
    def features(self) -> tuple[str, ...]:
        """See the class."""
        return ("inputs", *candidate_features(len(self.candidates)))

    @property
    def kept(self) -> Mapping[str, str]:
        """The label, as a number."""
        return {"label": "integer"}

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The texts, and the label as int.

        Raises:
          TaskError: a label that is the number of no candidate.
        """
        texts = [text_of(row[name]) for name in (self.query, *self.candidates)]
        label = text_of(row[self.label]).strip()
        numbers = [str(i) for i in range(len(self.candidates))]
        if label not in numbers:
            raise TaskError(
                f"column '{self.label}' is '{label}': the number of a candidate is needed, "
                f"{', '.join(numbers)}."
            )
        return {**dict(zip(self.features, texts, strict=True)), "label": int(label)}
