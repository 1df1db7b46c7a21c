"""A prompt and answers to it in the order of people's preference."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.forms.chat import ChatTemplate, plain
from tasks.forms.dialogue.prompt import prompt_text
from tasks.forms.form import text_of, texts_of


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The prompt as `inputs`, the answers as `answers`, a list, and `ranks`, one for each.

    A prompt is a text, which the answers follow as they are, or the messages of a conversation,
    which the template writes, with each answer as the next reply.

    Attributes:
      prompt: column of the text, or of the messages.
      completions: column of a list of texts.
      ranks: column of a list of whole numbers, the lowest of the best answer; answers of the same
        rank are not compared.
      template: the text around messages.
    """

    prompt: str = "prompt"
    completions: str = "completions"
    ranks: str = "ranks"
    template: ChatTemplate = dataclasses.field(default_factory=plain)

    features: ClassVar[tuple[str, ...]] = ("inputs", "answers")
    listed: ClassVar[Mapping[str, str]] = {"answers": "texts"}
    kept: ClassVar[Mapping[str, str]] = {"ranks": "integers"}

    @property
    def columns(self) -> tuple[str, ...]:
        """The prompt, the answers and their ranks."""
        return (self.prompt, self.completions, self.ranks)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The prompt, the answers and the ranks.

        Raises:
          TaskError: fewer than two answers, one without text, more or fewer ranks than answers, or
            ranks that are all the same.
        """
        prompt, chat = prompt_text(row[self.prompt], self.prompt, self.template)
        answers = texts_of(row[self.completions], self.completions)
        ranks = _whole_numbers(row[self.ranks], self.ranks)
        if len(answers) < 2 or len(ranks) != len(answers):
            raise TaskError(
                f"a row has {len(answers)} answers in '{self.completions}' and {len(ranks)} ranks "
                f"in '{self.ranks}': two answers or more are needed, and as many ranks."
            )
        if len(set(ranks)) == 1:
            raise TaskError(
                f"column '{self.ranks}' has the rank {ranks[0]} for every answer, so that no two "
                f"of them are compared: leave the row out ('{prompt[-40:].strip()}')."
            )
        for number, answer in enumerate(answers, start=1):
            if not answer.strip():
                raise TaskError(
                    f"column '{self.completions}': answer {number} of {len(answers)} has no text "
                    f"('{prompt[-40:].strip()}')."
                )
        if chat:
            answers = [self.template.reply_of(answer) for answer in answers]
        return {"inputs": prompt, "answers": answers, "ranks": ranks}


def _whole_numbers(value: Any, column: str) -> list[int]:
    if isinstance(value, str | bytes):
        try:
            value = json.loads(text_of(value))
        except ValueError:
            value = None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list) or not all(type(one) is int for one in value):
        raise TaskError(f"column '{column}' is no list of whole numbers.")
    return value
