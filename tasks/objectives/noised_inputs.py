"""Pairs of texts whose inputs are corrupted, but for what they begin with."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.corruptions import BoundCorruption, Corruption, LocalShuffling, TokenMasking
from tasks.objectives.objective import Example, VocabularySpecs


@dataclasses.dataclass(frozen=True)
class NoisedInputs:
    """Targets as they are, and inputs with one or several corruptions.

    For a denoising autoencoder of tasks whose inputs are a token that says what is to be written,
    such as a language, and the text of the targets (Lample et al. 2018, section 2.3).

    Attributes:
      corruptions: applied one after another.
      kept: how many of the first tokens of the inputs stay as they are.
    """

    corruptions: tuple[Corruption, ...] = (TokenMasking(0.1), LocalShuffling(3))
    kept: int = 1

    output_features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    keeps_texts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.corruptions:
            raise TaskError("NoisedInputs.corruptions is empty: at least one is needed.")
        if self.kept < 0:
            raise TaskError(f"NoisedInputs.kept is {self.kept}: 0 or more is needed.")
        object.__setattr__(self, "corruptions", tuple(self.corruptions))  # a list, from gin

    def bind(self, specs: VocabularySpecs) -> "BoundNoisedInputs":
        """With the ids of the vocabulary of `inputs`.

        Raises:
          TaskError: a corruption needs a token that it does not have.
        """
        bound = tuple(corruption.bind(specs["inputs"]) for corruption in self.corruptions)
        return BoundNoisedInputs(bound, self.kept)


@dataclasses.dataclass(frozen=True, eq=False)
class BoundNoisedInputs:
    """Noised inputs with ids; made by `NoisedInputs.bind`.

    Attributes:
      corruptions: see `NoisedInputs`.
      kept: see `NoisedInputs`.
    """

    corruptions: tuple[BoundCorruption, ...]
    kept: int

    reads: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    writes: ClassVar[tuple[str, ...]] = NoisedInputs.writes
    document_eos: ClassVar[bool] = False
    keeps_texts: ClassVar[bool] = True

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> None:
        """Texts stay whole."""

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Corrupts the inputs: int32 `[s]` of any length, without its end; targets as they are."""
        inputs = np.asarray(example["inputs"], np.int32)
        corrupted = inputs[self.kept :]
        for corruption in self.corruptions:
            corrupted = corruption(corrupted, rng)
        return {
            "inputs": np.concatenate([inputs[: self.kept], corrupted]),
            "targets": example["targets"],
        }
