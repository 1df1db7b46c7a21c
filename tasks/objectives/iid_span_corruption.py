"""Span corruption with independently dropped tokens (Raffel et al. 2020, section 3.1.4)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.objective import Example, VocabularySpecs, feature_length
from tasks.objectives.span_corruption import corrupt
from tasks.objectives.special_tokens import share

# Targets up to so many standard deviations above the mean fit: all but one row in 700.
_MARGIN = 3.0


@dataclasses.dataclass(frozen=True)
class IIDSpanCorruption:
    """Drops each token independently; one sentinel replaces consecutive dropped tokens.

    T5's "i.i.d. noise, replace spans", the baseline of its comparisons. `targets` are the
    dropped spans, each after its sentinel, and a last sentinel unless the text ends with a
    dropped token. (In T5's code the first sentinel of the targets is that of the first kept text,
    so where a text begins with a dropped token, its sentinels are shifted by one.)

    Attributes:
      noise_density: probability that a token is dropped.
    """

    noise_density: float = 0.15

    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")

    def __post_init__(self) -> None:
        share(self.noise_density, "IIDSpanCorruption.noise_density")

    def bind(self, specs: VocabularySpecs) -> "IIDSpanCorrupter":
        """The objective with the sentinels of the vocabulary of `targets`.

        Raises:
          TaskError: there are fewer than two.
        """
        spec = specs["targets"]
        if spec["extra_ids"] < 2:
            raise TaskError(
                f"i.i.d. span corruption needs sentinels: the vocabulary has "
                f"extra_ids={spec['extra_ids']}, T5's has 100."
            )
        return IIDSpanCorrupter(self.noise_density, spec["vocab_size"] - 1, spec["extra_ids"])


@dataclasses.dataclass(frozen=True)
class IIDSpanCorrupter:
    """I.i.d. span corruption with the ids of a vocabulary, made by `IIDSpanCorruption.bind`.

    Attributes:
      noise_density: probability that a token is dropped.
      first_sentinel: id of the first sentinel; the next is one lower.
      sentinels: number of sentinels. If a text has more spans, the last spans are not dropped.
    """

    noise_density: float
    first_sentinel: int
    sentinels: int

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    document_eos: ClassVar[bool] = False

    def spans_of(self, length: int) -> float:
        """The mean number of spans: a span begins at each dropped token after a kept one."""
        p = self.noise_density
        return p + (length - 1) * p * (1 - p)

    def targets_length(self, length: int) -> int:
        """The length of `targets`, with last sentinel and EOS, that all but one text of 700 fit."""
        p = self.noise_density
        # A token adds 0, 1 or 2: b_i (2 - b_{i-1}) for independent b of mean p; its square has
        # the mean p (4 - 3p), its product with the next token's p^2 (2 - p).
        mean = p * (2 - p)
        variance = p * (4 - 3 * p) - mean**2 + 2 * (p * mean - mean**2)
        return math.ceil(length * mean + _MARGIN * math.sqrt(length * variance)) + 2

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """The length of a text that fits `inputs` undropped, checked with `targets`.

        Inputs are shorter than the text by all dropped tokens but the first of each span, which
        is 2% at a density of 0.15.
        """
        length = feature_length(task_feature_lengths, "inputs") - 1
        given = feature_length(task_feature_lengths, "targets")
        needed = self.targets_length(length)
        if given < needed:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['targets'] is {given}: i.i.d. span corruption of "
                f"{length + 1} inputs makes up to {needed} targets."
            )
        if self.spans_of(length) > self.sentinels - 1:
            raise TaskError(
                f"i.i.d. span corruption of {length} tokens makes {self.spans_of(length):.0f} "
                f"spans, the vocabulary has {self.sentinels} sentinels, of which one closes the "
                "targets: raise extra_ids, or shorten the inputs."
            )
        return length

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Corrupts `targets` int32 `[t]`, giving `inputs` and `targets`, int32."""
        tokens = np.asarray(example["targets"], np.int32)
        dropped = rng.random(tokens.size, dtype=np.float32) < self.noise_density
        (starts,) = np.nonzero(dropped & ~np.concatenate(([False], dropped[:-1])))
        if starts.size >= self.sentinels:
            dropped[starts[self.sentinels - 1] :] = False
        return corrupt(tokens, dropped, self.first_sentinel)
