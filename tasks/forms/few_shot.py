"""How worked examples stand before what a model is asked."""

import dataclasses
from typing import Literal

from tasks.errors import TaskError


@dataclasses.dataclass(frozen=True)
class FewShot:
    """The text of a prompt with examples: plain text, for models that continue it.

    A prompt is the description, each example and then what is asked, with the separator between
    them (Brown et al. 2020, section 2.4). How many examples, and with which seed they are drawn, is
    said where a model is measured: `evaluation.Shots`. Nothing of this decides a task's cache.

    Attributes:
      separator: between two examples, after the description, and before what is asked.
      description: stands in front; `{group}` is the row's group, such as MMLU's subject, with
        spaces for underscores; "" for none.
      delimiter: between the inputs and the targets of an example, where a task has no options.
      examples: whole texts, always the same, in this order; none where they are drawn.
      split: of which examples are drawn. An example is never drawn for itself.
      order: "drawn" at random for each row, or the "first" of the split, of the row's group where
        rows have groups.
      stop: texts that end an answer which a model writes.
    """

    separator: str = "\n\n"
    description: str = ""
    delimiter: str = " "
    examples: tuple[str, ...] = ()
    split: str = "train"
    order: Literal["drawn", "first"] = "drawn"
    stop: tuple[str, ...] = ("\n",)

    def __post_init__(self) -> None:
        if self.order not in ("drawn", "first"):
            raise TaskError(f"FewShot.order is {self.order!r}: 'drawn' or 'first'.")
        for name in ("examples", "stop"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise TaskError(f"FewShot.{name} is one text, {value[:40]!r}: a list is needed.")
            object.__setattr__(self, name, tuple(value))
        for number, example in enumerate(self.examples, start=1):
            if not example.strip():
                raise TaskError(f"FewShot.examples: example {number} has no text.")
