"""Prefix language modelling: the rest of a text is predicted from its beginning."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
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
        """`text_length`, where documents are concatenated."""
        return self.text_length(task_feature_lengths) if self.concatenate else None

    def text_length(self, task_feature_lengths: Mapping[str, int]) -> int:
        """The length of the shorter feature, as either part may be nearly all of the text."""
        names = ("inputs", "targets")
        # One token less for EOS, one more because the other part has at least one.
        return min(feature_length(task_feature_lengths, name) for name in names)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Splits `targets` int32 `[t]` into `inputs` `[p]` and `targets` `[t - p]`."""
        tokens = example["targets"]
        length = tokens.shape[0]
        # A single token is the target of an empty prefix.
        return split(tokens, int(rng.integers(1, length)) if length > 1 else 0)


@dataclasses.dataclass(frozen=True)
class FixedPrefixLM:
    """Splits each text after the same number of tokens, so that no row has padding.

    `PrefixLM` draws the place, and then an encoder-decoder's two rows, each of which must hold
    nearly all of a text, are half padding, where a decoder's one row is full: for comparisons of
    the two at equal compute.

    Attributes:
      prefix_length: tokens of `inputs`.
    """

    prefix_length: int

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    document_eos: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Checks the length.

        Raises:
          TaskError: it is below 1.
        """
        if self.prefix_length < 1:
            raise TaskError(
                f"FixedPrefixLM.prefix_length is {self.prefix_length}: 1 or more is needed."
            )

    def bind(self, specs: VocabularySpecs) -> "FixedPrefixLM":
        """Returns itself: nothing depends on the vocabulary."""
        return self

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int:
        """The length of the prefix and of the longest targets.

        Raises:
          TaskError: the prefix and EOS do not fit `inputs`.
        """
        inputs = feature_length(task_feature_lengths, "inputs")
        if inputs < self.prefix_length + 1:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['inputs'] is {inputs}: FixedPrefixLM.prefix_length "
                f"{self.prefix_length} and EOS need {self.prefix_length + 1}."
            )
        return self.prefix_length + feature_length(task_feature_lengths, "targets") - 1

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Splits `targets` int32 `[t]` into `inputs` and `targets`, the last text earlier."""
        tokens = example["targets"]
        # The rest of a corpus may be shorter than a prefix; its last token is the target.
        return split(tokens, min(self.prefix_length, tokens.shape[0] - 1))


def split(tokens: np.ndarray, prefix: int) -> Example:
    """The example of a text `[t]` whose prefix has `prefix` tokens."""
    return {"inputs": tokens[:prefix], "targets": tokens[prefix:]}
