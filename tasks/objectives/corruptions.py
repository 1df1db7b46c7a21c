"""Corruptions for `Denoising`: masking, deletion, infilling, permutation, rotation, shuffling.

Each is a frozen dataclass of settings whose `bind` takes a vocabulary's spec and returns a
function `(tokens, rng) -> tokens`, int32 to int32. They can be chained.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.special_tokens import (
    Replacer,
    check_shares,
    find_full_stop_ids,
    find_mask_id,
    random_places,
    share,
)

Spec = Mapping[str, Any]


class BoundCorruption(Protocol):
    """A corruption with the ids of a vocabulary: a function from tokens to tokens."""

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The corrupted text, a new int32 array. All randomness comes from `rng`."""

    def result_length(self, length: int) -> int:
        """The length of the corrupted text, for a text of `length` tokens."""


class Corruption(Protocol):
    """The settings of a corruption: a frozen dataclass of plain values."""

    def bind(self, spec: Spec) -> BoundCorruption:
        """The corruption for a vocabulary, given as `Vocabulary.spec()`.

        Raises:
          TaskError: the vocabulary has no token that the corruption needs.
        """


@dataclasses.dataclass(frozen=True)
class TokenMasking:
    """Masks tokens that are each chosen independently.

    With the default shares this is BART's (Lewis et al. 2020, section 2.2) and T5's "MASS-style"
    (Raffel et al. 2020, section 3.3.2) masking. `mask_share=0.9, random_share=0.1` is T5's
    "BERT-style" (section 3.3.1), and 0.8 and 0.1 is BERT's (Devlin et al. 2019, section 3.1).
    Chosen tokens that are neither masked nor replaced at random stay as they are.

    Attributes:
      rate: share of the tokens that are chosen.
      mask_share: share of the chosen tokens that become the mask.
      random_share: share of them that become a random token.
      mask_id: the mask; None takes the vocabulary's, or else its first sentinel.
    """

    rate: float = 0.15
    mask_share: float = 1.0
    random_share: float = 0.0
    mask_id: int | None = None

    def __post_init__(self) -> None:
        share(self.rate, "TokenMasking.rate")
        check_shares(self.mask_share, self.random_share, "TokenMasking")

    def bind(self, spec: Spec) -> "TokenMasker":
        """The corruption with the vocabulary's mask and ordinary tokens."""
        replacer = Replacer.for_vocabulary(
            spec, self.mask_share, self.random_share, self.mask_id, "TokenMasking"
        )
        return TokenMasker(self.rate, replacer)


@dataclasses.dataclass(frozen=True)
class TokenMasker:
    """Token masking with the ids of a vocabulary, made by `TokenMasking.bind`."""

    rate: float
    replace: Replacer

    def result_length(self, length: int) -> int:
        """The same length."""
        return length

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The corrupted text: int32 `[t]` to int32 `[t]`."""
        (places,) = np.nonzero(rng.random(tokens.size, dtype=np.float32) < self.rate)
        return self.replace(tokens, places, rng)


@dataclasses.dataclass(frozen=True)
class TokenDeletion:
    """Deletes tokens without leaving a mask (Lewis et al. 2020, section 2.2).

    Their number is exact, so that lengths are known; their places are random.

    Attributes:
      rate: share of the tokens.
    """

    rate: float = 0.15

    def __post_init__(self) -> None:
        share(self.rate, "TokenDeletion.rate")

    def bind(self, spec: Spec) -> "TokenDeletion":
        """Returns itself: nothing depends on the vocabulary."""
        return self

    def result_length(self, length: int) -> int:
        """The number of tokens that are not deleted."""
        return length - round(length * self.rate)

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The corrupted text: int32 `[t]` to int32 `[result_length(t)]`."""
        deleted = tokens.size - self.result_length(tokens.size)
        return np.delete(tokens, random_places(tokens.size, deleted, rng))


@dataclasses.dataclass(frozen=True)
class TextInfilling:
    """Replaces spans of Poisson length by one mask each (Lewis et al. 2020, section 2.2).

    A span of length 0 inserts a mask. The numbers of masked tokens and of spans are exact:
    given their sum, Poisson lengths are multinomial, so each masked token is assigned to a
    random span. All orders of spans and kept tokens are equally likely.

    Attributes:
      rate: share of the tokens that are masked; BART's is 0.3 (section 5.1).
      mean_span_length: the Poisson distribution's mean.
      mask_id: the mask; None takes the vocabulary's, or else its first sentinel.
    """

    rate: float = 0.3
    mean_span_length: float = 3.0
    mask_id: int | None = None

    def __post_init__(self) -> None:
        share(self.rate, "TextInfilling.rate")
        if not self.mean_span_length > 0:
            raise TaskError(
                f"TextInfilling.mean_span_length is {self.mean_span_length}: more than 0 is needed."
            )

    def bind(self, spec: Spec) -> "TextInfiller":
        """The corruption with the vocabulary's mask."""
        mask_id = find_mask_id(spec, self.mask_id, "TextInfilling")
        return TextInfiller(self.rate, self.mean_span_length, mask_id)


@dataclasses.dataclass(frozen=True)
class TextInfiller:
    """Text infilling with the ids of a vocabulary, made by `TextInfilling.bind`."""

    rate: float
    mean_span_length: float
    mask_id: int

    def counts(self, length: int) -> tuple[int, int]:
        """The numbers of masked tokens and of spans in a text of `length` tokens."""
        masked = round(length * self.rate)
        return masked, max(round(masked / self.mean_span_length), 1) if masked else 0

    def result_length(self, length: int) -> int:
        """The number of kept tokens and masks."""
        masked, spans = self.counts(length)
        return length - masked + spans

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The corrupted text: int32 `[t]` to int32 `[result_length(t)]`."""
        masked, spans = self.counts(tokens.size)
        if not spans:
            return tokens.copy()
        lengths = np.bincount(rng.integers(spans, size=masked), minlength=spans)
        slots = random_places(self.result_length(tokens.size), spans, rng)
        return infill(tokens, np.sort(slots), lengths, self.mask_id)


def infill(tokens: np.ndarray, slots: np.ndarray, lengths: np.ndarray, mask_id: int) -> np.ndarray:
    """Text infilling with given spans.

    Args:
      tokens: int32 `[t]`.
      slots: int `[n]`, ascending: indices of the masks in the result.
      lengths: int `[n]`: number of tokens that each mask replaces.
      mask_id: the mask.

    Returns:
      int32 `[t - sum(lengths) + n]`.
    """
    # Before the i-th mask, in slot `s`, there are s - i kept tokens and i spans.
    ends = np.cumsum(lengths)
    starts = slots - np.arange(slots.size) + ends - lengths
    size = tokens.size + 1
    change = np.bincount(starts, minlength=size) - np.bincount(starts + lengths, minlength=size)
    filled = np.empty(tokens.size - int(ends[-1]) + slots.size, np.int32)
    kept = np.ones(filled.size, np.bool_)
    kept[slots] = False
    filled[slots] = mask_id
    filled[kept] = tokens[change[:-1].cumsum() == 0]
    return filled


@dataclasses.dataclass(frozen=True)
class SentencePermutation:
    """Puts the sentences into a random order (Lewis et al. 2020, section 2.2).

    A sentence ends with one or several full stops; the text after the last one is a sentence
    too.

    Attributes:
      full_stop_ids: tokens that end sentences; None takes the vocabulary's tokens that consist
        of full stops. For source code the end of a line is better (13 in bytes).
    """

    full_stop_ids: tuple[int, ...] | None = None

    def bind(self, spec: Spec) -> "SentencePermuter":
        """The corruption with the vocabulary's full stops."""
        return SentencePermuter(find_full_stop_ids(spec, self.full_stop_ids, "SentencePermutation"))


@dataclasses.dataclass(frozen=True)
class SentencePermuter:
    """Sentence permutation with the ids of a vocabulary, made by `SentencePermutation.bind`."""

    full_stop_ids: tuple[int, ...]

    def result_length(self, length: int) -> int:
        """The same length."""
        return length

    def sentences(self, tokens: np.ndarray) -> list[np.ndarray]:
        """The sentences of the text, in order."""
        stops = np.zeros(tokens.size, np.bool_)
        for stop in self.full_stop_ids:  # few: faster than np.isin
            stops |= tokens == stop
        (ends,) = np.nonzero(stops[:-1] & ~stops[1:])
        return np.split(tokens, ends + 1)

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The corrupted text: int32 `[t]` to int32 `[t]`."""
        sentences = self.sentences(tokens)
        return np.concatenate([sentences[i] for i in rng.permutation(len(sentences))])


@dataclasses.dataclass(frozen=True)
class DocumentRotation:
    """Rotates the text to begin at a random token (Lewis et al. 2020, section 2.2)."""

    def bind(self, spec: Spec) -> "DocumentRotation":
        """Returns itself: nothing depends on the vocabulary."""
        return self

    def result_length(self, length: int) -> int:
        """The same length."""
        return length

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The corrupted text: int32 `[t]` to int32 `[t]`."""
        return rotate(tokens, int(rng.integers(tokens.size)) if tokens.size else 0)


def rotate(tokens: np.ndarray, first: int) -> np.ndarray:
    """The text rotated to begin with the token at index `first`."""
    return np.roll(tokens, -first)


@dataclasses.dataclass(frozen=True)
class Deshuffling:
    """Shuffles all tokens (Raffel et al. 2020, section 3.3.1, after Liu et al. 2019)."""

    def bind(self, spec: Spec) -> "Deshuffling":
        """Returns itself: nothing depends on the vocabulary."""
        return self

    def result_length(self, length: int) -> int:
        """The same length."""
        return length

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The corrupted text: int32 `[t]` to int32 `[t]`."""
        return rng.permutation(tokens)


@dataclasses.dataclass(frozen=True)
class LocalShuffling:
    """Shuffles tokens so that none moves further than a distance (Lample et al. 2018, section 2.3).

    Each place gets a number, its own and a draw from [0, distance + 1), and tokens are put in the
    order of these.

    Attributes:
      distance: how far a token may move; the paper's k is 3.
    """

    distance: int = 3

    def __post_init__(self) -> None:
        if self.distance < 1:
            raise TaskError(f"LocalShuffling.distance is {self.distance}: 1 or more is needed.")

    def bind(self, spec: Spec) -> "LocalShuffling":
        """Returns itself: nothing depends on the vocabulary."""
        return self

    def result_length(self, length: int) -> int:
        """The same length."""
        return length

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The corrupted text: int32 `[t]` to int32 `[t]`."""
        order = np.arange(tokens.size) + rng.random(tokens.size) * (self.distance + 1)
        return tokens[np.argsort(order, kind="stable")]
