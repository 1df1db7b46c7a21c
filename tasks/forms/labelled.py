"""A text or a pair of texts with a label or a number."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.errors import TaskError
from tasks.forms.form import check_names, text_of

# Between the two texts of a pair where they are written as one line.
SEPARATOR = "\t"


@dataclasses.dataclass(frozen=True)
class Labelled:
    """The texts as `inputs` and `inputs_pair`, and `label`: the number of a class, or a number.

    Attributes:
      texts: one column, or the two of a pair.
      label: column of the label.
      labels: what it may be; its place in this list is the class. None for numbers, as in
        regression.
      names: how the classes are called, in the same order; empty takes `labels`.
      unlabelled: what stands in the column where a row has no label, as in test sets; None where
        every row has one.
    """

    texts: Sequence[str]
    label: str = "label"
    labels: Sequence[str] | None = None
    names: Sequence[str] = dataclasses.field(default=(), repr=False)  # changes no row
    unlabelled: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.texts, str) or len(self.texts) not in (1, 2):
            raise TaskError(
                f"Labelled.texts is {self.texts!r}: a list of one column, or of two for pairs, is "
                "needed."
            )
        check_names(self)
        # A row, and so the cache, is the same whether gin or Python has named the columns.
        for name in ("texts", "labels"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(map(str, value)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The texts and the label."""
        return (*self.texts, self.label)

    @property
    def features(self) -> tuple[str, ...]:
        """`inputs`, and of pairs `inputs_pair`."""
        return ("inputs", "inputs_pair")[: len(self.texts)]

    @property
    def kept(self) -> Mapping[str, str]:
        """The label, as a number."""
        return {"label": "number" if self.labels is None else "integer"}

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the classes; nothing for numbers."""
        return tuple(map(str, self.names or self.labels or ()))

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The texts."""
        return tuple(self.texts)

    @property
    def inputs_begin(self) -> str:
        """Nothing: a row begins with the first text."""
        return ""

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """The text, or both with a tab between them."""
        return SEPARATOR.join(text_of(row[name]).replace(SEPARATOR, " ") for name in self.texts)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The texts, and the label as int or float; -1 or NaN where the row has none.

        Raises:
          TaskError: a label that is none of `labels`, or no number.
        """
        found: dict[str, Any] = {
            feature: text_of(row[name])
            for feature, name in zip(self.features, self.texts, strict=True)
        }
        return {**found, "label": self._label(text_of(row[self.label]).strip())}

    def _label(self, text: str) -> int | float:
        if self.labels is not None:
            if text in self.labels:
                return self.labels.index(text)
            if text == self.unlabelled:
                return -1
            raise TaskError(
                f"column '{self.label}' is '{text}', which is none of the labels: they are "
                f"{', '.join(self.labels)}."
            )
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise TaskError(f"column '{self.label}' is '{text}': a number is needed.")
        if self.unlabelled is not None and value == float(self.unlabelled):
            return math.nan
        return value
