"""Prompts that a model is to answer: with examples in front, read as a text or as inputs."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from t5x_like.data import DatasetConfig
from t5x_like.decoding import TextCodec
from t5x_like.decoding.generate import room_after
from t5x_like.decoding.options import Cut, Reading
from t5x_like.evaluation.prompts.shots import INPUTS, TARGETS, Prompts, Shots, text_of
from t5x_like.protocols import Decodes, longest_row


@dataclasses.dataclass(frozen=True)
class TextPrompts:
    """The prompts of a split's examples.

    Attributes:
      codec: how they are read.
      texts: of each, with what stands before it.
      tokens: of each.
      shots: how many examples they have.
      cut: what became of prompts that a model has no room for.
    """

    codec: TextCodec
    texts: list[str]
    tokens: list[list[int]]
    shots: Prompts
    cut: Cut


def text_prompts(
    model: Decodes,
    codec: TextCodec,
    dataset: DatasetConfig,
    examples: Sequence[Mapping[str, Any]],
    numbers: Sequence[int],
    reading: Reading,
    shots: Shots,
    longest: int,
) -> TextPrompts:
    """The prompts of examples.

    Args:
      model: that reads them.
      codec: of the task.
      dataset: the split.
      examples: with their inputs, text among them.
      numbers: of each in the split.
      reading: as `Reading.of_model` gives it: as "text" a prompt is read in one direction and has
        no end token, as "inputs" it is what a task's inputs are.
      shots: examples that stand before each.
      longest: tokens that are to be written; those of a prompt as text are as many fewer.

    Raises:
      UserError: see `Prompts.before`.
    """
    as_text = reading.contexts == "text" or codec.inputs is None
    if as_text:
        codec = dataclasses.replace(codec, inputs=None, bidirectional_prompt=False)
    whole = dataclasses.replace(codec, input_length=None)
    made = TextPrompts(codec, [], [], shots.of(dataset, (INPUTS, TARGETS)), Cut())

    def room(asked: str, before: str) -> int | None:
        """Tokens that are left after a prompt and what is written."""
        length = codec.prompt_length(before + asked)
        rooms = [] if codec.input_length is None or as_text else [codec.input_length - length]
        if longest_row(model) is not None:
            rooms.append(int(room_after(model, length, codec.start_id)) - longest)
        return min(rooms, default=None)

    for number, example in zip(numbers, examples, strict=True):
        asked = text_of(example[INPUTS])
        text = made.shots.before(number, example, functools.partial(room, asked)) + asked
        tokens = whole.encode(text)
        left = room(text, "")
        if left is not None:
            # As of a ranked context, its beginning is what is lost; what is asked ends it.
            keeps = len(tokens) + min(0, left)
            made.cut.see(len(tokens), keeps)
            tokens = tokens[len(tokens) - max(1, keeps) :]
        made.texts.append(text)
        made.tokens.append(tokens)
    return made
