"""Masked language modelling of spans, which their boundaries are to restore too (SpanBERT)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.masked_lm import Boundaries, MaskedLM, Masker, ReadsTexts, longest_text
from tasks.objectives.objective import Example, VocabularySpecs


@dataclasses.dataclass(frozen=True)
class MaskedSpans(MaskedLM):
    """Hides spans of words (Joshi et al. 2020, section 3.1), in rows of `[CLS] text [SEP]`.

    The length of a span in words is drawn from a geometric distribution, cut off at `max_words` and
    scaled to sum to 1, of mean 3.8; its first word evenly. Spans are drawn until `rate` of the
    row's tokens is hidden, rounded up, special ones counted; the last ones are shortened to whole
    words that the number leaves room for. A span ends before one that is hidden already, and spans
    that touch are one, as in the released code. All tokens of a span become the mask, or any token
    each, or stay.

    Beside the features of `MaskedLM` it gives the places of the tokens beside each hidden token's
    span (`span_left`, `span_right`: [CLS] and [SEP] too, where the released code leaves such a span
    out), and the token's number in it from 1 (`span_offset`; 0 for what is not hidden).

    Attributes:
      whole_words: whether spans are of whole words; without it each token counts as one.
      success: the geometric distribution's probability that a word is the last.
      max_words: the longest span.
    """

    whole_words: bool = True
    rounded_up: bool = True
    success: float = 0.2
    max_words: int = 10

    writes: ClassVar[tuple[str, ...]] = (
        *MaskedLM.writes, "span_left", "span_right", "span_offset",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.success <= 1:
            raise TaskError(
                f"MaskedSpans.success is {self.success}: above 0, and 1 at most, is needed."
            )
        if self.max_words < 1:
            raise TaskError(f"MaskedSpans.max_words is {self.max_words}: 1 or more is needed.")
        if self.max_ngram > 1 or self.hides_special:
            raise TaskError(
                "MaskedSpans has no max_ngram, for which max_words stands, and no hides_special: "
                "what stands beside a span is never hidden."
            )

    def bind(self, specs: VocabularySpecs) -> "BoundMaskedSpans":
        """With the special tokens of the vocabulary of `targets`.

        Raises:
          TaskError: it lacks one of them, or does not say which tokens continue a word.
        """
        lengths = span_lengths(self.success, self.max_words)
        return BoundMaskedSpans(*self._bound(specs["targets"]), lengths)


def span_lengths(success: float, longest: int) -> np.ndarray:
    """The probabilities of spans of 1, 2, … words, float64 `[longest]`."""
    p = success * (1 - success) ** np.arange(longest)
    return p / p.sum()


@dataclasses.dataclass(frozen=True, eq=False)
class BoundMaskedSpans(ReadsTexts):
    """Spans with ids; made by `MaskedSpans.bind`.

    Attributes:
      mask: knows words, how many tokens are hidden, and what becomes of them.
      boundaries: stand around the text.
      lengths: see `span_lengths`.
    """

    mask: Masker
    boundaries: Boundaries
    lengths: np.ndarray

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = MaskedSpans.writes
    document_eos: ClassVar[bool] = True

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """What fits between [CLS] and [SEP]."""
        return longest_text(task_feature_lengths, 2, "MaskedSpans")

    def length(self, rng: np.random.Generator) -> int:
        """How many words the next span is to have."""
        return 1 + int(rng.choice(self.lengths.size, p=self.lengths))

    def spans(self, row: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
        """First and last place of each hidden span, ascending, none beside another."""
        words = self.mask.words(row)
        hidden = np.zeros(row.size + 1, np.bool_)
        left = self.mask.drawn_count(row.size, rng)
        for i in rng.permutation(len(words)):
            if not left:
                break
            end = words[i][0]
            for word in words[i : i + self.length(rng)]:
                # After [SEP] another text begins.
                if word[0] != end or hidden[end] or word.size > left:
                    break
                hidden[word] = True
                left -= word.size
                end = word[-1] + 1
        changes = np.diff(hidden.astype(np.int8), prepend=0)
        starts, ends = np.nonzero(changes == 1)[0], np.nonzero(changes == -1)[0]
        return [(int(first), int(end) - 1) for first, end in zip(starts, ends, strict=True)]

    def hide(
        self, row: np.ndarray, spans: list[tuple[int, int]], rng: np.random.Generator
    ) -> Example:
        """The row with these spans hidden.

        Args:
          row: int32 `[n]`.
          spans: first and last place of each.
          rng: of what becomes of them.

        Returns:
          What `MaskedSpans` writes but the types, int32 `[n]`.
        """
        inputs = row.copy()
        made = {name: np.zeros_like(row) for name in ("span_left", "span_right", "span_offset")}
        for first, last in spans:
            own = slice(first, last + 1)
            inputs[own] = self.mask.shown(row[own], rng)
            made["span_left"][own], made["span_right"][own] = first - 1, last + 1
            made["span_offset"][own] = np.arange(1, last - first + 2)
        weights = (made["span_offset"] > 0).astype(np.int32)
        return {"inputs": inputs, "targets": row, "loss_weights": weights, **made}

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """`targets` int32 `[t]` to `MaskedSpans.writes`, each int32 `[t + 2]`."""
        row, types = self.boundaries.row(np.asarray(example["targets"], np.int32))
        return {**self.hide(row, self.spans(row, rng), rng), "token_types": types}
