"""The interface of a form, and the form of plain text."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from tasks.errors import TaskError


class Form(Protocol):
    """A function from a row of a source to the text of the features.

    One in which features are lists of texts has `listed`: the feature to "words", the words of one
    text, or to "texts", each a text of its own. One of which objectives need to know where tokens
    stand has `located`, the names of features: of each, the characters that its tokens stand for
    are kept, `NAME_begins` and `NAME_ends`.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""

    @property
    def features(self) -> tuple[str, ...]:
        """The features that it writes as text and that are tokenized."""

    @property
    def kept(self) -> Mapping[str, str]:
        """What else it writes, for metrics and objectives.

        Name to "text", "texts" (a list), "integer", "integers" (a list) or "number" (float32).
        """

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The texts of a row, `{feature: text}`, with the values that are kept.

        Raises:
          TaskError: the form has no text for a value.
        """


@runtime_checkable
class WritesInputs(Form, Protocol):
    """A form whose inputs can be written without what is to be found: the targets."""

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The columns that the inputs are made of."""

    @property
    def inputs_begin(self) -> str:
        """What every input begins with; "" where that is a column's text."""

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """The inputs of a row that has the input columns.

        Raises:
          TaskError: the form has no text for a value.
        """


@dataclasses.dataclass(frozen=True)
class PlainText:
    """One column, unchanged, as `targets`; an objective makes more of it after the cache.

    Attributes:
      column: name of the column.
    """

    column: str = "text"

    features: ClassVar[tuple[str, ...]] = ("targets",)
    kept: ClassVar[Mapping[str, str]] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The text of the column as `{"targets": text}`."""
        return {"targets": text_of(row[self.column])}


def written(form: Form, rows: Iterable[Mapping[str, Any]], where: str) -> Iterator[dict[str, Any]]:
    """What a form writes of each row.

    Args:
      form: of a task.
      rows: of its source.
      where: they are, for errors of rows that do not know it themselves.

    Raises:
      TaskError: the form has no text for a row; the message says which row.
    """
    for number, row in enumerate(rows, start=1):
        try:
            made = form(row)
        except TaskError as error:
            raise TaskError(f"{getattr(row, 'place', f'{where}, row {number}')}: {error}") from None
        yield made


def text_of(value: Any) -> str:
    """A column's value as text: TFDS gives texts as bytes, and labels as numbers.

    Raises:
      TaskError: the value is missing: None, or a number that is NaN or infinite.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        raise TaskError(f"a row has {value} where a text or a number is needed.")
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def integer_of(row: Mapping[str, Any], column: str) -> int:
    """A column's value as a whole number.

    Raises:
      TaskError: it is none.
    """
    text = text_of(row[column])
    try:
        return int(text)
    except ValueError:
        raise TaskError(f"column '{column}' is '{text}': a whole number is needed.") from None


def texts_of(value: Any, column: str) -> list[str]:
    """A column's value as texts: TFDS gives an array, a file of JSON lines its JSON.

    Raises:
      TaskError: it is no list, or a text of it is missing.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if isinstance(value, np.ndarray):
        value = value.ravel().tolist()
    if not isinstance(value, list):
        raise TaskError(f"column '{column}' is no list of texts.")
    for number, one in enumerate(value, start=1):
        if one is None or isinstance(one, list | dict):
            raise TaskError(
                f"column '{column}', {number} of {len(value)} is {json.dumps(one)[:60]}: a text or "
                "a number is needed."
            )
    return [text_of(one) for one in value]


def checked_labels(form: Any, names: Sequence[str] = ()) -> tuple[str, ...]:
    """The `labels` of a form as texts, without the spaces around them, as a file's are read.

    Args:
      form: has a list of them.
      names: how they are called, or none.

    Raises:
      TaskError: a text in place of a list, a label that is there twice, or more or fewer names.
    """
    name = type(form).__name__
    if isinstance(form.labels, str):
        raise TaskError(
            f"{name}.labels is {form.labels!r}: a list is needed, such as {[form.labels]!r}."
        )
    labels = tuple(str(label).strip() for label in form.labels)
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise TaskError(f"{name}.labels has '{twice}' twice: each is a class of its own.")
    if names and len(names) != len(labels):
        raise TaskError(
            f"{name}.names has {len(names)} names, but there are {len(labels)} labels: give as "
            "many, in the same order."
        )
    return labels


def is_unlabelled(form: Any, text: str) -> bool:
    """Whether a text is the `unlabelled` of a form, which gin may have as a number."""
    return form.unlabelled is not None and text == str(form.unlabelled).strip()
