"""A question and a long text as rows for an encoder, with the place of the answer in each."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.labelled.segments import FIRST, SECOND, class_last
from tasks.objectives.masked_lm import Boundaries
from tasks.objectives.objective import Example, VocabularySpecs, feature_length
from tasks.objectives.special_tokens import find_boundary_ids

BEGINS, ENDS = f"{SECOND}_begins", f"{SECOND}_ends"
ANSWER_BEGINS, ANSWER_ENDS = "answer_begins", "answer_ends"
START, END, NO_ANSWER = "span_start", "span_end", "no_answer_place"


@dataclasses.dataclass(frozen=True)
class SpanWindows:
    """`[CLS] question [SEP] window [SEP]`: a text that is too long becomes several rows.

    Windows of the text are as long as the question leaves room for, and overlap (Devlin et al.
    2019, section 4.2; the released `run_squad.py`). A row whose window does not hold the whole
    answer has none, as has every row of a question without an answer. A token that is in several
    windows may begin an answer in that alone in which it has the most context: the largest
    `min(left, right) + .01 · width`.

    Attributes:
      stride: tokens from the beginning of a window to that of the next.
      question_length: most tokens of a question, which otherwise loses its end.
      separators: how many [SEP] stand before the window: 1, or RoBERTa's 2; None takes what the
        vocabulary's tokenizer puts between two texts, or else 1.
      cls_at_end: as of `LabelledSegments`; None takes what the vocabulary's tokenizer does.
    """

    stride: int = 128
    question_length: int = 64
    separators: int | None = None
    cls_at_end: bool | None = None

    output_features: ClassVar[tuple[str, ...]] = (FIRST,)
    adds_eos: ClassVar[bool] = False
    writes: ClassVar[tuple[str, ...]] = (
        FIRST, "token_types", "char_begins", "char_ends", "may_begin", START, END, NO_ANSWER
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.separators not in (None, 1, 2):
            raise TaskError(f"SpanWindows.separators is {self.separators}: 1 or 2 is needed.")
        for name in ("stride", "question_length"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise TaskError(f"SpanWindows.{name} is {value!r}: a whole number of 1 or more.")

    def bind(self, specs: VocabularySpecs) -> "BoundSpanWindows":
        """With the special tokens of the vocabulary of `inputs`.

        Raises:
          TaskError: it has none that could begin and end a row.
        """
        spec = specs[FIRST]
        ids = find_boundary_ids(spec, type(self).__name__)
        separators = self.separators or spec.get("pair_separators") or 1
        at_end = bool(spec.get("cls_at_end")) if self.cls_at_end is None else self.cls_at_end
        return BoundSpanWindows(self, Boundaries(*ids, spec["eos_id"]), separators, at_end)


@dataclasses.dataclass(frozen=True, eq=False)
class BoundSpanWindows:
    """Rows with ids; made by `SpanWindows.bind`.

    Attributes:
      settings: what it was made of.
      boundaries: stand around question and window.
      separators: how many of them stand before the window.
      cls_at_end: see `SpanWindows`.
      length: most tokens of a row; None for any number, and then there is one row.
    """

    settings: SpanWindows
    boundaries: Boundaries
    separators: int
    cls_at_end: bool = False
    length: int | None = None

    writes: ClassVar[tuple[str, ...]] = SpanWindows.writes
    document_eos: ClassVar[bool] = False
    texts: ClassVar[tuple[str, ...]] = (FIRST, SECOND)
    trimmed: ClassVar[tuple[str, ...]] = (FIRST,)
    reads: ClassVar[tuple[str, ...]] = (FIRST, SECOND, BEGINS, ENDS, ANSWER_BEGINS, ANSWER_ENDS)
    scalars: ClassVar[Mapping[str, type[np.generic]]] = dict.fromkeys(
        (START, END, NO_ANSWER), np.int32
    )

    @property
    def room(self) -> int:
        """Most tokens of what is trimmed, the question."""
        return self.settings.question_length

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> None:
        """Texts stay whole."""

    def of_length(self, task_feature_lengths: Mapping[str, int]) -> "BoundSpanWindows":
        """The same for rows of the length that `inputs` has.

        Raises:
          TaskError: the longest question leaves no room for the text.
        """
        length = feature_length(task_feature_lengths, FIRST)
        question = self.settings.question_length
        needed = self._around + question + 1
        if length < needed:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['{FIRST}'] is {length}: {needed} or more is needed, as "
                f"questions may have {question} tokens; SpanWindows.question_length says so."
            )
        return dataclasses.replace(self, length=length)

    @property
    def _around(self) -> int:
        """[CLS] and all [SEP] of a row."""
        return 2 + self.separators

    def row_counts(self, sizes: Mapping[str, np.ndarray]) -> np.ndarray:
        """How many rows each example becomes, int64 `[n]`.

        Args:
          sizes: tokens of question and text, int64 `[n]` each.
        """
        if self.length is None:
            return np.ones_like(sizes[FIRST])
        questions = np.minimum(sizes[FIRST], self.settings.question_length)
        width = self.length - self._around - questions
        step = np.minimum(self.settings.stride, width)
        return 1 + np.maximum(0, -(-(sizes[SECOND] - width) // step))

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """A row.

        Args:
          example: the question and the text, int `[t]` each; the characters of the text that each
            of its tokens stands for, from `inputs_pair_begins` to before `inputs_pair_ends`; those
            of the accepted answers, `answer_begins` and `answer_ends`, int `[k]`, none where there
            is no answer, and left out where nobody knows; `row`, which of its rows is meant.
          rng: nothing is drawn.

        Returns:
          What `SpanExtraction` reads: int32 `[n]`, and of rank 0 `span_start` and `span_end`, the
          first answer's place in the row, and `no_answer_place`, that of [CLS].
        """
        question = np.asarray(example[FIRST], np.int32)[: self.settings.question_length]
        text = np.asarray(example[SECOND], np.int32)
        starts, width = self._windows(question.size, text.size)
        number = int(example.get("row", 0))
        start = int(starts[number])
        window = text[start : start + width]
        row, types = self.boundaries.row(question, window)
        first = question.size + 2
        for _ in range(self.separators - 1):
            # Before the window, of the question's type.
            row, types = np.insert(row, first, self.boundaries.sep_id), np.insert(types, first, 0)
            first += 1
        no_answer = 0
        if self.cls_at_end:
            row, types = class_last(row, types)
            first, no_answer = first - 1, row.size - 1

        def placed(values: np.ndarray, elsewhere: int) -> np.ndarray:
            whole = np.full(row.size, elsewhere, np.int32)
            whole[first : first + window.size] = values
            return whole

        tokens = slice(start, start + window.size)
        begins, ends = (np.asarray(example[name], np.int32) for name in (BEGINS, ENDS))
        answer = _tokens_of_answer(example, begins, ends)
        span = (-1, -1) if answer is None else (no_answer, no_answer)
        if answer and start <= answer[0] and answer[1] < start + window.size:
            span = answer[0] - start + first, answer[1] - start + first
        return {
            FIRST: row,
            "token_types": types,
            "char_begins": placed(begins[tokens], -1),
            "char_ends": placed(ends[tokens], -1),
            "may_begin": placed(best_window(starts, width, text.size, number), 0),
            START: np.asarray(span[0], np.int32),
            END: np.asarray(span[1], np.int32),
            NO_ANSWER: np.asarray(no_answer, np.int32),
        }

    def _windows(self, question: int, text: int) -> tuple[np.ndarray, int]:
        """Where windows of the text begin, and how long they are."""
        if self.length is None:
            return np.zeros(1, np.int64), text
        sizes = {FIRST: np.array([question]), SECOND: np.array([text])}
        width = self.length - self._around - question
        return np.arange(self.row_counts(sizes)[0]) * min(self.settings.stride, width), width


def _tokens_of_answer(
    example: Example, begins: np.ndarray, ends: np.ndarray
) -> tuple[int, int] | tuple[()] | None:
    """The first and the last token of the first answer whose place is known.

    Nothing of a question without an answer; None where no answer's place is known, or no token
    stands for it.
    """
    if ANSWER_BEGINS not in example:
        return None
    answers = np.stack([example[ANSWER_BEGINS], example[ANSWER_ENDS]], axis=-1).reshape(-1, 2)
    if not answers.size:
        return ()
    known = answers[answers[:, 0] >= 0]
    if not known.size:
        return None
    begin, end = known[0]
    first, after = np.searchsorted(ends, begin, "right"), np.searchsorted(begins, end, "left")
    return (int(first), int(after) - 1) if first < after else None


def best_window(starts: np.ndarray, width: int, size: int, number: int) -> np.ndarray:
    """Whether a window is that in which each of its tokens has the most context, int32 `[t]`.

    The released code's `_check_is_max_context`: the largest `min(left, right) + .01 · width`, the
    first of equal ones.

    Args:
      starts: where all windows of a text begin, int `[w]`.
      width: of each but the last.
      size: tokens of the text.
      number: of the window that is asked for.
    """
    stops_w1 = np.minimum(starts + width, size)[:, None]
    starts_w1 = starts[:, None]
    tokens_t = np.arange(starts[number], stops_w1[number, 0])
    context_wt = np.minimum(tokens_t - starts_w1, stops_w1 - 1 - tokens_t)
    scores_wt = context_wt + 0.01 * (stops_w1 - starts_w1)
    scores_wt = np.where(context_wt >= 0, scores_wt, -np.inf)
    return (scores_wt.argmax(axis=0) == number).astype(np.int32)
