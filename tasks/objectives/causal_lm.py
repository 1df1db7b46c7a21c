"""Causal language modelling: every token predicted from those before it."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.objectives.objective import Example, VocabularySpecs, feature_length


@dataclasses.dataclass(frozen=True)
class CausalLM:
    """The text as it is, as `targets`.

    Attributes:
      concatenate: whether EOS joins documents into one stream that is cut into rows of
        exactly `targets` tokens, so that nothing is padded or lost, as GPT-2 (Radford
        et al. 2019) and T5's `full_lm` train. Without it a row is the beginning of one
        document.
    """

    concatenate: bool = True

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = ("targets",)

    @property
    def document_eos(self) -> bool:
        """EOS stands between the documents of a stream."""
        return self.concatenate

    def bind(self, specs: VocabularySpecs) -> "CausalLM":
        """Needs nothing of the vocabulary."""
        return self

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """The whole row."""
        return feature_length(task_feature_lengths, "targets") if self.concatenate else None

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """`targets` int32 `[t]`, unchanged."""
        return {"targets": example["targets"]}
