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
        options, where = self._options(row)
        _check(options, where)
        label = self._label(row, len(options))
        if self.blank is None:
            return ranked_question([context], options, label, self.delimiter, where)
        before, found, after = context.partition(self.blank)
        if not found or not after.strip():
            raise TaskError(
                f"the context '{_begin(context)}' has no blank '{self.blank}' with text after "
                "it, which is what is scored."
            )
        filled = [before + option for option in options]
        return ranked_question(filled, [after.rstrip()], label, "", where)

    def _options(self, row: Mapping[str, Any]) -> tuple[list[str], str]:
        if isinstance(self.options, str):
            return texts_of(row[self.options], self.options), f"column '{self.options}'"
        found = [text_of(row[name]) for name in self.options]
        return found, f"columns {', '.join(self.options)}"

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


def ranked_question(
    contexts: Sequence[str], continuations: Sequence[str], label: int, delimiter: str, where: str
) -> dict[str, Any]:
    """What `Options` writes of a row, of one context with options or of contexts for one text.

    Args:
      contexts: one, or as many as options.
      continuations: as many as options, or one.
      label: the number of the right option; -1 where there is none.
      delimiter: between context and continuation.
      where: the options are, for errors.

    Raises:
      TaskError: fewer than two options, one without text, or a label of none.
    """
    for texts in (contexts, continuations):
        if len(texts) > 1:
            _check(texts, where)
    count = max(len(contexts), len(continuations))
    if count < 2 or label >= count:
        raise TaskError(f"{where}: {count} options, and the label {label}.")
    right = max(label, 0)
    return {
        "inputs": contexts[right if len(contexts) > 1 else 0],
        "targets": continuations[right if len(continuations) > 1 else 0].strip(),
        "contexts": list(contexts),
        "continuations": [delimiter + text for text in continuations],
        "label": label,
    }


def _check(options: Sequence[str], where: str) -> None:
    if len(options) < 2:
        raise TaskError(f"{where}: {len(options)} options, of which two or more are needed.")
    for number, option in enumerate(options, start=1):
        if not option.strip():
            raise TaskError(f"{where}: option {number} of {len(options)} has no text.")


def _begin(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
