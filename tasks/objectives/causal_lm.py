"""Causal language modelling: every token predicted from those before it."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.objectives.objective import Example, VocabularySpecs, feature_length


@dataclasses.dataclass(frozen=True)
class CausalLM:
    """The text itself as `targets`.

    Attributes:
      concatenate: whether documents are joined by EOS into one stream that is cut into rows
        of exactly `targets` tokens, so that nothing is padded or lost, as for GPT-2 (Radford
        et al. 2019) and T5's `full_lm`. Otherwise a row is the beginning of one document.
    """

    concatenate: bool = True

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = ("targets",)
    targets_are_text: ClassVar[bool] = True

    @property
    def document_eos(self) -> bool:
        """Whether EOS ends each document of a stream: if documents are concatenated."""
        return self.concatenate

    def bind(self, specs: VocabularySpecs) -> "CausalLM":
        """Returns itself: nothing depends on the vocabulary."""
        return self

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """The length of `targets`, all of which is text."""
        return feature_length(task_feature_lengths, "targets") if self.concatenate else None

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Gives `targets` int32 `[t]` unchanged."""
        return {"targets": example["targets"]}
