"""Rows of an encoder's objective with the number of the sentence that each token is of."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.objective import BoundObjective, Example, Objective, VocabularySpecs
from tasks.objectives.special_tokens import find_boundary_ids, find_full_stop_ids

SENTENCES = "sentence_ids"


@dataclasses.dataclass(frozen=True)
class NumberedSentences:
    """What another objective gives, and `sentence_ids`, for global tokens that stand for sentences.

    As long as the row and counted from 1 through it (Ainslie et al. 2020, section 3.2). A sentence
    ends after a run of full stops, and where [CLS], [SEP] or the end of a document stands; these
    are of none, 0. Sentences are those of the text itself, whatever is hidden of it.

    Attributes:
      objective: makes rows, such as `MaskedLM` or `SpanWindows`; it has an example a row.
      full_stop_ids: tokens that end sentences; None takes the vocabulary's tokens of full stops
        alone. For source code the end of a line is a better one (13 in bytes).
      token_types: types of the tokens that are of sentences, such as `(1,)`, which leaves out a
        question before a text; None is all.
    """

    objective: Objective
    full_stop_ids: tuple[int, ...] | None = None
    token_types: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        written = self.objective.writes
        if "token_types" not in written or {"choices", "answers"} & set(written):
            raise TaskError(
                f"NumberedSentences.objective is {type(self.objective).__name__}: one that makes "
                "one row of an encoder of an example is needed, such as MaskedLM or SpanWindows."
            )

    @property
    def writes(self) -> tuple[str, ...]:
        """What the objective writes, and the sentences."""
        return (*self.objective.writes, SENTENCES)

    def __getattr__(self, name: str) -> Any:
        """What else the engine asks of an objective, such as which features are text."""
        return _of_wrapped(self, name)

    def bind(self, specs: VocabularySpecs) -> "SentenceNumberer":
        """With the full stops and special tokens of the vocabulary of the row.

        Raises:
          TaskError: it lacks some of them; and as the objective.
        """
        # What stands in a row where nothing is hidden.
        row = "targets" if "targets" in self.objective.writes else "inputs"
        spec = specs[row]
        stops = find_full_stop_ids(spec, self.full_stop_ids, "NumberedSentences")
        around = (*find_boundary_ids(spec, "NumberedSentences"), spec["eos_id"])
        bound = self.objective.bind(specs)
        return SentenceNumberer(bound, row, stops, around, self.token_types)


@dataclasses.dataclass(frozen=True, eq=False)
class SentenceNumberer:
    """Numbering with ids; made by `NumberedSentences.bind`.

    Attributes:
      objective: makes rows.
      row: the feature that holds a row in which nothing is hidden.
      stops: tokens that end sentences.
      around: tokens between sentences, which are of none.
      token_types: see `NumberedSentences`.
    """

    objective: BoundObjective
    row: str
    stops: tuple[int, ...]
    around: tuple[int, ...]
    token_types: tuple[int, ...] | None

    @property
    def reads(self) -> tuple[str, ...]:
        """What the objective reads."""
        return self.objective.reads

    @property
    def document_eos(self) -> bool:
        """As the objective says."""
        return self.objective.document_eos

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """As the objective says."""
        return self.objective.chunk_length(task_feature_lengths)

    @property
    def writes(self) -> tuple[str, ...]:
        """What the objective writes, and the sentences."""
        return (*self.objective.writes, SENTENCES)

    def __getattr__(self, name: str) -> Any:
        """What else the engine asks of an objective."""
        found = _of_wrapped(self, name)
        if name == "of_length":
            return lambda lengths: dataclasses.replace(self, objective=found(lengths))
        if name == "row_of_text":
            return lambda text: self._with_numbers(found(text), "inputs")
        return found

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The objective's example, and `sentence_ids`, int32 `[n]`."""
        return self._with_numbers(self.objective(example, rng), self.row)

    def _with_numbers(self, made: Example, feature: str) -> Example:
        row = made[feature]
        none = np.isin(row, self.around)
        if self.token_types is not None:
            none |= ~np.isin(made["token_types"], self.token_types)
        return {**made, SENTENCES: sentence_ids(np.isin(row, self.stops), none)}


def sentence_ids(stops: np.ndarray, none: np.ndarray) -> np.ndarray:
    """Numbers of sentences from 1, int32 `[n]`, 0 of what is of none.

    Args:
      stops: whether each token ends a sentence, of several side by side the last does, bool `[n]`.
      none: whether it stands between sentences, bool `[n]`.
    """
    ended = none | (stops & ~np.append(stops[1:], False))
    begins = ~none & np.insert(ended[:-1], 0, True)[: none.size]
    return np.where(none, 0, begins.cumsum()).astype(np.int32)


def _of_wrapped(wrapper: Any, name: str) -> Any:
    # A copy that is being unpickled has no objective yet, and would look for it here.
    if name.startswith("__") or name == "objective":
        raise AttributeError(name)
    return getattr(wrapper.objective, name)
