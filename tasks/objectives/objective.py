"""The interface of an objective."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tasks.errors import TaskError

Example = dict[str, np.ndarray]
VocabularySpecs = Mapping[str, Mapping[str, Any]]


class BoundObjective(Protocol):
    """An objective with the ids of a vocabulary: a function from example to example.

    An objective whose targets are not at positions 0, 1, 2, … also has `positioned`, the names
    of those features, and writes `NAME_positions` for each, int32 of the same length. One whose
    result depends on how long a row may be has `of_length(task_feature_lengths)`, which gives the
    objective for rows of these lengths. One that may leave documents whole, of whose parts rows are
    made, has `text_length(task_feature_lengths)`, the longest text whose rows fit: documents that
    are longer are cut to it first. One that writes numbers of rank 0 has `scalars`, their
    dtypes by name, and one that writes arrays of rank 2 `tables`, their names. One for encoders
    whose examples have no labels has `row_of_text(ids)`, the row of a text at hand.
    """

    @property
    def reads(self) -> tuple[str, ...]:
        """The features that it takes from the cached example, int32 `[t]` without EOS."""

    @property
    def writes(self) -> tuple[str, ...]:
        """The features that it gives, int32 without EOS; nothing else is passed on."""

    @property
    def document_eos(self) -> bool:
        """Whether EOS ends each document *before* documents are concatenated.

        No EOS is then appended to what the objective gives.
        """

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """A new example; the given one is not changed. All randomness comes from `rng`."""

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """The number of tokens of text in one example, or None if documents stay whole.

        If it is a number, documents are concatenated and cut into pieces of this length
        before the objective, so that its result fits `task_feature_lengths` (which include
        EOS) with the least padding.

        Raises:
          TaskError: no length fits.
        """


class Objective(Protocol):
    """The settings of an objective: a frozen dataclass of plain values or of such dataclasses.

    It has `positioned` where the bound objective has. If what it writes is not only the text of
    features but also weights and labels, `output_features` names the features; with
    `adds_eos = False` no EOS follows them. If it compares a text with another text of the split,
    the bound objective has `draws_other = True`, and reads `other_NAME` beside each feature NAME.
    """

    @property
    def writes(self) -> tuple[str, ...]:
        """The features that the bound objective gives."""

    def bind(self, specs: VocabularySpecs) -> BoundObjective:
        """The objective for vocabularies given as `Vocabulary.spec()`, by feature name.

        Raises:
          TaskError: the vocabulary lacks what the objective needs.
        """


def feature_length(lengths: Mapping[str, int], name: str) -> int:
    """The length that TASK_FEATURE_LENGTHS gives a feature.

    Raises:
      TaskError: there is none, or it has room for EOS only.
    """
    if name not in lengths:
        raise TaskError(
            f"TASK_FEATURE_LENGTHS has {sorted(lengths)}: a length of '{name}' is needed too."
        )
    if lengths[name] < 2:
        raise TaskError(f"TASK_FEATURE_LENGTHS['{name}'] is {lengths[name]}: 2 or more is needed.")
    return lengths[name]
