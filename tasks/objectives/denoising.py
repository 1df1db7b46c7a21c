"""Denoising: the original text is predicted from a corrupted one."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.corruptions import BoundCorruption, Corruption, TokenMasking
from tasks.objectives.objective import Example, VocabularySpecs, feature_length


@dataclasses.dataclass(frozen=True)
class Denoising:
    """A text with one or several corruptions as `inputs`, and the original as `targets`.

    BART's objective (Lewis et al. 2020, section 5.1) is
    `(SentencePermutation(), TextInfilling())`, which permutes the sentences of the original,
    before spans are masked. T5's BERT-style, MASS-style and deshuffling objectives (Raffel et
    al. 2020, table 3) are `TokenMasking` or `Deshuffling`.

    Attributes:
      corruptions: applied one after another.
      concatenate: whether documents are concatenated and cut to fit.
    """

    corruptions: tuple[Corruption, ...] = (TokenMasking(mask_share=0.9, random_share=0.1),)
    concatenate: bool = True

    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")

    def __post_init__(self) -> None:
        if not self.corruptions:
            raise TaskError("Denoising.corruptions is empty: at least one is needed.")
        # gin passes a list where a file has one.
        object.__setattr__(self, "corruptions", tuple(self.corruptions))

    def bind(self, specs: VocabularySpecs) -> "Denoiser":
        """The objective with the ids of the vocabulary of `targets`.

        Raises:
          TaskError: a corruption needs a token that it does not have.
        """
        bound = tuple(corruption.bind(specs["targets"]) for corruption in self.corruptions)
        return Denoiser(bound, self.concatenate)


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """Denoising with the ids of a vocabulary, made by `Denoising.bind`.

    Attributes:
      corruptions: applied one after another.
      concatenate: whether documents are concatenated and cut to fit.
    """

    corruptions: tuple[BoundCorruption, ...]
    concatenate: bool

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    document_eos: ClassVar[bool] = False

    def inputs_length(self, length: int) -> int:
        """The length of `inputs`, with EOS, for `length` tokens of text."""
        for corruption in self.corruptions:
            length = corruption.result_length(length)
        return length + 1

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """`text_length`, where documents are concatenated."""
        return self.text_length(task_feature_lengths) if self.concatenate else None

    def text_length(self, task_feature_lengths: Mapping[str, int]) -> int:
        """The length of the longest text that fits `targets`, and corrupted `inputs`, with EOS."""
        inputs = feature_length(task_feature_lengths, "inputs")
        length = feature_length(task_feature_lengths, "targets") - 1
        while length > 1 and self.inputs_length(length) > inputs:
            length -= 1
        return length

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Corrupts `targets` int32 `[t]` into `inputs` and gives both."""
        tokens = np.asarray(example["targets"], np.int32)
        corrupted = tokens
        for corruption in self.corruptions:
            corrupted = corruption(corrupted, rng)
        return {"inputs": corrupted, "targets": tokens}
