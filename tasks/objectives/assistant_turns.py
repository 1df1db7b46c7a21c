"""Conversations, of which the replies are learned."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.objective import BoundObjective, Example, VocabularySpecs


@dataclasses.dataclass(frozen=True)
class AssistantTurns:
    """The tokens of a conversation's replies, each with its end; what is between them is read.

    A reply ends with EOS. Behind the last one EOS stands; behind an earlier one the text goes on,
    as it does in a prompt, and EOS is only what is to be predicted there. So what a model reads is
    the same in training and where it is asked, and it learns to stop after every reply.
    """

    output_features: ClassVar[tuple[str, ...]] = ("targets",)
    adds_eos: ClassVar[bool] = False
    writes: ClassVar[tuple[str, ...]] = ("targets", "learned_targets", "learned")
    keeps_texts: ClassVar[bool] = True

    def bind(self, specs: VocabularySpecs) -> BoundObjective:
        """With the end token of the vocabulary of `targets`."""
        return BoundAssistantTurns(specs["targets"]["eos_id"])


@dataclasses.dataclass(frozen=True)
class BoundAssistantTurns:
    """Conversations with ids; made by `AssistantTurns.bind`.

    Attributes:
      eos_id: ends a reply.
    """

    eos_id: int

    reads: ClassVar[tuple[str, ...]] = ("targets", "targets_sizes")
    writes: ClassVar[tuple[str, ...]] = AssistantTurns.writes
    document_eos: ClassVar[bool] = False
    keeps_texts: ClassVar[bool] = True

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> None:
        """Conversations stay whole."""

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Which tokens are learned.

        Args:
          example: `targets`, the ids of all pieces, int `[t]`, context and reply by turns, and
            `targets_sizes`, how many of them each piece has.
          rng: nothing is drawn.

        Returns:
          `targets`, int32 `[t]` or, where the last reply has no end token of its own, `[t + 1]`;
          as long as these `learned_targets`, what is to be predicted, and `learned`, 1 in
          replies and at their ends.

        Raises:
          TaskError: the pieces are more or fewer tokens than there are.
        """
        read, sizes = np.asarray(example["targets"], np.int32), example["targets_sizes"]
        if sizes.sum() != read.size:
            raise TaskError(
                "a conversation cannot be split: only whole ones say what is a reply; use TrimLong."
            )
        weights = np.repeat(np.arange(sizes.size, dtype=np.int32) % 2, sizes)
        if read.size and read[-1] != self.eos_id:
            read, weights = np.append(read, np.int32(self.eos_id)), np.append(weights, np.int32(1))
        learned = read.copy()
        for end in np.cumsum(sizes)[1:-1:2].tolist():
            # A template's own end mark may be the end token.
            if read[end - 1] != self.eos_id and weights[end] == 0:
                learned[end], weights[end] = self.eos_id, 1
        return {"targets": read, "learned_targets": learned, "learned": weights}
