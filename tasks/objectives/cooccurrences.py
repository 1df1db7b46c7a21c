"""How often words stand near one another: what GloVe learns from."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.objective import BoundObjective, Example, VocabularySpecs, feature_length

Weighting = Literal["harmonic", "ramp", "flat"]
MOST_WINDOW = 20  # beyond, sums of fractions would not be whole numbers of 64 bits


@dataclasses.dataclass(frozen=True)
class Cooccurrences:
    """Pairs of words with their weighted number of meetings (Pennington et al. 2014, section 4.2).

    The whole split is counted when it is opened; an example is as many of the pairs that meet at
    all as a row has room for, in a drawn order.

    Attributes:
      window: how many words to each side are met; the end of a document is not passed.
      weighting: what a meeting at distance d counts: "harmonic", 1 / d, as GloVe; "ramp", window +
        1 - d, as COALS (Rohde et al. 2006) with a window of 4; "flat", 1.
      symmetric: whether words on both sides are met, or only those before.
    """

    window: int = 10
    weighting: Weighting = "harmonic"
    symmetric: bool = True

    output_features: ClassVar[tuple[str, ...]] = ("targets",)
    adds_eos: ClassVar[bool] = False
    writes: ClassVar[tuple[str, ...]] = ("targets", "contexts", "cooccurrences")

    def __post_init__(self) -> None:
        if not 1 <= self.window <= MOST_WINDOW:
            raise TaskError(
                f"Cooccurrences.window is {self.window}: 1 to {MOST_WINDOW} words are counted."
            )
        choices = Weighting.__args__  # type: ignore[attr-defined]
        if self.weighting not in choices:
            raise TaskError(
                f"Cooccurrences.weighting is {self.weighting!r}: one of {', '.join(choices)}."
            )

    def bind(self, specs: VocabularySpecs) -> BoundObjective:
        """With the ids of the vocabulary of `targets` that are no words."""
        spec = specs["targets"]
        special = {0, spec["eos_id"], spec.get("unk_id"), *spec.get("special_ids", ())}
        if (first := spec.get("first_byte_id")) is not None:  # of words that are spelled
            special |= set(range(first, first + 256))
        return BoundCooccurrences(
            self.window,
            self.weighting,
            self.symmetric,
            int(spec["vocab_size"]),
            int(spec["eos_id"]),
            tuple(sorted(i for i in special if i is not None)),
        )


@dataclasses.dataclass(frozen=True)
class BoundCooccurrences:
    """`Cooccurrences` with a vocabulary's ids; the engine counts what it says.

    Attributes:
      window: see `Cooccurrences`.
      weighting: see `Cooccurrences`.
      symmetric: see `Cooccurrences`.
      vocab_size: ids are below it.
      eos_id: what ends a document.
      no_words: ids that are left out before words are counted.
    """

    window: int
    weighting: Weighting
    symmetric: bool
    vocab_size: int
    eos_id: int
    no_words: tuple[int, ...]

    reads: ClassVar[tuple[str, ...]] = ("targets", "contexts", "cooccurrences")
    writes: ClassVar[tuple[str, ...]] = Cooccurrences.writes
    document_eos: ClassVar[bool] = True
    counts_pairs: ClassVar[bool] = True

    @property
    def shortest_text(self) -> int:
        """Two words."""
        return 2

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int:
        """Pairs of an example."""
        return feature_length(task_feature_lengths, "targets")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The counted pairs as they are: `targets`, `contexts` int32, `cooccurrences` float32."""
        return {name: example[name] for name in self.writes}
