"""A prompt: a text, or the messages of a conversation up to where the next reply begins."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.errors import TaskError
from tasks.forms.chat import ChatTemplate, plain
from tasks.forms.dialogue.conversation import messages_of
from tasks.forms.form import text_of


@dataclasses.dataclass(frozen=True)
class Prompt:
    """The prompt as `inputs`.

    Attributes:
      column: of the text, which an answer follows as it is, or of the messages.
      template: the text around messages.
    """

    column: str = "prompt"
    template: ChatTemplate = dataclasses.field(default_factory=plain)

    features: ClassVar[tuple[str, ...]] = ("inputs",)
    listed: ClassVar[Mapping[str, str]] = {}
    kept: ClassVar[Mapping[str, str]] = {}
    inputs_begin: ClassVar[str] = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The prompt."""
        return (self.column,)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The prompt."""
        return (self.column,)

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """The text of the prompt.

        Raises:
          TaskError: it has no text, its messages have a role that the template lacks, or the
            column holds neither text nor messages.
        """
        text, _ = prompt_text(row[self.column], self.column, self.template)
        if not text.strip():
            raise TaskError(f"column '{self.column}': a prompt has no text.")
        return text

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The prompt; see `inputs_of`."""
        return {"inputs": self.inputs_of(row)}


def prompt_text(value: Any, column: str, template: ChatTemplate) -> tuple[str, bool]:
    """The text of a prompt, and whether it was a conversation.

    Args:
      value: a text, or messages: a list of objects, or the same as JSON.
      column: where it stands.
      template: the text around messages.
    """
    if isinstance(value, str | bytes):
        text = text_of(value)
        # JSON of objects; whatever else begins with brackets is text.
        if not text.startswith('[{"'):
            return text, False
    return template.prompt(messages_of(value, column)), True
