"""What `Denoising` does to a text: masks, deletes, infills, permutes or rotates it.

Each corruption is a frozen dataclass of settings whose `bind` takes a vocabulary's spec and
gives a callable `(tokens, rng) -> tokens`, int32 in and out. They compose: the next one is
given what the one before it made.
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
    """A corruption that knows the ids it may write."""

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The corrupted text, a new int32 array. All randomness is `rng`'s."""

    def result_length(self, length: int) -> int:
        """How many tokens are left of so many."""


class Corruption(Protocol):
    """The settings of a corruption: a frozen dataclass of plain values."""

    def bind(self, spec: Spec) -> BoundCorruption:
        """The corruption for a vocabulary, given as `Vocabulary.spec()`.

        Raises:
          TaskError: the vocabulary lacks what the corruption needs.
        """


@dataclasses.dataclass(frozen=True)
class TokenMasking:
    """Some tokens, each chosen independently, become the mask token.

    As it stands this is BART's (Lewis et al. 2020, section 2.2) and T5's "MASS-style" (Raffel
    et al. 2020, section 3.3.2); `mask_share=0.9, random_share=0.1` is T5's "BERT-style" (section
    3.3.1) and 0.8 and 0.1 BERT's own (Devlin et al. 2019, section 3.1). What is neither masked
    nor random of the chosen tokens stays as it is.

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
        """With the vocabulary's mask and ordinary tokens."""
        replacer = Replacer.for_vocabulary(
            spec, self.mask_share, self.random_share, self.mask_id, "TokenMasking"
        )
        return TokenMasker(self.rate, replacer)


@dataclasses.dataclass(frozen=True)
class TokenMasker:
    """Token masking with ids; made by `TokenMasking.bind`."""

    rate: float
    replace: Replacer

    def result_length(self, length: int) -> int:
        """As it was."""
        return length

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """int32 `[t]` to int32 `[t]`."""
        (places,) = np.nonzero(rng.random(tokens.size, dtype=np.float32) < self.rate)
        return self.replace(tokens, places, rng)


@dataclasses.dataclass(frozen=True)
class TokenDeletion:
    """Tokens are deleted, and what is left does not show where (Lewis et al. 2020, section 2.2).

    How many is exact, so that lengths are known; their places are random.

    Attributes:
      rate: share of the tokens.
    """

    rate: float = 0.15

    def __post_init__(self) -> None:
        share(self.rate, "TokenDeletion.rate")

    def bind(self, spec: Spec) -> "TokenDeletion":
        """Needs nothing of the vocabulary."""
        return self

    def result_length(self, length: int) -> int:
        """What is not deleted."""
        return length - round(length * self.rate)

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """int32 `[t]` to int32 `[result_length(t)]`."""
        deleted = tokens.size - self.result_length(tokens.size)
        return np.delete(tokens, random_places(tokens.size, deleted, rng))


@dataclasses.dataclass(frozen=True)
class TextInfilling:
    """Spans of Poisson length each become one mask token (Lewis et al. 2020, section 2.2).

    A span of no tokens puts a mask where nothing is missing. How many tokens and spans are
    masked is exact: Poisson lengths of which the sum is known are multinomial, each token
    falling to any span. All orders of spans and kept tokens are equally likely.

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
        """With the vocabulary's mask."""
        mask_id = find_mask_id(spec, self.mask_id, "TextInfilling")
        return TextInfiller(self.rate, self.mean_span_length, mask_id)


@dataclasses.dataclass(frozen=True)
class TextInfiller:
    """Text infilling with ids; made by `TextInfilling.bind`."""

    rate: float
    mean_span_length: float
    mask_id: int

    def counts(self, length: int) -> tuple[int, int]:
        """Masked tokens and spans in a text of so many."""
        masked = round(length * self.rate)
        return masked, max(round(masked / self.mean_span_length), 1) if masked else 0

    def result_length(self, length: int) -> int:
        """Kept tokens and masks."""
        masked, spans = self.counts(length)
        return length - masked + spans

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """int32 `[t]` to int32 `[result_length(t)]`."""
        masked, spans = self.counts(tokens.size)
        if not spans:
            return tokens.copy()
        lengths = np.bincount(rng.integers(spans, size=masked), minlength=spans)
        slots = random_places(self.result_length(tokens.size), spans, rng)
        return infill(tokens, np.sort(slots), lengths, self.mask_id)


def infill(tokens: np.ndarray, slots: np.ndarray, lengths: np.ndarray, mask_id: int) -> np.ndarray:
    """Text infilling with the spans given.

    Args:
      tokens: int32 `[t]`.
      slots: int `[n]`, ascending: places of the masks in the result.
      lengths: int `[n]`: tokens that each of them stands for.
      mask_id: the mask.

    Returns:
      int32 `[t - sum(lengths) + n]`.
    """
    # Before the mask in slot `s`, the i-th, stand s - i kept tokens and i spans.
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
    """The sentences in a random order (Lewis et al. 2020, section 2.2).

    A sentence ends with a full stop, or a run of them; what follows the last one is a sentence
    too.

    Attributes:
      full_stop_ids: tokens that end sentences; None takes the vocabulary's tokens of full stops
        alone. For source code the end of a line is a better one (13 in bytes).
    """

    full_stop_ids: tuple[int, ...] | None = None

    def bind(self, spec: Spec) -> "SentencePermuter":
        """With the vocabulary's full stops."""
        return SentencePermuter(find_full_stop_ids(spec, self.full_stop_ids, "SentencePermutation"))


@dataclasses.dataclass(frozen=True)
class SentencePermuter:
    """Sentence permutation with ids; made by `SentencePermutation.bind`."""

    full_stop_ids: tuple[int, ...]

    def result_length(self, length: int) -> int:
        """As it was."""
        return length

    def sentences(self, tokens: np.ndarray) -> list[np.ndarray]:
        """The text, cut after its full stops."""
        stops = np.zeros(tokens.size, np.bool_)
        for stop in self.full_stop_ids:  # few: faster than np.isin
            stops |= tokens == stop
        (ends,) = np.nonzero(stops[:-1] & ~stops[1:])
        return np.split(tokens, ends + 1)

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """int32 `[t]` to int32 `[t]`."""
        sentences = self.sentences(tokens)
        return np.concatenate([sentences[i] for i in rng.permutation(len(sentences))])


@dataclasses.dataclass(frozen=True)
class DocumentRotation:
    """Begins with any token; what stood before it follows the end (Lewis et al. 2020, 2.2)."""

    def bind(self, spec: Spec) -> "DocumentRotation":
        """Needs nothing of the vocabulary."""
        return self

    def result_length(self, length: int) -> int:
        """As it was."""
        return length

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """int32 `[t]` to int32 `[t]`."""
        return rotate(tokens, int(rng.integers(tokens.size)) if tokens.size else 0)


def rotate(tokens: np.ndarray, first: int) -> np.ndarray:
    """The text rotated so that it begins with its token `first`."""
    return np.roll(tokens, -first)


@dataclasses.dataclass(frozen=True)
class Deshuffling:
    """All tokens in a random order (Raffel et al. 2020, section 3.3.1, after Liu et al. 2019)."""

    def bind(self, spec: Spec) -> "Deshuffling":
        """Needs nothing of the vocabulary."""
        return self

    def result_length(self, length: int) -> int:
        """As it was."""
        return length

    def __call__(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """int32 `[t]` to int32 `[t]`."""
        return rng.permutation(tokens)
