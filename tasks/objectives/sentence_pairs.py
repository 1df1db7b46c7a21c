"""Masked language modelling of two segments: BERT's, which may follow each other, and ALBERT's."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.corruptions import SentencePermuter
from tasks.objectives.masked_lm import Boundaries, MaskedLM, Masker, ReadsTexts, longest_text
from tasks.objectives.objective import Example, VocabularySpecs
from tasks.objectives.special_tokens import find_full_stop_ids


@dataclasses.dataclass(frozen=True)
class TwoSegments(MaskedLM):
    """What objectives of two segments share: rows of `[CLS] A [SEP] B [SEP]`, cut at sentences.

    A piece of the stream is about twice as long as a row, so that both segments begin with a
    sentence whatever the label; only the longest part of it that is of one document is read.

    Attributes:
      short_probability: share of the rows whose length is drawn from 2 up.
      full_stop_ids: tokens that end sentences; None takes the vocabulary's tokens of full stops
        alone. For source code the end of a line is a better one (13 in bytes).
    """

    short_probability: float = 0.1
    full_stop_ids: tuple[int, ...] | None = None

    writes: ClassVar[tuple[str, ...]] = (*MaskedLM.writes, "pair_label")
    shares: ClassVar[tuple[str, ...]] = ("short_probability",)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.shares:
            if not 0 <= getattr(self, name) <= 1:
                raise TaskError(
                    f"{type(self).__name__}.{name} is {getattr(self, name)}: from 0 to 1 is needed."
                )

    def _parts(self, specs: VocabularySpecs) -> tuple[Masker, Boundaries, SentencePermuter, float]:
        """What `PairMaker` has, with the special tokens and full stops of `targets`."""
        spec = specs["targets"]
        stops = find_full_stop_ids(spec, self.full_stop_ids, type(self).__name__)
        return *self._bound(spec), SentencePermuter(stops), self.short_probability


@dataclasses.dataclass(frozen=True)
class SentencePairs(TwoSegments):
    """Masked language modelling and next-sentence prediction (Devlin et al. 2019, section 3.1).

    A row is `[CLS] A [SEP] B [SEP]`. A is the first of some sentences of a text, cut at random; B
    is what follows (`pair_label` 0) or, in half of the rows, sentences of another place (1).
    Together they have as many tokens as the row allows, or in a tenth of the rows any fewer.
    The released code's `create_pretraining_data.py`, but for the places: it walks a document from
    its beginning to its end and keeps what B replaced for the next row, where here each row draws
    its place, one with two sentences or more if the text has any. The other place may, seldom, be
    of the same document.

    These are RoBERTa's SEGMENT-PAIR rows; with `single_sentences` they are its SENTENCE-PAIR rows,
    in which each segment is one sentence (Liu et al. 2019, section 4.2). Such rows are short:
    the paper has more of them in a batch.

    Attributes:
      random_next_share: share of the rows whose B is of another place.
      single_sentences: whether each segment is one sentence.
    """

    random_next_share: float = 0.5
    single_sentences: bool = False

    shares: ClassVar[tuple[str, ...]] = ("short_probability", "random_next_share")

    def bind(self, specs: VocabularySpecs) -> "NextSentenceMaker":
        """With the special tokens and full stops of the vocabulary of `targets`.

        Raises:
          TaskError: it lacks some of them.
        """
        return NextSentenceMaker(*self._parts(specs), self.random_next_share, self.single_sentences)


@dataclasses.dataclass(frozen=True)
class SentenceOrder(TwoSegments):
    """Masked language modelling and sentence-order prediction (Lan et al. 2020, section 3.1).

    A row is `[CLS] A [SEP] B [SEP]` of two segments that follow each other in a text, cut between
    sentences at random; a text of a single sentence is cut within it. In half of the rows the
    second stands first (`pair_label` 1; 0 for those in order).

    Attributes:
      swapped_share: share of the rows whose segments are swapped.
    """

    swapped_share: float = 0.5

    shares: ClassVar[tuple[str, ...]] = ("short_probability", "swapped_share")

    def bind(self, specs: VocabularySpecs) -> "SentenceOrderMaker":
        """With the special tokens and full stops of the vocabulary of `targets`.

        Raises:
          TaskError: it lacks some of them.
        """
        return SentenceOrderMaker(*self._parts(specs), self.swapped_share)


@dataclasses.dataclass(frozen=True, eq=False)
class PairMaker(ReadsTexts):
    """Two segments with ids; a subclass chooses them.

    Attributes:
      mask: hides tokens of a row; a `Masker`, or what begins with one.
      boundaries: stand around the segments.
      cut: knows where sentences end.
      short_probability: see `TwoSegments`.
    """

    mask: Callable[[np.ndarray, np.random.Generator], Example]
    boundaries: Boundaries
    cut: SentencePermuter
    short_probability: float

    objective: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = TwoSegments.writes
    document_eos: ClassVar[bool] = True

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """Twice what fits beside [CLS] and two [SEP]."""
        return 2 * longest_text(task_feature_lengths, 3, self.objective)

    def segments(
        self, example: Example, longest: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """The two segments of a row of at most `longest` tokens, not yet cut to it; their label."""
        raise NotImplementedError

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """A piece of text, and of another place where it is asked for, to a row.

        Args:
          example: `targets`, and `other_targets` if `draws_other`, int32 `[t]`.
          rng: of all that is drawn.

        Returns:
          `TwoSegments.writes`: int32 `[n]`, n at most `t / 2 + 3`, and `pair_label`, int32 `[]`.
        """
        longest = max(np.size(example["targets"]) // 2, 2)
        first, second, label = self.segments(example, longest, rng)
        row, types = self.boundaries.row(*truncated(first, second, longest, rng))
        made = {**self.mask(row, rng), "token_types": types}
        return {**made, "pair_label": np.array(label, np.int32)}

    def _wanted(self, longest: int, rng: np.random.Generator) -> int:
        """How many tokens the segments of a row are to have together."""
        if rng.random() < self.short_probability:
            return int(rng.integers(2, longest + 1))
        return longest

    def _some_sentences(
        self,
        piece: np.ndarray,
        wanted: int,
        rng: np.random.Generator,
        *,
        at_least_two: bool = False,
    ) -> list[np.ndarray]:
        """Sentences of one document from a random one on, until `wanted` tokens are there.

        With `at_least_two`, from one of those that leave room for another, if there are any.
        """
        sentences = self.cut.sentences(self._one_document(piece))
        sizes = np.array([sentence.size for sentence in sentences])
        starts = sizes.cumsum() - sizes
        # The first sentence of a piece has mostly lost its beginning. A start with less than
        # is wanted after it would tell a random place by its length.
        left = sizes.sum() - starts
        (fitting,) = np.nonzero(left >= wanted)
        if at_least_two and (short := sizes[fitting] < wanted).any():
            fitting = fitting[short]
        if fitting.size > 1 and fitting[0] == 0:
            fitting = fitting[1:]
        first = int(rng.choice(fitting)) if fitting.size else 0
        count = int(np.searchsorted(sizes[first:].cumsum(), wanted)) + 1
        return sentences[first : first + count]

    def _one_document(self, piece: np.ndarray) -> np.ndarray:
        """The longest part of a piece without an end of a document."""
        (ends,) = np.nonzero(piece == self.boundaries.eos_id)
        bounds = np.concatenate([[-1], ends, [piece.size]])
        i = int(np.argmax(np.diff(bounds)))
        return piece[bounds[i] + 1 : bounds[i + 1]]


@dataclasses.dataclass(frozen=True, eq=False)
class NextSentenceMaker(PairMaker):
    """Sentence pairs with ids; made by `SentencePairs.bind`.

    Attributes:
      random_next_share: see `SentencePairs`.
      single_sentences: see `SentencePairs`.
    """

    random_next_share: float
    single_sentences: bool = False

    objective: ClassVar[str] = "SentencePairs"
    draws_other: ClassVar[bool] = True

    def segments(
        self, example: Example, longest: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """What follows, or what is of another place (1)."""
        draw = self._two_sentences if self.single_sentences else self._two_segments
        first, second, is_random = draw(example, longest, rng)
        return first, second, int(is_random)

    def _two_segments(
        self, example: Example, longest: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Some sentences, those that follow or some of another place, and whether of another."""
        wanted = self._wanted(longest, rng)
        piece = np.asarray(example["targets"], np.int32)
        sentences = self._some_sentences(piece, wanted, rng, at_least_two=True)
        # Of a single sentence nothing is left that could follow.
        drawn = rng.random() < self.random_next_share
        is_random = len(sentences) < 2 or drawn
        of_first = int(rng.integers(1, len(sentences))) if len(sentences) > 1 else 1
        first = np.concatenate(sentences[:of_first])
        if is_random:
            other = np.asarray(example["other_targets"], np.int32)
            following = self._some_sentences(other, max(wanted - first.size, 1), rng)
        else:
            following = sentences[of_first:]
        return first, np.concatenate(following), bool(is_random)

    def _two_sentences(
        self, example: Example, longest: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """A sentence, the next one or one of another place, and whether of another."""
        here, there = (
            self.cut.sentences(self._one_document(np.asarray(example[name], np.int32)))
            for name in ("targets", "other_targets")
        )
        # The first and the last sentence of a piece have mostly lost a part.
        here, there = (part[1:-1] if len(part) > 3 else part for part in (here, there))
        is_random = len(here) < 2 or rng.random() < self.random_next_share
        i = int(rng.integers(max(1, len(here) - 1)))
        # As the one that follows, it is the first of its place only where that has one alone.
        j = int(rng.integers(min(1, len(there) - 1), len(there)))
        return here[i], there[j] if is_random else here[i + 1], bool(is_random)


@dataclasses.dataclass(frozen=True, eq=False)
class SentenceOrderMaker(PairMaker):
    """Segments in their order or swapped, with ids; made by `SentenceOrder.bind`.

    Attributes:
      swapped_share: see `SentenceOrder`.
    """

    swapped_share: float

    objective: ClassVar[str] = "SentenceOrder"

    def segments(
        self, example: Example, longest: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """What follows, second or first (1)."""
        piece = np.asarray(example["targets"], np.int32)
        wanted = self._wanted(longest, rng)
        sentences = self._some_sentences(piece, wanted, rng, at_least_two=True)
        if len(sentences) == 1:
            sentences = list(sentences[0][:, None])
        nothing = np.zeros(0, np.int32)  # as of a piece that is the end of a document alone
        of_first = int(rng.integers(1, max(len(sentences), 2)))
        first = np.concatenate([*sentences[:of_first], nothing])
        second = np.concatenate([*sentences[of_first:], nothing])
        if rng.random() < self.swapped_share:
            return second, first, 1
        return first, second, 0


def truncated(
    first: np.ndarray, second: np.ndarray, longest: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two segments that have at most `longest` tokens together.

    As the released code: as long as they are too long, the longer one, the second of equals,
    loses its first or its last token, each with probability 1/2. Of the tokens that a segment
    loses, a binomial number are then its first ones.

    Args:
      first: int `[a]`.
      second: int `[b]`.
      longest: 2 or more.
      rng: of what is drawn.
    """
    sizes = shared_room(first.size, second.size, longest)
    cut = []
    for segment, size in zip((first, second), sizes, strict=True):
        front = int(rng.binomial(segment.size - size, 0.5))
        cut.append(segment[front : front + size])
    return cut[0], cut[1]


def shared_room(first: int, second: int, longest: int) -> tuple[int, int]:
    """How many tokens two segments keep if they may have `longest` together.

    As long as they are too long, the longer one, the second of equals, loses one.
    """
    kept = min(first, max(longest - second, (longest + 1) // 2))
    return kept, min(second, longest - kept)
