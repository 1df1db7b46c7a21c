"""Prefix language modelling: the beginning is given, the rest predicted."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.objectives.objective import Example, VocabularySpecs, feature_length


@dataclasses.dataclass(frozen=True)
class PrefixLM:
    """Cuts the text at a random place: `inputs` before it, `targets` after it.

    The prefix has 1 to `t - 1` tokens, each length equally likely (Raffel et al. 2020,
    section 3.3.1).

    Attributes:
      concatenate: whether documents are concatenated and cut to fit the longer half.
    """

    concatenate: bool = True

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    document_eos: ClassVar[bool] = False

    def bind(self, specs: VocabularySpecs) -> "PrefixLM":
        """Needs nothing of the vocabulary."""
        return self

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """Either half may take nearly all the text, so the shorter feature decides."""
        if not self.concatenate:
            return None
        names = ("inputs", "targets")
        # One less for EOS, one more because the other half has at least one token.
        return min(feature_length(task_feature_lengths, name) for name in names)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """`targets` int32 `[t]` to `inputs` `[p]` and `targets` `[t - p]`."""
        tokens = example["targets"]
        length = tokens.shape[0]
        # A single token is the target of an empty prefix.
        return split(tokens, int(rng.integers(1, length)) if length > 1 else 0)


def split(tokens: np.ndarray, prefix: int) -> Example:
    """The example whose prefix has so many tokens."""
    return {"inputs": tokens[:prefix], "targets": tokens[prefix:]}
