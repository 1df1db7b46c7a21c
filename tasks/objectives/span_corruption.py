"""T5's span corruption: sentinels replace spans of the text, which are predicted."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.objective import Example, VocabularySpecs, feature_length
from tasks.objectives.special_tokens import random_places, share


@dataclasses.dataclass(frozen=True)
class SpanCorruption:
    """Replaces random spans by sentinels and predicts them (Raffel et al. 2020, section 3.3.4).

    Each dropped span becomes one sentinel in `inputs`; `targets` are the dropped spans, each
    after its sentinel. The numbers of dropped tokens and of spans are exact. The dropped tokens
    and the kept ones are each cut into that number of spans, uniformly at random, and the two
    kinds alternate, beginning with a kept one.

    Attributes:
      noise_density: share of the tokens that are dropped.
      mean_span_length: dropped tokens per span.
    """

    noise_density: float = 0.15
    mean_span_length: float = 3.0

    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")

    def __post_init__(self) -> None:
        share(self.noise_density, "SpanCorruption.noise_density")
        if self.mean_span_length < 1:
            raise TaskError(
                f"SpanCorruption.mean_span_length is {self.mean_span_length}: 1 or more is needed."
            )

    def bind(self, specs: VocabularySpecs) -> "SpanCorrupter":
        """The objective with the sentinels of the vocabulary of `targets`.

        Raises:
          TaskError: there are none.
        """
        spec = specs["targets"]
        if not spec["extra_ids"]:
            raise TaskError(
                "span corruption needs sentinels: the vocabulary has extra_ids=0, T5's has 100."
            )
        return SpanCorrupter(
            noise_density=self.noise_density,
            mean_span_length=self.mean_span_length,
            first_sentinel=spec["vocab_size"] - 1,
            sentinels=spec["extra_ids"],
        )


@dataclasses.dataclass(frozen=True)
class SpanCorrupter:
    """Span corruption with the ids of a vocabulary, made by `SpanCorruption.bind`.

    Attributes:
      noise_density: share of the tokens that are dropped.
      mean_span_length: dropped tokens per span.
      first_sentinel: id of the first sentinel; the next is one lower.
      sentinels: number of sentinels.
    """

    noise_density: float
    mean_span_length: float
    first_sentinel: int
    sentinels: int

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    document_eos: ClassVar[bool] = False

    def counts(self, length: int) -> tuple[int, int]:
        """The numbers of dropped tokens and of spans in a text of `length` tokens (2 or more).

        At least one token is dropped and one kept, and every span follows a kept token.
        """
        # `round` rounds halves to even, as TensorFlow does in T5's code.
        dropped = min(max(round(length * self.noise_density), 1), length - 1)
        spans = max(round(dropped / self.mean_span_length), 1)
        return dropped, min(spans, length - dropped)

    def result_lengths(self, length: int) -> tuple[int, int]:
        """The lengths of `inputs` and `targets`, with EOS, for `length` tokens of text."""
        dropped, spans = self.counts(length)
        return length - dropped + spans + 1, dropped + spans + 1

    def raw_length(self, inputs_length: int) -> int:
        """The length of the longest text whose `inputs` with EOS fit: 568 for 512.

        Raises:
          TaskError: not even two tokens fit.
        """
        # A longer text never has shorter inputs, so the search ends at the first that does not fit.
        length = 1
        while self.result_lengths(length + 1)[0] <= inputs_length:
            length += 1
        if length < 2:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['inputs'] is {inputs_length}: span corruption needs "
                f"{self.result_lengths(2)[0]} or more."
            )
        return length

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """`raw_length` for `inputs`, checked with `targets` and the number of sentinels."""
        length = self.raw_length(feature_length(task_feature_lengths, "inputs"))
        given, needed = feature_length(task_feature_lengths, "targets"), self.result_lengths(length)
        if given < needed[1]:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['targets'] is {given}: span corruption of {needed[0]} "
                f"inputs makes {needed[1]} targets."
            )
        self._check_sentinels(self.counts(length)[1], length)
        return length

    def _check_sentinels(self, spans: int, length: int) -> None:
        if spans > self.sentinels:
            raise TaskError(
                f"span corruption of {length} tokens makes {spans} spans, the vocabulary has "
                f"{self.sentinels} sentinels: raise extra_ids or mean_span_length, or shorten "
                "the inputs."
            )

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Corrupts `targets` int32 `[t]`, giving `inputs` and `targets`, int32, of known lengths.

        Raises:
          TaskError: there are more spans than sentinels.
        """
        tokens = np.asarray(example["targets"], np.int32)
        length = tokens.shape[0]
        if length < 2:
            # Too short to cut: the text is kept, and its target is just the first sentinel.
            sentinel = np.full(min(length, 1), self.first_sentinel, np.int32)
            return {"inputs": tokens, "targets": sentinel}
        dropped, spans = self.counts(length)
        self._check_sentinels(spans, length)
        kept_ends = _random_ends(length - dropped, spans, rng)
        dropped_ends = _random_ends(dropped, spans, rng)
        starts = kept_ends.copy()
        starts[1:] += dropped_ends[:-1]

        # The running sum of +1 where a span begins and -1 where it ends is 1 inside the spans.
        steps = np.zeros(length, np.int8)
        steps[starts] = 1
        steps[kept_ends[:-1] + dropped_ends[:-1]] = -1
        in_span = steps.cumsum(dtype=np.int8).view(np.bool_)

        sentinels = np.arange(self.first_sentinel, self.first_sentinel - spans, -1, dtype=np.int32)
        return {
            "inputs": _with_sentinels(tokens, ~in_span, starts, sentinels),
            # Each span follows a kept token, and its sentinel takes the place of that token.
            "targets": _with_sentinels(tokens, in_span, starts - 1, sentinels),
        }


def _random_ends(items: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    """The ends (exclusive) of non-empty segments of `items` items, uniformly at random."""
    ends = np.empty(segments, np.intp)
    ends[-1] = items
    if segments > 1:
        cuts = random_places(items - 1, segments - 1, rng)
        cuts.sort()
        ends[:-1] = cuts + 1
    return ends


def _with_sentinels(
    tokens: np.ndarray, keep: np.ndarray, places: np.ndarray, sentinels: np.ndarray
) -> np.ndarray:
    """The tokens to keep, with the sentinels at `places`."""
    tokens, keep = tokens.copy(), keep.copy()
    tokens[places] = sentinels
    keep[places] = True
    return tokens[keep]


def corrupt(tokens: np.ndarray, in_span: np.ndarray, first_sentinel: int) -> Example:
    """Span corruption with given spans, which may be anywhere in the text.

    Args:
      tokens: int32 `[t]`.
      in_span: bool `[t]`, true for dropped tokens.
      first_sentinel: id of the first sentinel; the next is one lower.

    Returns:
      `inputs`, in which one sentinel replaces each span, and `targets`, the spans, each after
      its sentinel, and a last sentinel if the text does not end with a span (Raffel et al.
      2020, figure 2).
    """

    def replace(tokens: np.ndarray, where: np.ndarray) -> np.ndarray:
        begins = where & ~np.concatenate(([False], where[:-1]))
        (places,) = np.nonzero(begins)
        sentinels = first_sentinel - np.arange(places.size, dtype=np.int32)
        return _with_sentinels(tokens, ~where, places, sentinels)

    in_span = np.asarray(in_span, np.bool_)
    kept, all_tokens = ~in_span, tokens
    if in_span[:1].any():
        # A sentinel takes the place of the kept token before its span; the first span has none.
        kept = np.concatenate(([True], kept))
        all_tokens = np.concatenate((tokens[:1], tokens))
    return {"inputs": replace(tokens, in_span), "targets": replace(all_tokens, kept)}
