"""T5's span corruption: spans of text replaced by sentinels, and predicted."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.objective import Example, VocabularySpecs, feature_length
from tasks.objectives.special_tokens import random_places, share


@dataclasses.dataclass(frozen=True)
class SpanCorruption:
    """Drops random spans; the objective of Raffel et al. 2020, section 3.3.4.

    Each dropped span becomes one sentinel in `inputs`; `targets` are the dropped spans,
    each after its sentinel. The number of dropped tokens and of spans is exact, only
    their places are random: the dropped tokens are cut into that many spans uniformly at
    random, so is the rest, and the two alternate, beginning with text that is kept.

    Attributes:
      noise_density: share of the tokens to drop.
      mean_span_length: dropped tokens for each span.
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
        """With the sentinels of the vocabulary of `targets`.

        Raises:
          TaskError: it has none.
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
    """Span corruption with ids; made by `SpanCorruption.bind`.

    Attributes:
      noise_density: share of the tokens to drop.
      mean_span_length: dropped tokens for each span.
      first_sentinel: id of the first sentinel; the next is one lower.
      sentinels: how many there are.
    """

    noise_density: float
    mean_span_length: float
    first_sentinel: int
    sentinels: int

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    document_eos: ClassVar[bool] = False

    def counts(self, length: int) -> tuple[int, int]:
        """Dropped tokens and spans in a text of `length` tokens (2 or more).

        At least one token is dropped and one kept, and every span follows a kept token.
        """
        # `round` rounds halves to even, as TensorFlow does in T5's own code.
        dropped = min(max(round(length * self.noise_density), 1), length - 1)
        spans = max(round(dropped / self.mean_span_length), 1)
        return dropped, min(spans, length - dropped)

    def result_lengths(self, length: int) -> tuple[int, int]:
        """Tokens of `inputs` and `targets`, EOS counted, for `length` tokens of text."""
        dropped, spans = self.counts(length)
        return length - dropped + spans + 1, dropped + spans + 1

    def raw_length(self, inputs_length: int) -> int:
        """The longest text whose `inputs` fit, EOS counted: 568 for 512.

        Raises:
          TaskError: there is none of two tokens or more.
        """
        # The inputs never shrink as the text grows, so the first that does not fit ends it.
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
        """`raw_length` for `inputs`, checked against `targets` and the sentinels."""
        length = self.raw_length(feature_length(task_feature_lengths, "inputs"))
        given, needed = feature_length(task_feature_lengths, "targets"), self.result_lengths(length)
        if given < needed[1]:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['targets'] is {given}: span corruption of {needed[0]} "
                f"inputs gives {needed[1]} targets."
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
        """`targets` int32 `[t]` to `inputs` and `targets`, int32, of exact lengths.

        Raises:
          TaskError: more spans than sentinels.
        """
        tokens = np.asarray(example["targets"], np.int32)
        length = tokens.shape[0]
        if length < 2:
            # Nothing to cut: the text is kept, its target is the first sentinel alone.
            sentinel = np.full(min(length, 1), self.first_sentinel, np.int32)
            return {"inputs": tokens, "targets": sentinel}
        dropped, spans = self.counts(length)
        self._check_sentinels(spans, length)
        kept_ends = _random_ends(length - dropped, spans, rng)
        dropped_ends = _random_ends(dropped, spans, rng)
        starts = kept_ends.copy()
        starts[1:] += dropped_ends[:-1]

        # +1 where a span begins, -1 where it ends, summed up, is 1 inside the spans.
        steps = np.zeros(length, np.int8)
        steps[starts] = 1
        steps[kept_ends[:-1] + dropped_ends[:-1]] = -1
        in_span = steps.cumsum(dtype=np.int8).view(np.bool_)

        sentinels = np.arange(self.first_sentinel, self.first_sentinel - spans, -1, dtype=np.int32)
        return {
            "inputs": _with_sentinels(tokens, ~in_span, starts, sentinels),
            # Every span follows a kept token, whose place its sentinel takes.
            "targets": _with_sentinels(tokens, in_span, starts - 1, sentinels),
        }


def _random_ends(items: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    """Ends (exclusive) of `items` in a row cut into non-empty segments, uniformly at random."""
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
    """The tokens to keep, and at `places` the sentinels."""
    tokens, keep = tokens.copy(), keep.copy()
    tokens[places] = sentinels
    keep[places] = True
    return tokens[keep]


def corrupt(tokens: np.ndarray, in_span: np.ndarray, first_sentinel: int) -> Example:
    """Span corruption with the spans given, which may stand anywhere.

    Args:
      tokens: int32 `[t]`.
      in_span: bool `[t]`, true where a token is dropped.
      first_sentinel: id of the first sentinel; the next is one lower.

    Returns:
      `inputs`, every span replaced by one sentinel, and `targets`, the spans, each after its
      sentinel, and a last sentinel where the text ends outside a span (Raffel et al. 2020,
      figure 2).
    """

    def replace(tokens: np.ndarray, where: np.ndarray) -> np.ndarray:
        begins = where & ~np.concatenate(([False], where[:-1]))
        (places,) = np.nonzero(begins)
        sentinels = first_sentinel - np.arange(places.size, dtype=np.int32)
        return _with_sentinels(tokens, ~where, places, sentinels)

    in_span = np.asarray(in_span, np.bool_)
    kept, all_tokens = ~in_span, tokens
    if in_span[:1].any():
        # The sentinel of a span takes the place of what is kept before it: here, nothing is.
        kept = np.concatenate(([True], kept))
        all_tokens = np.concatenate((tokens[:1], tokens))
    return {"inputs": replace(tokens, in_span), "targets": replace(all_tokens, kept)}
