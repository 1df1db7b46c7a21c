"""Dropped tokens, which are predicted without any sign of where they were."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.objective import Example, VocabularySpecs, feature_length
from tasks.objectives.special_tokens import random_places, share


@dataclasses.dataclass(frozen=True)
class DropTokens:
    """Moves random tokens from `inputs` to `targets`, both in their original order.

    T5's "drop corrupted tokens" (Raffel et al. 2020, section 3.3.2). T5 decides on each token
    independently. Here the number of dropped tokens is exact, so that rows are full, and all sets
    of places are equally likely.

    Attributes:
      noise_density: share of the tokens that are dropped.
    """

    noise_density: float = 0.15

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    document_eos: ClassVar[bool] = False

    def __post_init__(self) -> None:
        share(self.noise_density, "DropTokens.noise_density")

    def bind(self, specs: VocabularySpecs) -> "DropTokens":
        """Returns itself: nothing depends on the vocabulary."""
        return self

    def dropped(self, length: int) -> int:
        """The number of dropped tokens; of two tokens or more at least one, but not all."""
        return min(max(round(length * self.noise_density), 1), length - 1) if length > 1 else 0

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """The length of the longest text whose kept tokens fit `inputs`, checked with `targets`.

        Raises:
          TaskError: `inputs` or `targets` are too short.
        """
        inputs = feature_length(task_feature_lengths, "inputs")
        targets = feature_length(task_feature_lengths, "targets")
        # A longer text never keeps fewer tokens, so the search ends at the first that does not fit.
        length = 2
        while length + 1 - self.dropped(length + 1) + 1 <= inputs:
            length += 1
        if targets < self.dropped(length) + 1:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['targets'] is {targets}: dropping tokens to {inputs} "
                f"inputs gives {self.dropped(length) + 1} targets."
            )
        return length

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Splits `targets` int32 `[t]` into `inputs` and `targets`, int32, `t` tokens together."""
        tokens = np.asarray(example["targets"], np.int32)
        in_targets = np.zeros(tokens.size, np.bool_)
        in_targets[random_places(tokens.size, self.dropped(tokens.size), rng)] = True
        return drop(tokens, in_targets)


def drop(tokens: np.ndarray, dropped: np.ndarray) -> Example:
    """The example whose targets are the tokens where `dropped`, bool `[t]`, is true."""
    return {"inputs": tokens[~dropped], "targets": tokens[dropped]}
