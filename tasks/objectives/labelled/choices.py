"""A text with several choices: a row for each of them, and which is right."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.labelled.segments import (
    BoundLabelledSegments,
    LabelledSegments,
    check_separators,
)
from tasks.objectives.objective import Example, VocabularySpecs, feature_length

CONTEXT, CHOICES, LABEL = "inputs", "choices", "label"


@dataclasses.dataclass(frozen=True)
class Choices:
    """`[CLS] text [SEP] choice [SEP]` for each choice (Devlin et al. 2019, section 4.4).

    Each row is cut as a pair is, see `LabelledSegments`. The length of the feature `choices` in
    TASK_FEATURE_LENGTHS is the most choices that an example may have.

    Attributes:
      separators: how many [SEP] stand between text and choice, see `LabelledSegments`.
      extract: whether rows end with a token of their own, see `LabelledSegments`.
    """

    separators: int | None = None
    extract: bool = False

    output_features: ClassVar[tuple[str, ...]] = (CONTEXT, CHOICES)
    adds_eos: ClassVar[bool] = False
    writes: ClassVar[tuple[str, ...]] = (CONTEXT, CHOICES, "token_types", LABEL)

    def __post_init__(self) -> None:
        check_separators(self)

    def bind(self, specs: VocabularySpecs) -> "BoundChoices":
        """With the special tokens of the vocabulary of `inputs`.

        Raises:
          TaskError: it has none that could begin and end a row.
        """
        pairs = LabelledSegments(True, self.separators, extract=self.extract)
        return BoundChoices(pairs.bind(specs))


@dataclasses.dataclass(frozen=True, eq=False)
class BoundChoices:
    """Rows with ids; made by `Choices.bind`.

    Attributes:
      pair: makes the row of the text and one choice.
      most: choices of an example; None for any number.
    """

    pair: BoundLabelledSegments
    most: int | None = None

    reads: ClassVar[tuple[str, ...]] = (CONTEXT, CHOICES, f"{CHOICES}_sizes", LABEL)
    writes: ClassVar[tuple[str, ...]] = Choices.writes
    tables: ClassVar[tuple[str, ...]] = (CONTEXT, "token_types")
    document_eos: ClassVar[bool] = False
    texts: ClassVar[tuple[str, ...]] = (CONTEXT, CHOICES)
    scalars: ClassVar[Mapping[str, type[np.generic]]] = {LABEL: np.int32}
    counts_excess: ClassVar[bool] = True

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> None:
        """Texts stay whole."""

    def of_length(self, task_feature_lengths: Mapping[str, int]) -> "BoundChoices":
        """The same for rows of the length that `inputs` has, and as many as `choices` says.

        Raises:
          TaskError: a row has no room for a token of each text, or there is no choice.
        """
        return dataclasses.replace(
            self,
            pair=self.pair.of_length(task_feature_lengths),
            most=feature_length(task_feature_lengths, CHOICES),
        )

    @property
    def room(self) -> int | None:
        """Most tokens of the text and a choice together; None for any number."""
        return self.pair.room

    def excess(self, example: Example) -> int:
        """How many tokens of the text and its longest choice a row has no room for."""
        if self.room is None:
            return 0
        longest = np.max(example[f"{CHOICES}_sizes"], initial=0)
        return max(0, int(example[CONTEXT].size + longest) - self.room)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The rows.

        Args:
          example: the text, int `[t]`; the ids of all choices, int `[c]`, and how many of them each
            has, int `[choices]`; `label`, the number of the right one, of rank 0 or of one number;
            none where choices are read to be judged.
          rng: nothing is drawn.

        Returns:
          `inputs` and `token_types`, int32 `[choices, longest]`, with zeros behind shorter rows;
          `choices`, how many tokens each row has, int32 `[choices]`; `label`, int32 `[]`: -1 where
          the example has none.

        Raises:
          TaskError: more choices than TASK_FEATURE_LENGTHS says.
        """
        sizes = np.asarray(example[f"{CHOICES}_sizes"], np.int32)
        if self.most is not None and sizes.size > self.most:
            raise TaskError(
                f"an example has {sizes.size} choices: TASK_FEATURE_LENGTHS['{CHOICES}'] is "
                f"{self.most}; give as many as the example with the most of them has."
            )
        ids = np.split(np.asarray(example[CHOICES], np.int32), np.cumsum(sizes)[:-1])
        made = [
            self.pair({CONTEXT: example[CONTEXT], f"{CONTEXT}_pair": choice}, rng) for choice in ids
        ]
        lengths = np.array([row[CONTEXT].size for row in made], np.int32)
        tables = {name: np.zeros((len(made), lengths.max()), np.int32) for name in self.tables}
        for i, row in enumerate(made):
            for name, table in tables.items():
                table[i, : lengths[i]] = row[name]
        label = np.asarray(example.get(LABEL, -1), np.int32).reshape(())
        return {**tables, CHOICES: lengths, LABEL: label}
