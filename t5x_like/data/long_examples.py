"""What becomes of examples that are longer than the model is given.

Tasks whose objective joins documents and cuts pieces have none. Of the others, seqio trims each
example, and so does `TrimLong`; `SplitLong` loses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import grain
import numpy as np

from t5x_like.data.cache.reader import CachedExamples
from t5x_like.errors import UserError
from t5x_like.protocols import Example


class LongExamples(Protocol):
    """A way to deal with long examples.

    Attributes:
      done: what is done to them, for the line that counts them.
    """

    done: ClassVar[str]

    def source(
        self, examples: grain.MapDataset, lengths: Mapping[str, np.ndarray], room: Mapping[str, int]
    ) -> grain.MapDataset:
        """The examples to train on.

        Args:
          examples: as they are in the cache.
          lengths: of each feature that the model is given, tokens in each example, int64 `[n]`.
          room: tokens of each feature that the model is given at most, EOS left out.

        Raises:
          UserError: these examples cannot be dealt with so.
        """


@dataclass(frozen=True)
class TrimLong:
    """The tokens beyond the length are left out, as seqio does."""

    done: ClassVar[str] = "trimmed"

    def source(
        self, examples: grain.MapDataset, lengths: Mapping[str, np.ndarray], room: Mapping[str, int]
    ) -> grain.MapDataset:
        """See `LongExamples`."""
        return examples


@dataclass(frozen=True)
class SplitLong:
    """A long example becomes several, one after the other; for tasks of one feature."""

    done: ClassVar[str] = "split"

    def source(
        self, examples: grain.MapDataset, lengths: Mapping[str, np.ndarray], room: Mapping[str, int]
    ) -> grain.MapDataset:
        """See `LongExamples`."""
        if len(lengths) != 1:
            raise UserError(
                "SplitLong is for tasks of one feature: the parts of inputs and targets would not "
                "belong together; use TrimLong, or raise task_feature_lengths"
            )
        ((feature, sizes),) = lengths.items()
        if room[feature] < 1:
            raise UserError(f"task_feature_lengths[{feature!r}] leaves no room beside EOS")
        return _Parts(examples, feature, sizes, room[feature])


class _Parts(grain.MapDataset):
    """Examples cut into parts of at most `room` tokens; a part has a number of its own."""

    def __init__(self, examples: grain.MapDataset, feature: str, sizes: np.ndarray, room: int):
        super().__init__()
        self._examples, self._feature, self._room = examples, feature, room
        parts = np.maximum(1, -(-sizes // room))
        self._ends = np.cumsum(parts)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._ends.size else 0

    def __getitem__(self, index: int) -> Example:
        index %= len(self)
        number = int(self._ends.searchsorted(index, "right"))
        begin = int(self._ends[number - 1]) if number else 0
        example = self._examples[number]
        start = (index - begin) * self._room
        return {**example, self._feature: example[self._feature][start : start + self._room]}


def fitted(
    source: grain.MapDataset,
    examples: CachedExamples,
    room: Mapping[str, int],
    long_examples: LongExamples,
) -> tuple[grain.MapDataset, str]:
    """The examples to train on, and one line about those that are too long, if any are.

    Args:
      source: the examples.
      examples: the same, as they are in the cache.
      room: tokens of each feature that the model is given at most, EOS left out.
      long_examples: what becomes of those that have more.
    """

    def may_be_longer(name: str) -> bool:
        longest = examples.longest(name)  # does not count an EOS that the cache may hold
        return longest is None or longest + 1 > room[name]

    if not any(map(may_be_longer, room)):
        return source, ""
    lengths = {name: examples.lengths(name) for name in room}
    found = [
        f"{count:,} of {len(examples):,} examples have {name} of more than {room[name]:,} tokens "
        f"(at most {int(lengths[name].max()):,})"
        for name in room
        if (count := int(np.count_nonzero(lengths[name] > room[name])))
    ]
    if not found:
        return source, ""
    return long_examples.source(source, lengths, room), f"{', '.join(found)}: {long_examples.done}"


def trimmed_together(examples: CachedExamples, objective: Any) -> str:
    """One line about examples whose texts an objective trims to fit a row, if there are any.

    Args:
      examples: as they are in the cache.
      objective: has `texts`, or of these `trimmed`, and `room`, the tokens that they may have
        together in a row; where an example has several rows, or a word several tokens, also
        `counts_excess = True`, and `excess`, see `protocols`.
    """
    features, room = getattr(objective, "trimmed", objective.texts), objective.room
    longest = [examples.longest(name) for name in features]
    if None not in longest and sum(filter(None, longest)) <= room:
        return ""
    if getattr(objective, "counts_excess", False):
        excess = np.array([objective.excess(examples[i]) for i in range(len(examples))])
    else:
        excess = np.sum([examples.lengths(name) for name in features], axis=0) - room
    count = int(np.count_nonzero(excess > 0))
    if not count:
        return ""
    return (
        f"{count:,} of {len(examples):,} examples have {' and '.join(features)} of more than "
        f"{room:,} tokens (at most {int(excess.max()) + room:,}): {TrimLong.done}"
    )
