"""A context and options that may follow it, one of which is right."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tasks.errors import TaskError
from tasks.forms.form import text_of, texts_of
from tasks.forms.template import Template


@dataclasses.dataclass(frozen=True)
class Options:
    """Options to be ranked by their likelihood after a context.

    For ranking, `contexts`, `continuations` and `label` are kept: one context and as many
    continuations as options, each with the delimiter before it. Where the options fill a blank, it
    is the other way round: the text up to the blank with each option is a context, and what follows
    the blank is the one continuation (Trinh and Le 2018, section 3.1, who call its likelihood the
    partial score). For training, `inputs` and `targets` are the context and the right option.

    Attributes:
      context: text with columns in braces; literal braces are doubled.
      options: the column of a list of texts, or a list of columns with a text each.
      label: column of the right one.
      labels: what this column may hold, in the order of the options; None for their numbers from 0.
      label_column: column of a list with the label of each option, in place of `labels`.
      unlabelled: what stands in the column where a row has no label; None where every row has one.
      delimiter: what stands between context and option.
      blank: what the options take the place of in the context; None where they follow it.
    """

    context: str
    options: str | Sequence[str] = "options"
    label: str = "label"
    labels: Sequence[str] | None = None
    label_column: str | None = None
    unlabelled: str | None = None
    delimiter: str = " "
    blank: str | None = None

    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {
        "contexts": "texts", "continuations": "texts", "label": "integer"
    }  # fmt: skip

    def __post_init__(self) -> None:
        if not isinstance(self.options, str) and len(self.options) < 2:
            raise TaskError(
                f"Options.options is {list(self.options)}: the column of a list is needed, or two "
                "columns or more."
            )
        if self.labels is not None and self.label_column is not None:
            raise TaskError("Options has labels and label_column: give one of them.")
        # A row, and so the cache, is the same whether gin or Python has named the columns.
        for name in ("options", "labels"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                object.__setattr__(self, name, tuple(map(str, value)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the context, the options and the label."""
        options = (self.options,) if isinstance(self.options, str) else tuple(self.options)
        last = () if self.label_column is None else (self.label_column,)
        return tuple(dict.fromkeys([*self._template.columns, *options, self.label, *last]))

    @property
    def _template(self) -> Template:
        return Template(self.context, "")

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs and targets, and what is kept; the label is -1 where the row has none.

        Raises:
          TaskError: fewer than two options, one without text, a label of no option, or a context
            without its blank.
        """
        context = self._template.inputs_of(row)
        options = self._options(row)
        label = self._label(row, len(options))
        if self.blank is None:
            contexts = [context]
            continuations = [self.delimiter + option for option in options]
            inputs, target = context, options[max(label, 0)]
        else:
            before, found, after = context.partition(self.blank)
            if not found or not after.strip():
                raise TaskError(
                    f"the context '{_begin(context)}' has no blank '{self.blank}' with text after "
                    "it, which is what is scored."
                )
            contexts = [before + option for option in options]
            continuations = [after.rstrip()]
            inputs, target = contexts[max(label, 0)], after.strip()
        return {
            "inputs": inputs,
            "targets": target,
            "contexts": contexts,
            "continuations": continuations,
            "label": label,
        }

    def _options(self, row: Mapping[str, Any]) -> list[str]:
        if isinstance(self.options, str):
            found, where = texts_of(row[self.options], self.options), f"column '{self.options}'"
        else:
            found = [text_of(row[name]) for name in self.options]
            where = f"columns {', '.join(self.options)}"
        if len(found) < 2:
            raise TaskError(f"{where}: {len(found)} options, of which two or more are needed.")
        for number, option in enumerate(found, start=1):
            if not option.strip():
                raise TaskError(f"{where}: option {number} of {len(found)} has no text.")
        return found

    def _label(self, row: Mapping[str, Any], count: int) -> int:
        text = text_of(row[self.label]).strip()
        if self.label_column is not None:
            names = texts_of(row[self.label_column], self.label_column)
        else:
            names = list(map(str, range(count)) if self.labels is None else self.labels)
        if text in names[:count]:
            return names.index(text)
        if text == self.unlabelled:
            return -1
        raise TaskError(
            f"column '{self.label}' is '{text}', which is none of the {count} options' labels: "
            f"they are {', '.join(names[:count])}."
        )


def _begin(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
