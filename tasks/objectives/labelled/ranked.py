"""A query and its candidates as rows for an encoder, and which candidate is relevant."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.forms.ranked import candidate_features
from tasks.objectives.labelled.segments import (
    FIRST,
    LABEL,
    SECOND,
    BoundLabelledSegments,
    LabelledSegments,
)
from tasks.objectives.objective import Example, VocabularySpecs


@dataclasses.dataclass(frozen=True)
class RankedSegments:
    """Of a query and its candidates a row `[CLS] query [SEP] candidate [SEP]` each.

    Attributes:
      candidates: how many.
      separators: see `LabelledSegments`.
    """

    candidates: int
    separators: int | None = None

    output_features: ClassVar[tuple[str, ...]] = (FIRST,)
    adds_eos: ClassVar[bool] = False
    writes: ClassVar[tuple[str, ...]] = (
        *(FIRST, "token_types", LABEL),
        *("further_inputs", "further_token_types", "further_sizes"),
    )

    def bind(self, specs: VocabularySpecs) -> "BoundRankedSegments":
        """With the special tokens of the vocabulary of `inputs`.

        Raises:
          TaskError: as `LabelledSegments.bind`.
        """
        pairs = LabelledSegments(pair=True, separators=self.separators).bind(specs)
        return BoundRankedSegments(self.candidates, pairs)


@dataclasses.dataclass(frozen=True, eq=False)
class BoundRankedSegments:
    """Rows with ids; made by `RankedSegments.bind`.

    Attributes:
      candidates: how many.
      pairs: makes each row.
    """

    candidates: int
    pairs: BoundLabelledSegments

    writes: ClassVar[tuple[str, ...]] = RankedSegments.writes
    document_eos: ClassVar[bool] = False
    scalars: ClassVar[Mapping[str, type[np.generic]]] = {LABEL: np.int32}

    @property
    def reads(self) -> tuple[str, ...]:
        """The query, the candidates, and the label."""
        return (FIRST, *candidate_features(self.candidates), LABEL)

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> None:
        """Texts stay whole."""

    def of_length(self, task_feature_lengths: Mapping[str, int]) -> "BoundRankedSegments":
        """The same for rows of the length that `inputs` has.

        Raises:
          TaskError: that leaves no room for a token of each text.
        """
        return dataclasses.replace(self, pairs=self.pairs.of_length(task_feature_lengths))

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The rows.

        Args:
          example: the texts, int `[t]` each, and `label`, of rank 0 or of one number.
          rng: nothing is drawn.

        Returns:
          Of the first candidate `inputs` and `token_types`, int32 `[n]`; of the others
          `further_inputs` and `further_token_types`, int32, one after the other, and
          `further_sizes`, how long each is; `label`, int32 `[]`.
        """
        first, *others = (
            self.pairs({FIRST: example[FIRST], SECOND: example[name]}, rng)
            for name in candidate_features(self.candidates)
        )
        return {
            **first,
            LABEL: np.asarray(example[LABEL], np.int32).reshape(()),
            "further_inputs": np.concatenate([row[FIRST] for row in others]),
            "further_token_types": np.concatenate([row["token_types"] for row in others]),
            "further_sizes": np.array([row[FIRST].size for row in others], np.int32),
        }
