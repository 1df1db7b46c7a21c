"""The messages of a conversation, of which the replies are learned."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.forms.chat import ChatTemplate, Message, plain
from tasks.forms.form import text_of


@dataclasses.dataclass(frozen=True)
class Conversation:
    """A conversation as `targets`, a list of texts: context and reply by turns.

    Attributes:
      template: the text around messages.
      column: of the messages, a list of objects, which may be JSON.
      role: an object's key of who speaks.
      content: an object's key of what is said.
    """

    template: ChatTemplate = dataclasses.field(default_factory=plain)
    column: str = "messages"
    role: str = "role"
    content: str = "content"

    features: ClassVar[tuple[str, ...]] = ("targets",)
    listed: ClassVar[Mapping[str, str]] = {"targets": "texts"}
    kept: ClassVar[Mapping[str, str]] = {}
    inputs_begin: ClassVar[str] = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The messages."""
        return (self.column,)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The messages."""
        return (self.column,)

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """The text of the messages, up to where the next reply begins."""
        return self.template.prompt(self._messages(row))

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The pieces of the conversation.

        Raises:
          TaskError: no reply, one without text, a role without text in the template, or a column
            that holds no messages.
        """
        return {"targets": self.template.pieces(self._messages(row))}

    def _messages(self, row: Mapping[str, Any]) -> list[Message]:
        return messages_of(row[self.column], self.column, self.role, self.content)


def messages_of(
    value: Any, column: str, role: str = "role", content: str = "content"
) -> list[Message]:
    """The messages that a column holds: a list of objects, or the same as JSON.

    Raises:
      TaskError: it is none, or an object lacks a key or a text.
    """
    if isinstance(value, str | bytes):
        try:
            value = json.loads(text_of(value))
        except ValueError:
            value = None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise TaskError(
            f"column '{column}' is no list of messages: a list of objects with '{role}' and "
            f"'{content}' is needed."
        )
    for number, one in enumerate(value, start=1):
        for key in (role, content):
            if not isinstance(one.get(key), str):
                raise TaskError(
                    f"column '{column}', message {number}: a text '{key}' is needed, and it has "
                    f"{', '.join(map(str, one)) or 'no key'}."
                )
    return [Message(one[role], one[content]) for one in value]
