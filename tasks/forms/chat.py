"""How the messages of a conversation become one text: templates of chat models."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tasks.errors import TaskError

_CONTENT = "{content}"


class Message(NamedTuple):
    """One message of a conversation.

    Attributes:
      role: who speaks.
      content: what is said.
    """

    role: str
    content: str


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    """The text around the messages of each role.

    A space before a reply belongs to it, since subword vocabularies write one with the word behind
    it; white space at the end of its text belongs to what follows. So a reply is learned from its
    first word to its end mark, and a prompt ends where a model writes on.

    Attributes:
      roles: for each role the text of a message, with `{content}` where its content stands.
      reply: the role that is learned.
      begin: what a conversation begins with.
      between: what stands between a reply and the message after it.
      system: the text, with `{content}`, by which a first message of the role `system` becomes the
        beginning of the message after it; None where `roles` has its text.
      strips: whether white space around contents is left out.
    """

    roles: Mapping[str, str]
    reply: str = "assistant"
    begin: str = ""
    between: str = ""
    system: str | None = None
    strips: bool = False

    def __post_init__(self) -> None:
        if self.reply not in self.roles:
            raise TaskError(
                f"ChatTemplate.roles has {', '.join(self.roles) or 'no role'}, and lacks "
                f"'{self.reply}', the role that is learned."
            )
        own = {} if self.system is None else {"system": self.system}
        for role, text in {**self.roles, **own}.items():
            if text.count(_CONTENT) != 1:
                raise TaskError(
                    f"ChatTemplate: the text of the role '{role}', {text!r}, needs {_CONTENT} "
                    "once, where a message's content stands."
                )
        if not self._reply_text[0]:
            raise TaskError(
                f"ChatTemplate: the text of the role '{self.reply}' needs something before "
                f"{_CONTENT}, by which a model knows that it is to reply."
            )

    @property
    def _reply_text(self) -> tuple[str, str]:
        """What stands before the content of a reply, and after it."""
        before, _, after = self.roles[self.reply].partition(_CONTENT)
        return before, after

    def pieces(self, messages: Sequence[Message]) -> list[str]:
        """A conversation in pieces that are context and reply by turns; the last is a reply.

        Messages after the last reply are left out: nothing is learned of them.

        Raises:
          TaskError: no reply, one without text, or a role that the template has not.
        """
        before, after = self._reply_text
        rest = after[len(after.rstrip()) :]
        pieces: list[str] = []
        context = self.begin
        for message in self._ordered(messages):
            if message.role != self.reply:
                context += self._text(message)
                continue
            if not message.content.strip():
                raise TaskError(
                    f"a conversation has a reply of '{self.reply}' without text: "
                    f"{_begin(messages)}."
                )
            pieces += [context + before.rstrip(" "), self.reply_of(message.content)]
            context = rest + self.between
        if not pieces:
            raise TaskError(
                f"a conversation has no message of the role '{self.reply}', and nothing can be "
                f"learned of it: {_begin(messages)}."
            )
        return pieces

    def prompt(self, messages: Sequence[Message]) -> str:
        """The text of a conversation, up to where the next reply begins.

        Raises:
          TaskError: no message, or a role that the template has not.
        """
        if not messages:
            raise TaskError("a conversation has no message that could be replied to.")
        # The content stands for the reply, and is cut off with all that belongs to it.
        return "".join(self.pieces([*messages, Message(self.reply, "?")])[:-1])

    def reply_of(self, content: str) -> str:
        """What follows a prompt: the reply, with the space before it and its end mark."""
        before, after = self._reply_text
        return before[len(before.rstrip(" ")) :] + content + after.rstrip()

    def _ordered(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as they are written: stripped, a system's as part of the next."""
        kept = [
            Message(role, content.strip() if self.strips else content) for role, content in messages
        ]
        if self.system is None or not kept or kept[0].role != "system":
            return kept
        if len(kept) < 2 or kept[1].role == self.reply:
            raise TaskError(
                "a conversation has a message of the role 'system' without one of a user after "
                f"it, of which this template makes it a part: {_begin(messages)}."
            )
        begun = self.system.replace(_CONTENT, kept[0].content) + kept[1].content
        return [Message(kept[1].role, begun), *kept[2:]]

    def _text(self, message: Message) -> str:
        if message.role not in self.roles:
            raise TaskError(
                f"a message has the role '{message.role}', for which the template has no text: it "
                f"has {', '.join(self.roles)}. Add it to ChatTemplate.roles."
            )
        before, _, after = self.roles[message.role].partition(_CONTENT)
        return before + message.content + after


def _begin(messages: Sequence[Message]) -> str:
    text = next((one.content for one in messages if one.content.strip()), "")
    return f"it begins '{text[:60].strip()}'" if text else "it has no text"


def plain() -> ChatTemplate:
    """`Human:` and `Assistant:` on lines of their own, as Bai et al. 2022 write dialogues."""
    return ChatTemplate(
        {
            "system": "{content}",
            "user": "\n\nHuman: {content}",
            "assistant": "\n\nAssistant: {content}",
        }
    )


def chatml() -> ChatTemplate:
    """OpenAI's ChatML: `<|im_start|>role`, the content, `<|im_end|>`."""
    roles = ("system", "user", "assistant", "tool")
    return ChatTemplate(
        {role: f"<|im_start|>{role}\n{_CONTENT}<|im_end|>\n" for role in roles},
    )


def llama2() -> ChatTemplate:
    """LLaMA 2's (Touvron et al. 2023b): `[INST]` around a user's message, `<<SYS>>` within it.

    The first `<s>` is what a decoder begins with, and is not written.
    """
    return ChatTemplate(
        {"user": "[INST] {content} [/INST]", "assistant": " {content} "},
        between="</s><s>",
        system="<<SYS>>\n{content}\n<</SYS>>\n\n",
        strips=True,
    )
