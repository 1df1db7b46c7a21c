"""Hidden tokens in rows that are seen in four ways: UniLM's pre-training."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.masked_lm import Boundaries
from tasks.objectives.objective import Example, VocabularySpecs
from tasks.objectives.sentence_pairs import (
    NextSentenceMaker,
    SentenceOrderMaker,
    SentencePairs,
    truncated,
)

# How a row is seen, in `mask_kind`, in the order of `UnifiedLM.kind_weights`.
BIDIRECTIONAL, LEFT_TO_RIGHT, RIGHT_TO_LEFT, SEQUENCE_TO_SEQUENCE = range(4)


@dataclasses.dataclass(frozen=True)
class UnifiedLM(SentencePairs):
    """Masked language modelling in four kinds of rows (Dong et al. 2019, section 2.3).

    Each row draws its kind, `mask_kind`: 0 two segments that are seen in both directions, with
    BERT's `pair_label`; 1 and 2 a single one, seen from the left or from the right; 3 two that
    follow each other, of which the first is seen in both directions and the second from the left.
    `prefix_length` is that of the first with what stands around it, and 0 in other rows. The paper
    draws a kind for each batch, in the same shares.

    A row is `[SOS] A [EOS] B [EOS]`: the vocabulary's start token and its end token, with which it
    begins and ends generated text as well.

    Attributes:
      max_ngram: longest run of tokens that is hidden together.
      run_weights: how often a run has 1, 2, … tokens: a single one in 80%.
      kind_weights: how often a row is of each kind, in any unit.
    """

    max_ngram: int = 3
    run_weights: tuple[float, ...] | None = (0.8, 0.1, 0.1)
    kind_weights: tuple[float, ...] = (2, 1, 1, 2)

    writes: ClassVar[tuple[str, ...]] = (*SentencePairs.writes, "mask_kind", "prefix_length")

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = self.kind_weights
        if len(weights) != 4 or min(weights) < 0 or not sum(weights):
            raise TaskError(
                f"UnifiedLM.kind_weights is {weights}: four numbers are needed, both directions, "
                "from the left, from the right and of pairs, none of them below 0."
            )

    def _boundaries(self, spec: Any) -> Boundaries:
        """The start token and the end token, which a segment ends with too."""
        return Boundaries(spec.get("start_id", 0), spec["eos_id"], spec["eos_id"])

    def bind(self, specs: VocabularySpecs) -> "UnifiedMaker":
        """With the special tokens and full stops of the vocabulary of `targets`.

        Raises:
          TaskError: it lacks some of them.
        """
        parts = self._parts(specs)
        return UnifiedMaker(
            *parts,
            self.random_next_share,
            self.single_sentences,
            tuple(weight / sum(self.kind_weights) for weight in self.kind_weights),
            SentenceOrderMaker(*parts, 0.0),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class UnifiedMaker(NextSentenceMaker):
    """Rows of four kinds with ids; made by `UnifiedLM.bind`.

    Attributes:
      kind_shares: share of the rows of each kind.
      in_order: makes segments that follow each other.
    """

    kind_shares: tuple[float, ...] = ()
    in_order: SentenceOrderMaker | None = None

    objective: ClassVar[str] = "UnifiedLM"
    writes: ClassVar[tuple[str, ...]] = UnifiedLM.writes

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """A piece of text, and of another place, to a row.

        Args:
          example: `targets` and `other_targets`, int32 `[t]`.
          rng: of all that is drawn.

        Returns:
          `UnifiedLM.writes`, without `pair_label` but for rows that are seen in both directions:
          int32 `[n]`, n at most `t / 2 + 3`; `pair_label`, `mask_kind` and `prefix_length` `[]`.
        """
        kind = int(rng.choice(4, p=self.kind_shares))
        if kind == BIDIRECTIONAL:
            made = super().__call__(example, rng)
            return {**made, **_scalars(mask_kind=kind, prefix_length=0)}
        segments: tuple[np.ndarray, ...]
        longest = max(np.size(example["targets"]) // 2, 2)
        if kind == SEQUENCE_TO_SEQUENCE:
            assert self.in_order is not None
            first, second, _ = self.in_order.segments(example, longest, rng)
            segments = truncated(first, second, longest, rng)
            prefix = segments[0].size + 2
        else:
            # A token more, where there is one end token less.
            piece = np.asarray(example["targets"], np.int32)
            sentences = self._some_sentences(piece, self._wanted(longest + 1, rng), rng)
            text = np.concatenate([*sentences, np.zeros(0, np.int32)])
            segments, prefix = (text[: longest + 1],), 0
        row, types = self.boundaries.row(*segments)
        made = {**self.mask(row, rng), "token_types": types}
        return {**made, **_scalars(mask_kind=kind, prefix_length=prefix)}


def _scalars(**values: int) -> Example:
    return {name: np.array(value, np.int32) for name, value in values.items()}
