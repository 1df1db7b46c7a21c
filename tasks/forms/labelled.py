"""A text or a pair of texts with a label or a number."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.errors import TaskError
from tasks.forms.form import checked_labels, is_unlabelled, text_of

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
        # A row, and so the cache, is the same whether gin or Python has named the columns.
        object.__setattr__(self, "texts", tuple(map(str, self.texts)))
        if self.labels is not None:
            object.__setattr__(self, "labels", checked_labels(self, self.names))
        if self.label in self.texts:
            raise TaskError(
                f"Labelled.label is '{self.label}', which is one of the texts: a model would read "
                "what it is to find."
            )

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
            if is_unlabelled(self, text):
                return -1
            raise TaskError(
                f"column '{self.label}' is '{text}', which is none of the labels: they are "
                f"{', '.join(self.labels)}."
            )
        value = _number(text)
        # Files write one number in several ways.
        if is_unlabelled(self, text) or value == _number(self.unlabelled):
            return math.nan
        if not math.isfinite(value):
            raise TaskError(f"column '{self.label}' is '{text}': a number is needed.")
        return value


def _number(text: str | None) -> float:
    """NaN, which equals nothing, of what is none."""
    try:
        return math.nan if text is None else float(text)
    except ValueError:
        return math.nan
