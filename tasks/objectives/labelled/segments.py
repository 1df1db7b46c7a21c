"""A text or a pair of texts as one row for an encoder, with its label: what fine-tuning reads."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.masked_lm import Boundaries
from tasks.objectives.objective import Example, VocabularySpecs, feature_length
from tasks.objectives.sentence_pairs import shared_room
from tasks.objectives.special_tokens import find_boundary_ids, find_extract_id

FIRST, SECOND, LABEL = "inputs", "inputs_pair", "label"
REVERSED = "inputs_reversed"


@dataclasses.dataclass(frozen=True)
class LabelledSegments:
    """`[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]`, and the label (Devlin et al. 2019, figure 4).

    Rows that are too long lose tokens at the end of the longer text, one at a time, of the second
    where both are as long (`run_classifier.py` of the released code).

    Attributes:
      pair: whether there are two texts.
      separators: how many [SEP] stand between them: 1, or RoBERTa's 2; None takes what the
        vocabulary's tokenizer puts there, or else 1.
      numbers: whether labels are numbers, and not the numbers of classes.
      cls_at_end: whether [CLS] stands after all, of a type of its own, 2, as XLNet has it (Yang et
        al. 2019, section 2.5); None takes what the vocabulary's tokenizer does, or else False.
      extract: whether a row ends with a token of its own in place of the last [SEP], from whose
        vector a decoder says the label: start, text, extract, with two texts a delimiter between
        them (Radford et al. 2018, section 3.3 and figure 1).
      both_orders: whether a pair is a row in either order, for tasks where it has none.
    """

    pair: bool = False
    separators: int | None = None
    numbers: bool = False
    cls_at_end: bool | None = None
    extract: bool = False
    both_orders: bool = False

    output_features: ClassVar[tuple[str, ...]] = (FIRST,)
    adds_eos: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_separators(self)
        if self.both_orders and not self.pair:
            raise TaskError(
                "LabelledSegments.both_orders is True, but a row has one text: a pair "
                "of texts has two orders."
            )
        if self.extract and self.cls_at_end:
            raise TaskError(
                "LabelledSegments.extract and cls_at_end are True: one token ends a "
                "row, choose which."
            )

    @property
    def writes(self) -> tuple[str, ...]:
        """The row, or both; types of the first; the label."""
        return _written(self.both_orders)

    def bind(self, specs: VocabularySpecs) -> "BoundLabelledSegments":
        """With the special tokens of the vocabulary of `inputs`.

        Raises:
          TaskError: it has none that could begin and end a row.
        """
        spec = specs[FIRST]
        ids = find_boundary_ids(spec, type(self).__name__)
        boundaries = Boundaries(*ids, spec["eos_id"])
        separators = self.separators or spec.get("pair_separators") or 1
        at_end = bool(spec.get("cls_at_end")) if self.cls_at_end is None else self.cls_at_end
        extract_id = None
        if self.extract:
            at_end, extract_id = False, find_extract_id(spec, type(self).__name__)
        return BoundLabelledSegments(
            boundaries, self.pair, separators, self.numbers, at_end, extract_id, self.both_orders
        )


@dataclasses.dataclass(frozen=True, eq=False)
class BoundLabelledSegments:
    """Rows with ids; made by `LabelledSegments.bind`.

    Attributes:
      boundaries: stand around the texts.
      pair: see `LabelledSegments`.
      separators: see `LabelledSegments`.
      numbers: see `LabelledSegments`.
      cls_at_end: see `LabelledSegments`.
      extract_id: stands in place of the last [SEP]; None leaves it.
      both_orders: see `LabelledSegments`.
      length: most tokens of a row; None for any number.
    """

    boundaries: Boundaries
    pair: bool
    separators: int
    numbers: bool
    cls_at_end: bool = False
    extract_id: int | None = None
    both_orders: bool = False
    length: int | None = None

    document_eos: ClassVar[bool] = False

    @property
    def writes(self) -> tuple[str, ...]:
        """See `LabelledSegments`."""
        return _written(self.both_orders)

    @property
    def texts(self) -> tuple[str, ...]:
        """The features that are text."""
        return (FIRST, SECOND) if self.pair else (FIRST,)

    @property
    def reads(self) -> tuple[str, ...]:
        """The texts, and the label."""
        return (*self.texts, LABEL)

    @property
    def scalars(self) -> Mapping[str, type[np.generic]]:
        """The label's dtype."""
        return {LABEL: np.float32 if self.numbers else np.int32}

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> None:
        """Texts stay whole."""

    def of_length(self, task_feature_lengths: Mapping[str, int]) -> "BoundLabelledSegments":
        """The same for rows of the length that `inputs` has.

        Raises:
          TaskError: that leaves no room for a token of each text.
        """
        length = feature_length(task_feature_lengths, FIRST)
        needed = self._boundaries + len(self.texts)
        if length < needed:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['{FIRST}'] is {length}: {needed} or more is needed, with "
                "what stands around the texts."
            )
        return dataclasses.replace(self, length=length)

    @property
    def room(self) -> int | None:
        """Most tokens of the texts together; None for any number."""
        return None if self.length is None else self.length - self._boundaries

    def excess(self, example: Example) -> int:
        """How many tokens of the texts a row has no room for."""
        sizes = sum(example[name].size for name in self.texts)
        return 0 if self.room is None else max(0, sizes - self.room)

    @property
    def _boundaries(self) -> int:
        return 2 + self.separators if self.pair else 2

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The row.

        Args:
          example: the texts, int `[t]` each, and `label`, of rank 0 or of one number; none where
            texts are read to be labelled.
          rng: nothing is drawn.

        Returns:
          `inputs` and `token_types`, int32 `[n]`, and `label`, int32 or float32 `[]`: -1 or NaN
          where the example has none; with both orders `inputs_reversed`, int32 `[n]`.
        """
        texts = [np.asarray(example[name], np.int32) for name in self.texts]
        row, types = self._row(texts)
        none: float = np.nan if self.numbers else -1
        label = np.asarray(example.get(LABEL, none), self.scalars[LABEL]).reshape(())
        made = {FIRST: row, "token_types": types, LABEL: label}
        return {**made, REVERSED: self._row(texts[::-1])[0]} if self.both_orders else made

    def _row(self, texts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of a row and their types."""
        sizes = [text.size for text in texts]
        if self.room is not None:
            both = shared_room(sizes[0], sizes[-1], self.room)
            sizes = list(both) if self.pair else [self.room]
        texts = [text[:size] for text, size in zip(texts, sizes, strict=True)]
        row, types = self.boundaries.row(*texts)
        for _ in range(self.separators - 1 if self.pair else 0):
            # Between the texts, of the first one's type.
            place = texts[0].size + 2
            row, types = np.insert(row, place, self.boundaries.sep_id), np.insert(types, place, 0)
        if self.cls_at_end:
            row, types = class_last(row, types)
        if self.extract_id is not None:
            row[-1] = self.extract_id
        return row, types


def class_last(row: np.ndarray, types: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A row and its types, int32 `[n]` each, with [CLS] after all and of type 2, as XLNet's."""
    return np.roll(row, -1), np.append(types[1:], np.int32(2))


def _written(both_orders: bool) -> tuple[str, ...]:
    return (FIRST, "token_types", LABEL, *([REVERSED] if both_orders else []))


def check_separators(objective: Any) -> None:
    """Checks the setting `separators`.

    Raises:
      TaskError: it is neither 1 nor 2, nor None.
    """
    if objective.separators not in (None, 1, 2):
        name = type(objective).__name__
        raise TaskError(f"{name}.separators is {objective.separators}: 1 or 2 is needed.")
