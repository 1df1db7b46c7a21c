"""Masked language modelling: some tokens are hidden, and predicted where they stood (BERT)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.objective import (
    BoundObjective,
    Example,
    VocabularySpecs,
    feature_length,
)
from tasks.objectives.special_tokens import (
    check_shares,
    find_boundary_ids,
    find_mask_id,
    ordinary_ids,
    share,
)


@dataclasses.dataclass(frozen=True)
class MaskedLM:
    """BERT's masking without its sentence pairs (Devlin et al. 2019, section 3.1, task 1).

    A row is `[CLS] text [SEP]`. `round(rate · length)` places are hidden, the special tokens
    counted in the length and never chosen; of these `mask_share` become [MASK], `random_share`
    any token of the vocabulary, special ones too, and the rest stay as they are, each drawn for
    itself. So the released code; `TokenMasking` draws each token independently.

    RoBERTa's released code differs in three things, each with a switch: how a number of places
    becomes whole, which may be chosen, and what a random token may be (Liu et al. 2019, section
    4.1; its places are drawn anew whenever a row is seen, as all are here).

    Attributes:
      rate: share of the row's tokens that are hidden.
      mask_share: share of the hidden tokens that become the mask.
      random_share: share of them that become a random token.
      max_predictions: most hidden tokens of a row; None is any number. The released code has 20
        for rows of 128 and 77 for rows of 512.
      whole_words: whether all pieces of a word are hidden together; a word that would go beyond
        the number is passed over.
      max_ngram: longest run of words, or of tokens, that is hidden together: runs of k are drawn
        with probabilities proportional to 1/k, and take as many as there is room for (Lan et al.
        2020, equation 1, and the released code). Runs do not overlap, and stay in a segment.
      run_weights: with `max_ngram`, how often runs of 1, 2, … are drawn, in any unit; None is in
        proportion to 1/k.
      continuation_ids: tokens that continue a word; None takes the vocabulary's (WordPiece's `##`).
      mask_id: the mask; None takes the vocabulary's, or else its first sentinel.
      randomized_count: whether the number of places is `rate · length` rounded up or down at
        random, so that it is right in the mean, and not to the nearest number and 1 at least.
      hides_special: whether the special tokens of a row may be chosen too.
      random_special: whether a random token may be a special one.
      rounded_up: whether the number of places is `rate · length` rounded up (Clark et al. 2020,
        section 2; SpanBERT's released code).
    """

    rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    max_predictions: int | None = None
    whole_words: bool = False
    max_ngram: int = 1
    run_weights: tuple[float, ...] | None = None
    continuation_ids: tuple[int, ...] | None = None
    mask_id: int | None = None
    randomized_count: bool = False
    hides_special: bool = False
    random_special: bool = True
    rounded_up: bool = False

    # The targets are whole rows with [SEP] at their end; no EOS is to follow.
    output_features: ClassVar[tuple[str, ...]] = ("targets",)
    adds_eos: ClassVar[bool] = False
    writes: ClassVar[tuple[str, ...]] = ("inputs", "targets", "loss_weights", "token_types")

    def __post_init__(self) -> None:
        name = type(self).__name__
        share(self.rate, f"{name}.rate")
        check_shares(self.mask_share, self.random_share, name)
        if self.max_predictions is not None and self.max_predictions < 1:
            raise TaskError(
                f"{name}.max_predictions is {self.max_predictions}: 1 or more is needed, or None."
            )
        if self.whole_words and self.hides_special:
            raise TaskError(
                f"{name}.hides_special is True: with {name}.whole_words only words are hidden; "
                "turn one of them off."
            )
        if self.rounded_up and self.randomized_count:
            raise TaskError(
                f"{name}.rounded_up and {name}.randomized_count are both True: a number is rounded "
                "in one way; turn one of them off."
            )
        if self.max_ngram < 1:
            raise TaskError(f"{name}.max_ngram is {self.max_ngram}: 1 or more is needed.")
        weights = self.run_weights
        if weights is not None and (len(weights) != self.max_ngram or min(weights) <= 0):
            raise TaskError(
                f"{name}.run_weights is {weights}: {self.max_ngram} numbers above 0 are needed, as "
                f"{name}.max_ngram says."
            )

    def bind(self, specs: VocabularySpecs) -> BoundObjective:
        """With the special tokens of the vocabulary of `targets`.

        Raises:
          TaskError: it lacks one of them, or does not say which tokens continue a word.
        """
        return BoundMaskedLM(*self._bound(specs["targets"]))

    def _bound(self, spec: Mapping[str, Any]) -> tuple["Masker", "Boundaries"]:
        name = type(self).__name__
        mask_id = find_mask_id(spec, self.mask_id, name)
        boundaries = self._boundaries(spec)
        continuation: np.ndarray | None = None
        if self.whole_words:
            ids = self.continuation_ids or spec.get("continuation_ids")
            if not ids:
                raise TaskError(
                    f"{name}.whole_words needs to know which tokens continue a word: the "
                    f"vocabulary names none, as WordPiece's ## does; set {name}.continuation_ids."
                )
            continuation = np.asarray(ids, np.int32)
        random_ids = np.arange(spec["vocab_size"], dtype=np.int32)
        if not self.random_special:
            random_ids = np.setdiff1d(ordinary_ids(spec), [*boundaries.ids, mask_id])
        masker = Masker(
            self.rate, self.mask_share, self.random_share, self.max_predictions, mask_id,
            random_ids, () if self.hides_special else boundaries.ids, continuation,
            self.randomized_count, self.max_ngram, self.rounded_up, self.run_weights,
        )  # fmt: skip
        return masker, boundaries

    def _boundaries(self, spec: Mapping[str, Any]) -> "Boundaries":
        """What stands around segments."""
        return Boundaries(*find_boundary_ids(spec, type(self).__name__), spec["eos_id"])


@dataclasses.dataclass(frozen=True)
class Boundaries:
    """What stands around segments.

    Attributes:
      cls_id: before the first.
      sep_id: after each.
      eos_id: between the documents of a stream.
    """

    cls_id: int
    sep_id: int
    eos_id: int

    @property
    def ids(self) -> tuple[int, ...]:
        """All of them, none of which is ever hidden."""
        return (self.cls_id, self.sep_id, self.eos_id)

    def row(self, *segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`[CLS] A [SEP] B [SEP]`, int32, and the number of the segment of each token, from 0."""
        ends = np.array([self.sep_id], np.int32)
        parts = [np.concatenate([segment, ends]) for segment in segments]
        parts[0] = np.concatenate([np.array([self.cls_id], np.int32), parts[0]])
        types = np.repeat(np.arange(len(parts), dtype=np.int32), [part.size for part in parts])
        return np.concatenate(parts).astype(np.int32), types


class ReadsTexts:
    """A bound objective whose rows are texts between boundaries."""

    boundaries: Boundaries

    def row_of_text(self, text: np.ndarray) -> Example:
        """The row of a text at hand, `[CLS] text [SEP]`, in which nothing is hidden.

        Args:
          text: int `[t]`.

        Returns:
          `inputs` and `token_types`, int32 `[t + 2]`.
        """
        row, types = self.boundaries.row(np.asarray(text, np.int32))
        return {"inputs": row, "token_types": types}


@dataclasses.dataclass(frozen=True, eq=False)
class Masker:
    """Masking with ids; made by `MaskedLM.bind`.

    Attributes:
      rate: see `MaskedLM`.
      mask_share: see `MaskedLM`.
      random_share: see `MaskedLM`.
      max_predictions: see `MaskedLM`.
      mask_id: see `MaskedLM`.
      random_ids: int32, what random tokens are drawn from.
      kept: tokens that are never hidden.
      continuation: int32, tokens that continue a word; None hides token by token.
      randomized_count: see `MaskedLM`.
      max_ngram: see `MaskedLM`.
      rounded_up: see `MaskedLM`.
      run_weights: see `MaskedLM`.
    """

    rate: float
    mask_share: float
    random_share: float
    max_predictions: int | None
    mask_id: int
    random_ids: np.ndarray
    kept: tuple[int, ...]
    continuation: np.ndarray | None = None
    randomized_count: bool = False
    max_ngram: int = 1
    rounded_up: bool = False
    run_weights: tuple[float, ...] | None = None

    def count(self, length: int, fraction: float | None = None) -> int:
        """How many of so many tokens are hidden: 19 of 128, 77 of 512; rounded up 20 and 77.

        Args:
          length: tokens of the row.
          fraction: what is added before the number is cut off, from 0 to 1; None rounds, and to 1
            at least.
        """
        if self.rounded_up:
            count = math.ceil(length * self.rate)
        elif fraction is None:
            count = max(1, round(length * self.rate))
        else:
            count = int(length * self.rate + fraction)
        return count if self.max_predictions is None else min(count, self.max_predictions)

    def places(self, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Which tokens of a row are hidden, int `[n]`, ascending."""
        count = self.drawn_count(row.size, rng)
        if self.max_ngram > 1:
            return self._runs(self.words(row), count, rng)
        if self.continuation is None:
            return np.sort(rng.permutation(self._candidates(row))[:count])
        words = self.words(row)
        chosen: list[int] = []
        for i in rng.permutation(len(words)):
            if len(chosen) + words[i].size <= count:
                chosen.extend(words[i])
        return np.sort(np.array(chosen, np.intp))

    def run_length(self, most: int, rng: np.random.Generator) -> int:
        """How many words are hidden together, of at most so many."""
        lengths = np.arange(1, min(most, self.max_ngram) + 1)
        weights = 1 / lengths if self.run_weights is None else np.array(self.run_weights)
        weights = weights[: lengths.size]
        return int(rng.choice(lengths, p=weights / weights.sum()))

    def drawn_count(self, length: int, rng: np.random.Generator) -> int:
        """`count`, with what it draws."""
        return self.count(length, rng.random() if self.randomized_count else None)

    def _candidates(self, row: np.ndarray) -> np.ndarray:
        """The places that may be hidden."""
        candidate = np.ones(row.size, np.bool_)
        for token in self.kept:
            candidate &= row != token
        return np.nonzero(candidate)[0]

    def words(self, row: np.ndarray) -> list[np.ndarray]:
        """The places that may be hidden, word by word, or each alone where words are not known."""
        places = self._candidates(row)
        if self.continuation is None or not places.size:
            return list(places[:, None])
        # A word begins where a piece does not continue one, or follows what is never hidden.
        begins = ~np.isin(row[places], self.continuation)
        begins[1:] |= np.diff(places) > 1
        begins[0] = True
        return np.split(places, np.nonzero(begins)[0][1:])

    def _runs(self, words: list[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
        """Places of runs of words that do not overlap."""
        chosen: set[int] = set()
        for i in rng.permutation(len(words)):
            if len(chosen) >= count:
                break
            most = 1
            while most < self.max_ngram and i + most < len(words):
                if words[i + most][0] != words[i + most - 1][-1] + 1:
                    break
                most += 1
            length = self.run_length(most, rng)
            run = np.concatenate(words[i : i + length])
            while length > 1 and len(chosen) + run.size > count:
                length -= 1
                run = np.concatenate(words[i : i + length])
            if len(chosen) + run.size <= count and chosen.isdisjoint(run.tolist()):
                chosen.update(run.tolist())
        return np.array(sorted(chosen), np.intp)

    def hide(self, row: np.ndarray, places: np.ndarray, rng: np.random.Generator) -> Example:
        """The row with these places hidden, the row itself, and 1 at the places.

        Returns:
          `inputs`, `targets` and `loss_weights`, int32 of the row's length.
        """
        inputs, weights = row.copy(), np.zeros_like(row)
        weights[places] = 1
        fate = rng.random(places.size)
        random = (fate >= self.mask_share) & (fate < self.mask_share + self.random_share)
        inputs[places[fate < self.mask_share]] = self.mask_id
        drawn = rng.integers(self.random_ids.size, size=int(random.sum()))
        inputs[places[random]] = self.random_ids[drawn]
        return {"inputs": inputs, "targets": row, "loss_weights": weights}

    def shown(self, span: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What a span that is hidden as one becomes, int32 of its length."""
        fate = rng.random()
        if fate < self.mask_share:
            return np.full_like(span, self.mask_id)
        if fate < self.mask_share + self.random_share:
            return self.random_ids[rng.integers(self.random_ids.size, size=span.size)]
        return span

    def __call__(self, row: np.ndarray, rng: np.random.Generator) -> Example:
        """`hide` at `places`."""
        return self.hide(row, self.places(row, rng), rng)


@dataclasses.dataclass(frozen=True, eq=False)
class BoundMaskedLM(ReadsTexts):
    """Masked language modelling with ids; made by `MaskedLM.bind`.

    Attributes:
      mask: hides tokens.
      boundaries: stand around the text.
    """

    mask: Masker
    boundaries: Boundaries

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = MaskedLM.writes
    document_eos: ClassVar[bool] = True

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """What fits between [CLS] and [SEP]."""
        return longest_text(task_feature_lengths, 2, "MaskedLM")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """`targets` int32 `[t]` to `MaskedLM.writes`, each `[t + 2]`."""
        row, types = self.boundaries.row(np.asarray(example["targets"], np.int32))
        return {**self.mask(row, rng), "token_types": types}


def longest_text(task_feature_lengths: Mapping[str, int], special: int, name: str) -> int:
    """Tokens of text in a row of `targets` that has so many special ones.

    Raises:
      TaskError: there is no room for two.
    """
    length = feature_length(task_feature_lengths, "targets")
    if length < special + 2:
        raise TaskError(
            f"TASK_FEATURE_LENGTHS['targets'] is {length}: {name} needs {special + 2} or more."
        )
    return length - special
