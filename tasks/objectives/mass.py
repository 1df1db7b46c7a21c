"""MASS: one long span is masked in the encoder's input and predicted by the decoder."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.objective import Example, VocabularySpecs, feature_length
from tasks.objectives.special_tokens import Replacer, check_shares, share


@dataclasses.dataclass(frozen=True)
class MASS:
    """Masked sequence to sequence pre-training (Song et al. 2019).

    `inputs` are the whole text with a contiguous span masked, and `targets` are that span. The
    decoder reads and predicts only the span, at its positions in the text (section 4.1: the
    "positional embedding of the unmasked tokens" stays), which are `targets_positions`, from 0.
    The decoder's first input is the vocabulary's start token; in the paper's figure 1 it is
    one more mask.

    Attributes:
      span_share: share of the text that is masked (section 4.1: about half).
      mask_share: share of the span's tokens that the mask replaces.
      random_share: share of them that a random token replaces; the rest stay.
      mask_id: the mask; None takes the vocabulary's, or else its first sentinel.
      concatenate: whether documents are concatenated and cut to fit.
    """

    span_share: float = 0.5
    mask_share: float = 0.8
    random_share: float = 0.1
    mask_id: int | None = None
    concatenate: bool = True

    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    positioned: ClassVar[tuple[str, ...]] = ("targets",)

    def __post_init__(self) -> None:
        share(self.span_share, "MASS.span_share")
        check_shares(self.mask_share, self.random_share, "MASS")

    def bind(self, specs: VocabularySpecs) -> "SpanMasker":
        """The objective with the mask and the ordinary tokens of the vocabulary of `targets`.

        Raises:
          TaskError: there is no mask token.
        """
        replacer = Replacer.for_vocabulary(
            specs["targets"], self.mask_share, self.random_share, self.mask_id, "MASS"
        )
        return SpanMasker(self.span_share, replacer, self.concatenate)


@dataclasses.dataclass(frozen=True)
class SpanMasker:
    """MASS with the ids of a vocabulary, made by `MASS.bind`.

    Attributes:
      span_share: share of the text that is masked.
      replace: writes the masks.
      concatenate: whether documents are concatenated and cut to fit.
    """

    span_share: float
    replace: Replacer
    concatenate: bool

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    positioned: ClassVar[tuple[str, ...]] = ("targets",)
    document_eos: ClassVar[bool] = False

    def span_length(self, length: int) -> int:
        """The number of masked tokens of a text; at least one, unless the text is empty."""
        return min(max(round(length * self.span_share), 1), length)

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """`text_length`, where documents are concatenated."""
        return self.text_length(task_feature_lengths) if self.concatenate else None

    def text_length(self, task_feature_lengths: Mapping[str, int]) -> int:
        """The length of a text that fills `inputs`, checked with `targets`.

        Raises:
          TaskError: `targets` are too short.
        """
        length = feature_length(task_feature_lengths, "inputs") - 1
        given, needed = feature_length(task_feature_lengths, "targets"), self.span_length(length)
        if given < needed + 1:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['targets'] is {given}: MASS with {length + 1} inputs makes "
                f"{needed + 1} targets."
            )
        return length

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Masks a span of `targets` int32 `[t]`.

        Returns:
          `inputs` `[t]`, `targets` and `targets_positions` `[k]`, int32.
        """
        tokens = np.asarray(example["targets"], np.int32)
        length = self.span_length(tokens.size)
        start = int(rng.integers(tokens.size - length + 1))
        return mask_span(tokens, start, start + length, self.replace, rng)


def mask_span(
    tokens: np.ndarray, start: int, stop: int, replace: Replacer, rng: np.random.Generator
) -> Example:
    """The example whose targets are the tokens from `start` up to `stop`."""
    places = np.arange(start, stop, dtype=np.int32)
    return {
        "inputs": replace(tokens, places, rng),
        "targets": tokens[start:stop],
        "targets_positions": places,
    }
