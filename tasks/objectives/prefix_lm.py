"""Prefix language modelling: the rest of a text is predicted from its beginning."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.objectives.objective import Example, VocabularySpecs, feature_length


@dataclasses.dataclass(frozen=True)
class PrefixLM:
    """Splits the text at a random place into `inputs` and `targets`.

    The prefix has 1 to `t - 1` tokens, each length equally likely (Raffel et al. 2020,
    section 3.3.1).

    Attributes:
      concatenate: whether documents are concatenated and cut to the longest text that fits.
    """

    concatenate: bool = True

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    document_eos: ClassVar[bool] = False

    def bind(self, specs: VocabularySpecs) -> "PrefixLM":
        """Returns itself: nothing depends on the vocabulary."""
        return self

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """The length of the shorter feature, as either part may be nearly all of the text."""
        if not self.concatenate:
            return None
        names = ("inputs", "targets")
        # One token less for EOS, one more because the other part has at least one.
        return min(feature_length(task_feature_lengths, name) for name in names)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Splits `targets` int32 `[t]` into `inputs` `[p]` and `targets` `[t - p]`."""
        tokens = example["targets"]
        length = tokens.shape[0]
        # A single token is the target of an empty prefix.
        return split(tokens, int(rng.integers(1, length)) if length > 1 else 0)


def split(tokens: np.ndarray, prefix: int) -> Example:
    """The example of a text `[t]` whose prefix has `prefix` tokens."""
    return {"inputs": tokens[:prefix], "targets": tokens[prefix:]}
