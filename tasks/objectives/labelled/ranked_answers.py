"""A prompt and ranked answers to it: a row for each answer, and their ranks."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.labelled.segments import LabelledSegments
from tasks.objectives.objective import Example, VocabularySpecs, feature_length
from tasks.objectives.special_tokens import find_boundary_ids

PROMPT, ANSWERS, RANKS = "inputs", "answers", "ranks"


@dataclasses.dataclass(frozen=True)
class RankedAnswers:
    """The prompt and each answer as a row, and the answers' ranks (Ouyang et al. 2022, 3.5).

    A decoder's row is what it reads first, the prompt, the answer and EOS, as in training; an
    encoder's is `[CLS] prompt [SEP] answer [SEP]`. An answer that is too long loses its end, and
    has no EOS then; a prompt loses its beginning, for every answer as much as the longest of them
    needs. Answers whose rows are the same have the same rank. The length of the feature `answers`
    in TASK_FEATURE_LENGTHS is the most answers that a prompt may have.

    Attributes:
      segments: whether rows are an encoder's.
    """

    segments: bool = False

    output_features: ClassVar[tuple[str, ...]] = (PROMPT, ANSWERS)
    adds_eos: ClassVar[bool] = False
    writes: ClassVar[tuple[str, ...]] = (PROMPT, ANSWERS, "token_types", "answer_sizes", RANKS)

    def bind(self, specs: VocabularySpecs) -> "BoundRankedAnswers":
        """With the special tokens of the vocabulary of `inputs`.

        Raises:
          TaskError: an encoder's row, and a vocabulary without tokens to begin and end it.
        """
        spec = specs[PROMPT]
        if not self.segments:
            return BoundRankedAnswers(
                (spec.get("start_id", 0),), (), (spec["eos_id"],), ends_whole=True
            )
        cls_id, sep_id = find_boundary_ids(spec, type(self).__name__)
        separators = LabelledSegments(True).bind(specs).separators
        return BoundRankedAnswers((cls_id,), (sep_id,) * separators, (sep_id,))


@dataclasses.dataclass(frozen=True, eq=False)
class BoundRankedAnswers:
    """Rows with ids; made by `RankedAnswers.bind`.

    Attributes:
      begin: tokens before the prompt.
      between: tokens between prompt and answer, of the prompt's type.
      end: tokens after the answer, of the answer's.
      ends_whole: whether `end` says that an answer is whole, and stands after no other.
      length: most tokens of a row; None for any number.
      most: answers of a prompt; None for any number.
    """

    begin: tuple[int, ...]
    between: tuple[int, ...]
    end: tuple[int, ...]
    ends_whole: bool = False
    length: int | None = None
    most: int | None = None

    reads: ClassVar[tuple[str, ...]] = (PROMPT, ANSWERS, f"{ANSWERS}_sizes", RANKS)
    writes: ClassVar[tuple[str, ...]] = RankedAnswers.writes
    tables: ClassVar[tuple[str, ...]] = (PROMPT, "token_types")
    document_eos: ClassVar[bool] = False
    texts: ClassVar[tuple[str, ...]] = (PROMPT, ANSWERS)
    counts_excess: ClassVar[bool] = True

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> None:
        """Texts stay whole."""

    def of_length(self, task_feature_lengths: Mapping[str, int]) -> "BoundRankedAnswers":
        """The same for rows of the length that `inputs` has, and as many as `answers` says.

        Raises:
          TaskError: a row has no room for a token of each text, or fewer than two answers.
        """
        length = feature_length(task_feature_lengths, PROMPT)
        needed = self._around + 2
        if length < needed:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['{PROMPT}'] is {length}: {needed} or more is needed, with "
                "what stands around prompt and answer."
            )
        most = feature_length(task_feature_lengths, ANSWERS)
        return dataclasses.replace(self, length=length, most=most)

    @property
    def _around(self) -> int:
        return len(self.begin) + len(self.between) + len(self.end)

    @property
    def room(self) -> int | None:
        """Most tokens of the prompt and an answer together; None for any number."""
        return None if self.length is None else self.length - self._around

    def excess(self, example: Example) -> int:
        """How many tokens of the prompt and its longest answer a row has no room for."""
        if self.room is None:
            return 0
        longest = np.max(example[f"{ANSWERS}_sizes"], initial=0)
        return max(0, int(example[PROMPT].size + longest) - self.room)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The rows.

        Args:
          example: the prompt, int `[t]`; the ids of all answers, int `[a]`, and how many of them
            each has, int `[answers]`; `ranks`, int `[answers]`, or none where they are judged.
          rng: nothing is drawn.

        Returns:
          `inputs` and `token_types` (0 up to the answer, then 1), int32 `[answers, longest]`, with
          zeros behind shorter rows; `answers`, how many tokens each row has, and `answer_sizes`,
          how many of its last ones are the answer and its end, int32 `[answers]`; `ranks`, int32
          `[answers]`, 0 where the example has none.

        Raises:
          TaskError: more answers than TASK_FEATURE_LENGTHS says.
        """
        sizes = np.asarray(example[f"{ANSWERS}_sizes"], np.int32)
        if self.most is not None and sizes.size > self.most:
            raise TaskError(
                f"a prompt has {sizes.size} answers: TASK_FEATURE_LENGTHS['{ANSWERS}'] is "
                f"{self.most}; give as many as the prompt with the most of them has."
            )
        answers = np.split(np.asarray(example[ANSWERS], np.int32), np.cumsum(sizes)[:-1])
        prompt = np.asarray(example[PROMPT], np.int32)
        if self.room is not None:
            longest = min(int(sizes.max(initial=0)), self.room)
            prompt = prompt[max(0, prompt.size + longest - self.room) :]
        made = [self._row(prompt, answer) for answer in answers]
        lengths = np.array([row.size for row, _ in made], np.int32)
        of_answers = np.array([size for _, size in made], np.int32)
        rows, types = (np.zeros((len(made), lengths.max()), np.int32) for _ in range(2))
        for i, (row, size) in enumerate(made):
            rows[i, : row.size] = row
            types[i, row.size - size : row.size] = 1
        ranks = np.array(example.get(RANKS, np.zeros_like(sizes)), np.int32)
        for i, (row, _) in enumerate(made):  # what is the same after a cut is no pair
            same = (j for j in range(i) if np.array_equal(made[j][0], row))
            if (first := next(same, None)) is not None:
                ranks[i] = ranks[first]
        written = (rows, lengths, types, of_answers, ranks)
        return dict(zip(self.writes, written, strict=True))

    def _row(self, prompt: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, int]:
        """The row, and how many of its last tokens are the answer and its end."""
        whole = self.room is None or answer.size <= self.room
        end = self.end if whole or not self.ends_whole else ()
        answer = answer[: self.room]
        parts = (self.begin, prompt, self.between, answer, end)
        return np.concatenate(parts).astype(np.int32), answer.size + len(end)
