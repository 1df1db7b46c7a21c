"""Inputs and targets from two templates."""

import dataclasses
import string
from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.errors import TaskError
from tasks.forms.form import text_of

# T5's code (`glue`) writes this where a test set has no label.
_NO_LABEL = {"-1": "<unk>"}


@dataclasses.dataclass(frozen=True)
class Template:
    """Columns filled into a template of the inputs and one of the targets.

    `Template("translate English to German: {en}", "{de}")` is T5's translation (Raffel et al.
    2020, section 2.4).

    Attributes:
      inputs: text with columns in braces; literal braces are doubled.
      targets: the same for the targets.
      words: for a column, its values and the texts that replace them:
        `{"label": {"0": "unacceptable", "1": "acceptable"}}`. A label of -1, as in test
        sets, becomes `<unk>`.
    """

    inputs: str
    targets: str
    words: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        unused = set(self.words) - set(self.columns)
        if unused:
            raise TaskError(
                f"Template.words names '{min(unused)}', which neither template uses: "
                f"they use {', '.join(self.columns) or 'no column'}."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of both templates, in order.

        Raises:
          TaskError: a brace is not closed.
        """
        return tuple(dict.fromkeys([*self.input_columns, *columns_of(self.targets)]))

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The columns of the inputs' template, in order."""
        return columns_of(self.inputs)

    @property
    def inputs_begin(self) -> str:
        """The text before the first column of the inputs."""
        begin = ""
        for literal, name, _, _ in _parse(self.inputs):
            begin += literal
            if name is not None:
                break
        return begin

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """The inputs' template, filled in."""
        return fill(self.inputs, {name: self._word(name, row[name]) for name in self.input_columns})

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Both templates, filled in, as `{"inputs": text, "targets": text}`."""
        values = {column: self._word(column, row[column]) for column in self.columns}
        return {"inputs": fill(self.inputs, values), "targets": fill(self.targets, values)}

    def _word(self, column: str, value: Any) -> str:
        text = text_of(value)
        if column not in self.words:
            return text
        known = {**_NO_LABEL, **self.words[column]}
        if text not in known:
            raise TaskError(
                f"column '{column}' is '{text}', which has no word: "
                f"Template.words has {', '.join(self.words[column])}."
            )
        return known[text]


def columns_of(template: str) -> tuple[str, ...]:
    """The columns of a template, in order.

    Raises:
      TaskError: a brace is not closed, or holds more or less than a name.
    """
    try:
        parts = list(_parse(template))
    except ValueError as error:
        raise TaskError(f"template '{template}': {error}; double a literal brace.") from None
    for _, name, form, conversion in parts:
        if name == "" or form or conversion:
            written = (name or "") + (f"!{conversion}" if conversion else "")
            written += f":{form}" if form else ""
            raise TaskError(
                f"template '{template}': '{{{written}}}' is not the name of a column alone, as "
                "{text}: values go in as they are. Double a literal brace."
            )
    return tuple(dict.fromkeys(name for _, name, _, _ in parts if name is not None))


def _parse(template: str) -> Any:
    return string.Formatter().parse(template)


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its columns filled in; braces in the values have no meaning."""
    return "".join(
        literal + ("" if name is None else values[name]) for literal, name, _, _ in _parse(template)
    )
