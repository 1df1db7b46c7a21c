"""MASS: one long span is masked for the encoder and predicted by the decoder, in its place."""

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

    `inputs` are the whole text with a contiguous span masked; `targets` are that span. The
    decoder is given and predicts nothing but the span, "but keep the positional embedding of
    the unmasked tokens unchanged" (section 4.1): `targets_positions` are the places of the
    targets in the text, from 0. The decoder begins with the token 0, as all do here, where the
    paper's figure 1 has one more mask.

    Attributes:
      span_share: share of the text that is masked (section 4.1: about half).
      mask_share: share of the span's tokens that the encoder sees as the mask.
      random_share: share of them that it sees as a random token; the rest stay.
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
        """With the mask and the ordinary tokens of the vocabulary of `targets`.

        Raises:
          TaskError: it has no mask token.
        """
        replacer = Replacer.for_vocabulary(
            specs["targets"], self.mask_share, self.random_share, self.mask_id, "MASS"
        )
        return SpanMasker(self.span_share, replacer, self.concatenate)


@dataclasses.dataclass(frozen=True)
class SpanMasker:
    """MASS with ids; made by `MASS.bind`.

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
        """Masked tokens of a text; at least one, unless there is none."""
        return min(max(round(length * self.span_share), 1), length)

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """What fills `inputs`, checked against `targets`.

        Raises:
          TaskError: `targets` are too short.
        """
        if not self.concatenate:
            return None
        length = feature_length(task_feature_lengths, "inputs") - 1
        given, needed = feature_length(task_feature_lengths, "targets"), self.span_length(length)
        if given < needed + 1:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['targets'] is {given}: MASS on {length + 1} inputs gives "
                f"{needed + 1} targets."
            )
        return length

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """`targets` int32 `[t]` to `inputs` `[t]`, `targets` and `targets_positions` `[k]`."""
        tokens = np.asarray(example["targets"], np.int32)
        length = self.span_length(tokens.size)
        start = int(rng.integers(tokens.size - length + 1))
        return mask_span(tokens, start, start + length, self.replace, rng)


def mask_span(
    tokens: np.ndarray, start: int, stop: int, replace: Replacer, rng: np.random.Generator
) -> Example:
    """The example of which the tokens from `start` up to `stop` are the targets."""
    places = np.arange(start, stop, dtype=np.int32)
    return {
        "inputs": replace(tokens, places, rng),
        "targets": tokens[start:stop],
        "targets_positions": places,
    }
