"""Fine-tuning on pairs of texts by hidden tokens: some of the targets are hidden."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.objectives.masked_lm import Masker
from tasks.objectives.objective import (
    BoundObjective,
    Example,
    VocabularySpecs,
    feature_length,
)
from tasks.objectives.special_tokens import check_shares, find_mask_id, share


@dataclasses.dataclass(frozen=True)
class HiddenTargets:
    """Inputs as they are, and targets of which some tokens are hidden (Dong et al. 2019, 2.4).

    `round(rate · length)` of the targets' tokens are hidden, 1 at least, each as in `MaskedLM`.
    The end token is one of them, and may be hidden: so the model learns where to end.

    Attributes:
      rate: share of the targets' tokens that are hidden: .7 in the paper for summaries and
        questions, .5 for dialogue.
      mask_share: share of the hidden tokens that become the mask.
      random_share: share of them that become a random token.
      mask_id: the mask; None takes the vocabulary's, or else its first sentinel.
    """

    rate: float = 0.7
    mask_share: float = 0.8
    random_share: float = 0.1
    mask_id: int | None = None

    output_features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets", "hidden_targets", "loss_weights")
    keeps_texts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        share(self.rate, "HiddenTargets.rate")
        check_shares(self.mask_share, self.random_share, "HiddenTargets")

    def bind(self, specs: VocabularySpecs) -> BoundObjective:
        """With the mask and the end token of the vocabulary of `targets`.

        Raises:
          TaskError: there is no mask.
        """
        spec = specs["targets"]
        masker = Masker(
            self.rate,
            self.mask_share,
            self.random_share,
            None,
            find_mask_id(spec, self.mask_id, "HiddenTargets"),
            np.arange(spec["vocab_size"], dtype=np.int32),
            (),
        )
        return BoundHiddenTargets(masker, spec["eos_id"])


@dataclasses.dataclass(frozen=True, eq=False)
class BoundHiddenTargets:
    """Hidden targets with ids; made by `HiddenTargets.bind`.

    Attributes:
      mask: hides tokens.
      eos_id: ends the targets.
      length: most tokens of the targets, their end included; None for any number.
    """

    mask: Masker
    eos_id: int
    length: int | None = None

    reads: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    writes: ClassVar[tuple[str, ...]] = HiddenTargets.writes
    document_eos: ClassVar[bool] = False
    keeps_texts: ClassVar[bool] = True

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> None:
        """Texts stay whole."""

    def of_length(self, task_feature_lengths: Mapping[str, int]) -> "BoundHiddenTargets":
        """The same for targets of the length that they have."""
        return dataclasses.replace(self, length=feature_length(task_feature_lengths, "targets"))

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Hides some of the targets.

        Args:
          example: `inputs` and `targets`, int32 without their ends.
          rng: of what is hidden.

        Returns:
          The same, and of the targets with their end, int32 `[t + 1]`, `hidden_targets` and
          `loss_weights`, 1 where a token is hidden.
        """
        text = np.asarray(example["targets"], np.int32)
        if self.length is not None:
            text = text[: self.length - 1]
        hidden = self.mask(np.append(text, np.int32(self.eos_id)), rng)
        return {
            "inputs": example["inputs"],
            "targets": text,
            "hidden_targets": hidden["inputs"],
            "loss_weights": hidden["loss_weights"],
        }
