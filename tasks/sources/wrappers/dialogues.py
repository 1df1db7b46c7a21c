"""Dialogues written as one text, as messages; and pairs of them as a prompt with ranked answers."""

import dataclasses
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.errors import TaskError
from tasks.forms.form import text_of
from tasks.sources import source as source_lib
from tasks.sources.wrappers.wrapper import Wrapper

_LOG = logging.getLogger(__name__)
# Of Anthropic's HH-RLHF (Bai et al. 2022).
_SPEAKERS = {"\n\nHuman:": "user", "\n\nAssistant:": "assistant"}

Messages = list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Dialogues(Wrapper):
    """A text in which marks say who speaks, as `messages`.

    Rows with a message without words have nothing to learn there: they are left out, and counted.

    Attributes:
      source: its rows have the text.
      column: of the text.
      speakers: the mark before a message, and the role that speaks.
    """

    source: source_lib.Source
    column: str = "chosen"
    speakers: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(_SPEAKERS))

    @property
    def columns(self) -> tuple[str, ...]:
        """`messages`."""
        return ("messages",)

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The messages of each row, as JSON.

        Raises:
          TaskError: a text that begins with no mark.
        """
        if shards is not None and not shards:
            return
        left_out = 0
        for row in self.source.rows(split):
            messages = _messages(row, self.column, self.speakers)
            if all(one["content"] for one in messages):
                yield {"messages": json.dumps(messages)}
            else:
                left_out += 1
        _tell(split, left_out, "a message without words")


@dataclasses.dataclass(frozen=True)
class PreferredDialogues(Wrapper):
    """Two texts of one dialogue, of which one is preferred, as a prompt with ranked answers.

    `prompt` has the messages before the answers, as JSON, `completions` both answers and `ranks`
    their ranks, 0 and 1. Rows whose dialogues differ before the last message, or in which it has
    no words, compare no answers to one prompt: they are left out, and counted.

    Attributes:
      source: its rows have the texts.
      chosen: column of the preferred one.
      rejected: column of the other.
      speakers: the mark before a message, and the role that speaks.
    """

    source: source_lib.Source
    chosen: str = "chosen"
    rejected: str = "rejected"
    speakers: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(_SPEAKERS))

    @property
    def columns(self) -> tuple[str, ...]:
        """`prompt`, `completions` and `ranks`."""
        return ("prompt", "completions", "ranks")

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The prompt and both answers of each row, as JSON.

        Raises:
          TaskError: a text that begins with no mark.
        """
        if shards is not None and not shards:
            return
        left_out = 0
        for row in self.source.rows(split):
            better = _messages(row, self.chosen, self.speakers)
            worse = _messages(row, self.rejected, self.speakers)
            answers = [better[-1]["content"], worse[-1]["content"]]
            if better[:-1] == worse[:-1] and all(answers):
                found = {"prompt": better[:-1], "completions": answers, "ranks": [0, 1]}
                yield {name: json.dumps(value) for name, value in found.items()}
            else:
                left_out += 1
        _tell(split, left_out, "dialogues that differ before their last message, or without one")


def _messages(row: Mapping[str, Any], column: str, speakers: Mapping[str, str]) -> Messages:
    text = text_of(row[column])
    first, *parts = re.split(f"({'|'.join(map(re.escape, speakers))})", text)
    if first.strip() or not parts:
        marks = ", ".join(map(repr, speakers))
        raise TaskError(
            f"column '{column}' begins with {text[:40]!r}: a dialogue begins with one of {marks}."
        )
    spoken = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": speakers[mark], "content": content.strip()} for mark, content in spoken]


def _tell(split: str, left_out: int, having: str) -> None:
    if left_out:
        _LOG.warning("split '%s': %d rows left out, with %s.", split, left_out, having)
