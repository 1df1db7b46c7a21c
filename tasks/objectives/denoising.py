"""Denoising: a corrupted text is read, the original is written."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.corruptions import BoundCorruption, Corruption, TokenMasking
from tasks.objectives.objective import Example, VocabularySpecs, feature_length


@dataclasses.dataclass(frozen=True)
class Denoising:
    """The text, corrupted in one or several ways, as `inputs`; as it was, as `targets`.

    BART (Lewis et al. 2020, section 5.1) is `(SentencePermutation(), TextInfilling())`, which
    permutes first so that masks are not taken for parts of sentences; T5's BERT-style,
    MASS-style and deshuffling objectives (Raffel et al. 2020, table 3) are `TokenMasking` and
    `Deshuffling` alone.

    Attributes:
      corruptions: done one after another.
      concatenate: whether documents are concatenated and cut to fit.
    """

    corruptions: tuple[Corruption, ...] = (TokenMasking(mask_share=0.9, random_share=0.1),)
    concatenate: bool = True

    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")

    def __post_init__(self) -> None:
        if not self.corruptions:
            raise TaskError("Denoising.corruptions is empty: one or more is needed.")
        # gin hands lists over where a file says so.
        object.__setattr__(self, "corruptions", tuple(self.corruptions))

    def bind(self, specs: VocabularySpecs) -> "Denoiser":
        """With the ids of the vocabulary of `targets`.

        Raises:
          TaskError: it lacks what a corruption needs.
        """
        bound = tuple(corruption.bind(specs["targets"]) for corruption in self.corruptions)
        return Denoiser(bound, self.concatenate)


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """Denoising with ids; made by `Denoising.bind`.

    Attributes:
      corruptions: done one after another.
      concatenate: whether documents are concatenated and cut to fit.
    """

    corruptions: tuple[BoundCorruption, ...]
    concatenate: bool

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    document_eos: ClassVar[bool] = False

    def inputs_length(self, length: int) -> int:
        """Tokens of `inputs`, EOS counted, for `length` tokens of text."""
        for corruption in self.corruptions:
            length = corruption.result_length(length)
        return length + 1

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """The longest text that fits `targets` with EOS, and corrupted fits `inputs`."""
        if not self.concatenate:
            return None
        inputs = feature_length(task_feature_lengths, "inputs")
        length = feature_length(task_feature_lengths, "targets") - 1
        while length > 1 and self.inputs_length(length) > inputs:
            length -= 1
        return length

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """`targets` int32 `[t]` to the same `targets`, and `inputs`."""
        tokens = np.asarray(example["targets"], np.int32)
        corrupted = tokens
        for corruption in self.corruptions:
            corrupted = corruption(corrupted, rng)
        return {"inputs": corrupted, "targets": tokens}
