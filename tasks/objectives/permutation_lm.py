"""Permutation language modelling: some tokens are predicted in a drawn order of them (XLNet)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.masked_lm import longest_text
from tasks.objectives.objective import Example, VocabularySpecs, feature_length
from tasks.objectives.special_tokens import find_boundary_ids

_SPECIAL = 3  # [SEP] after both segments, [CLS] after all


@dataclasses.dataclass(frozen=True)
class PermutationLM:
    """The last tokens of an order are predicted from those before them (Yang et al. 2019, eq. 5).

    Of each row `1 / share_of` is predicted, in spans of 1 to `max_span` tokens, a span of k with a
    probability proportional to 1/k and somewhere in a context of `share_of · k` tokens, as in the
    released code. The other tokens stand before them in the order, which is drawn anew whenever a
    row is seen. Each half of a row has an order of its own: the first half does not see the second.

    A row is `A [SEP] B [SEP] [CLS]` of types 0, 1 and 2, where B follows A or is from elsewhere.
    The special tokens have a place in the order, see themselves and are never predicted. A is the
    first half of the row and more of the text; where B begins is drawn from the tokens of the
    second half, where the released code looks for the end of a sentence.

    Attributes:
      share_of: K; 512 tokens have 85 that are predicted.
      max_span: longest span.
      two_segments: whether rows are as above; else they are plain text, as rows that continue
        those of the batch before must be.
      random_share: share of the rows whose B is of another place.
    """

    share_of: int = 6
    max_span: int = 5
    two_segments: bool = True
    random_share: float = 0.5

    # The targets are whole rows; no EOS is to follow.
    output_features: ClassVar[tuple[str, ...]] = ("targets",)
    adds_eos: ClassVar[bool] = False
    writes: ClassVar[tuple[str, ...]] = (
        "targets", "loss_weights", "token_types", "perm_key_rank", "perm_own_rank",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, lowest in (("share_of", 2), ("max_span", 1)):
            if getattr(self, name) < lowest:
                raise TaskError(
                    f"PermutationLM.{name} is {getattr(self, name)}: {lowest} or more is needed."
                )
        if not 0 <= self.random_share <= 1:
            raise TaskError(
                f"PermutationLM.random_share is {self.random_share}: from 0 to 1 is needed."
            )

    def bind(self, specs: VocabularySpecs) -> "BoundPermutationLM":
        """With the special tokens of the vocabulary of `targets`.

        Raises:
          TaskError: it has none that could stand around segments.
        """
        cls_id, sep_id = find_boundary_ids(specs["targets"], "PermutationLM")
        return BoundPermutationLM(self, cls_id, sep_id)


@dataclasses.dataclass(frozen=True)
class BoundPermutationLM:
    """Permutation language modelling with ids; made by `PermutationLM.bind`.

    Attributes:
      settings: see there.
      cls_id: at the end of a row.
      sep_id: after each segment.
      length: most tokens of a row; None for any number.
    """

    settings: PermutationLM
    cls_id: int
    sep_id: int
    length: int | None = None

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = PermutationLM.writes
    document_eos: ClassVar[bool] = True

    @property
    def draws_other(self) -> bool:
        """Whether B may be of another place."""
        return self.settings.two_segments and self.settings.random_share > 0

    @property
    def rows_stand_alone(self) -> str | None:
        """Why rows cannot continue those of the batch before, and what would do; None: they can."""
        if not self.settings.two_segments:
            return None
        return "PermutationLM.two_segments is True, so that separators end them: set it to False"

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int:
        """What fits beside the special tokens."""
        if not self.settings.two_segments:
            return feature_length(task_feature_lengths, "targets")
        return longest_text(task_feature_lengths, _SPECIAL, "PermutationLM")

    def of_length(self, task_feature_lengths: Mapping[str, int]) -> "BoundPermutationLM":
        """The same for rows of the length that `targets` has."""
        length = feature_length(task_feature_lengths, "targets")
        return dataclasses.replace(self, length=length)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """A piece of text to a row, the tokens that are predicted, and their order.

        Args:
          example: `targets`, and `other_targets` if `draws_other`, int32 `[t]`.
          rng: of all that is drawn.

        Returns:
          `PermutationLM.writes`, int32 `[n]`: `loss_weights` is 1 at what is predicted; for the
          ranks see `ranks`.
        """
        text = np.asarray(example["targets"], np.int32)
        if not self.settings.two_segments:
            row, types = text, np.zeros_like(text)
        else:
            other = np.asarray(example.get("other_targets", text), np.int32)
            row, types = self._two_segments(text, other, rng)
        special = np.isin(row, (self.cls_id, self.sep_id))
        half = row.size // 2
        total = max(1, row.size // self.settings.share_of)
        predicted = np.zeros(row.size, np.bool_)
        keys, own = np.zeros((2, row.size), np.int32)
        for part, count in (
            (slice(0, half), total * half // max(row.size, 1)),
            (slice(half, None), total - total * half // max(row.size, 1)),
        ):
            predicted[part] = self._spans(row[part].size, count, rng) & ~special[part]
            order = rng.permutation(row[part].size)
            # The second half stands after all of the first.
            first = half + 1 if part.start else 0
            found = ranks(order, predicted[part], special[part])
            keys[part], own[part] = (x + first for x in found)
        return {
            "targets": row,
            "loss_weights": predicted.astype(np.int32),
            "token_types": types,
            "perm_key_rank": keys,
            "perm_own_rank": own,
        }

    def row_of_text(self, text: np.ndarray) -> Example:
        """The row of a text at hand: `text [SEP] [CLS]`, or of plain rows the text alone.

        Args:
          text: int `[t]`.

        Returns:
          `inputs` and `token_types`, int32 of the row's length.
        """
        text = np.asarray(text, np.int32)
        if not self.settings.two_segments:
            return {"inputs": text, "token_types": np.zeros_like(text)}
        row = np.append(text, np.array([self.sep_id, self.cls_id], np.int32))
        return {"inputs": row, "token_types": np.append(np.zeros_like(row[:-1]), np.int32(2))}

    def _two_segments(
        self, text: np.ndarray, other: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """`A [SEP] B [SEP] [CLS]`, and the type of each token."""
        if self.length is not None:
            text = text[: self.length - _SPECIAL]
        half = (text.size + _SPECIAL) // 2
        # A is half the row or more, and B has a token where there is one for it.
        cut = int(rng.integers(half, text.size)) if half < text.size else max(text.size - 1, 0)
        first, second = text[:cut], text[cut:]
        if self.draws_other and rng.random() < self.settings.random_share:
            second = other[: second.size]
        special = np.array([self.sep_id, self.cls_id], np.int32)
        row = np.concatenate([first, special[:1], second, special])
        types = np.repeat(np.arange(3, dtype=np.int32), (first.size + 1, second.size + 1, 1))
        return row, types

    def _spans(self, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """Which of `size` places are predicted, bool: spans in turn, until there are `count`."""
        chosen = np.zeros(size, np.bool_)
        lengths = np.arange(1, self.settings.max_span + 1)
        place, left = 0, min(count, size)
        while left:
            span = min(int(rng.choice(lengths, p=1 / lengths / (1 / lengths).sum())), left)
            context = span * self.settings.share_of
            before = int(rng.integers(context))
            begin, end = place + before, place + before + span
            if end > size:
                break
            chosen[begin:end] = True
            left -= span
            place = end + context - before
        # What found no room stands anywhere.
        free = np.nonzero(~chosen)[0]
        chosen[rng.permutation(free)[:left]] = True
        return chosen


def ranks(
    order: np.ndarray, predicted: np.ndarray, special: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The ranks by which it is known which key a token's prediction is made from.

    A key is seen where its rank is below the query's own. Tokens that are not predicted see each
    other, and all see them. What is predicted has its place in the order as both ranks; special
    tokens have it as a key's, and see themselves too.

    Args:
      order: int `[n]`, the place of each token in the order.
      predicted: bool `[n]`.
      special: bool `[n]`, tokens like [SEP] that are never predicted.

    Returns:
      The rank of each token as a key and its own, int32 `[n]`, from -1 and from 0.
    """
    order = order.astype(np.int32)
    keys = np.where(predicted | special, order, -1)
    own = np.where(predicted, order, np.where(special, order + 1, 0))
    return keys.astype(np.int32), own.astype(np.int32)
