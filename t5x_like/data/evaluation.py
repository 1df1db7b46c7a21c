"""A split once through, or evenly drawn examples of it, in order, with the raw examples beside."""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from t5x_like.data import formats
from t5x_like.data.config import DatasetConfig, check_pairing, facts_of
from t5x_like.data.examples import TaskExamples, sample_of
from t5x_like.data.formats import BoundFormat, Item, ModelBatch, Row
from t5x_like.data.opening import (
    check_shards,
    contiguous_task,
    numbered,
    open_tasks,
    say_what_is_too_long,
    start_id,
)
from t5x_like.errors import UserError


@dataclass(frozen=True)
class EvaluationBatch:
    """A batch and what it was made from.

    Attributes:
      batch: the model's features, int32 `[rows, length]`; rows without tokens, whose loss
        weights are 0, fill the last batch up.
      examples: for each row that is not filling, the cached columns (text among them), and the
        features as the model is given them, EOS included.
      indices: the numbers of these rows in the split.
    """

    batch: ModelBatch
    examples: list[dict[str, Any]]
    indices: list[int]


# Rows that a limit in batches stands for, whatever the batch size: the default of `DatasetConfig`.
ROWS_OF_A_BATCH = 32
# Batches whose rows are sorted by length together, and what rows are shortened to: parts of the
# features' lengths, few of them, since each is a program.
_BATCHES_SORTED, _DIVISORS = 64, (4, 2, 1)
# Tracks of a text that a limited evaluation of rows that continue one another follows.
_TRACKS = 32


def limit_in_rows(rows: int | None, batches: int | None) -> int | None:
    """A limit of an evaluation in rows, of one in rows or in batches of `ROWS_OF_A_BATCH`.

    Args:
      rows: counts where both are given.
      batches: a number that does not depend on the batch size.

    Raises:
      UserError: a number below 1.
    """
    for name, value in (("rows", rows), ("batches", batches)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(
                f"an evaluation of {value!r} {name}: give a whole number of 1 or more, or None "
                "for the whole split."
            )
    if rows is not None or batches is None:
        return rows
    return batches * ROWS_OF_A_BATCH


@dataclass(frozen=True)
class EvaluationDataset:
    """Finite, ordered, can be iterated again. `len` is the number of batches.

    With a limit, the examples are drawn evenly from the whole split: which ones depends on the
    size of the split and the limit alone; of one that has several rows, all of them are given.
    Rows that are cut of a text are at equal distances. Where rows continue those before, the
    examples are 32 tracks that begin evenly all over the text, and a limit is met or fallen below
    by fewer than 32 rows.

    Attributes:
      num_examples: in the split, all processes together.
      example_at: number to (features, raw columns).
      bound: the batch format, for these tasks.
      lengths: of the tasks' features.
      batch_size: rows of all processes together.
      shard_index: which part of each batch is this process's.
      shard_count: number of parts.
      continued_at: where rows continue those of the batch before, as `example_at`, for an example
        that is not the first of its row's track; None where rows have nothing to do with them.
      limit: the most examples; None for all.
      bytes_per_target: bytes of text for each target token, over the whole split; None where
        targets are not text, or the cache did not count.
      ends: where an example may have several rows, after which row each example ends, int
        `[examples]`; None where each has one.
      words_per_target: the same of words, which white space parts.
      of_examples: whether rows are made of the cache's examples, and not cut of their text.
      chosen: numbers of the examples that alone are given, whatever the limit; None for all.
    """

    num_examples: int
    example_at: Callable[[int], tuple[Mapping[str, Any], Mapping[str, Any]]]
    bound: BoundFormat
    lengths: Mapping[str, int]
    batch_size: int
    shard_index: int
    shard_count: int
    continued_at: Callable[[int], tuple[Mapping[str, Any], Mapping[str, Any]]] | None = None
    limit: int | None = None
    bytes_per_target: float | None = None
    ends: np.ndarray | None = None
    words_per_target: float | None = None
    of_examples: bool = False
    chosen: Sequence[int] | None = None

    @property
    def measured(self) -> int:
        """How many rows it gives."""
        if self.continued_at and self._limited:
            return self._tracks * self._depth
        return self._most

    @property
    def examples(self) -> list[int]:
        """The numbers of the examples that rows are made of; none where they are cut of a text."""
        if not self.of_examples:
            return []
        rows = map(self._row, range(self._most))
        return list(dict.fromkeys(map(self.example_of, rows)))

    def only(self, examples: Sequence[int]) -> "EvaluationDataset":
        """The rows of some of the examples alone."""
        return dataclasses.replace(self, chosen=examples)

    def example_of(self, index: int) -> int:
        """The number of the example that a row of the split is made of."""
        return index if self.ends is None else int(self.ends.searchsorted(index, "right"))

    @property
    def _is_text(self) -> bool:
        return not self.of_examples and self.ends is None

    @property
    def _examples(self) -> int:
        return self.num_examples if self.ends is None else len(self.ends)

    @property
    def _limited(self) -> bool:
        return self.limit is not None and self.limit < self._examples

    @functools.cached_property
    def _rows_of_examples(self) -> np.ndarray | None:
        """The rows of chosen examples, or of a limited number; None for all, or rows of a text."""
        if self.chosen is not None:
            chosen = np.asarray(self.chosen, np.int64)
        elif self.limit is None or not self._limited or self._is_text:
            return None
        else:
            chosen = sample_of(self.limit, self._examples)
        if self.ends is None:
            return chosen
        begins = np.concatenate([[0], self.ends[:-1]])
        parts = [np.arange(begins[i], self.ends[i]) for i in chosen]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    @property
    def _most(self) -> int:
        if self._rows_of_examples is not None:
            return len(self._rows_of_examples)
        if self.limit is None or not self._limited:
            return self.num_examples
        return self.limit

    @property
    def _tracks(self) -> int:
        return min(_TRACKS, self._most) if self._limited else self.batch_size

    @property
    def _depth(self) -> int:
        """Examples of a track, or fewer at the end of the text."""
        return self._most // self._tracks if self._limited else -(-self._most // self._tracks)

    def __len__(self) -> int:
        if self.continued_at is None:
            return -(-self._most // self.batch_size)
        return -(-self._tracks // self.batch_size) * self._depth

    def _place(self, batch: int, row: int) -> int | None:
        """The example that stands in a row of a batch, if there is one."""
        if self.continued_at is None:
            nth = batch * self.batch_size + row
            return self._row(nth) if nth < self._most else None
        group, step = divmod(batch, self._depth)
        track = group * self.batch_size + row
        if track >= self._tracks:
            return None
        begin = track * self.num_examples // self._tracks if self._limited else track * self._depth
        return begin + step if begin + step < self.num_examples else None

    def _row(self, nth: int) -> int:
        """The number in the split of the nth row that is measured."""
        if self._rows_of_examples is not None:
            return int(self._rows_of_examples[nth])
        # The middles of equal parts of the text.
        return (2 * nth + 1) * self.num_examples // (2 * self._most)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        rows_here = self.batch_size // self.shard_count
        mine = range(self.shard_index * rows_here, (self.shard_index + 1) * rows_here)
        for number in range(len(self)):
            places = (self._place(number, row) for row in mine)
            indices = [place for place in places if place is not None]
            continues = self.continued_at if self.continued_at and number % self._depth else None
            read = continues or self.example_at
            rows: list[Row] = []
            examples = []
            for index in indices:
                features, raw = read(index)
                examples.append({**raw, **features})
                rows.append((self.bound.item(features),))
            rows += [()] * (rows_here - len(rows))
            batch = self.bound.batch(rows, self.lengths, pack=False)
            yield EvaluationBatch(batch, examples, indices)

    def by_length(
        self, longest: int | None, see: Callable[[int, int], None]
    ) -> Iterator[ModelBatch]:
        """All rows, those of similar length together in batches that are no longer than needed.

        For models that a row's neighbours mean nothing to, and formats of a text, or of inputs and
        targets. Rows come in an order of their own, and batches have one of a few lengths. Where
        inputs and targets are one row that has no room, the inputs lose their beginning, as
        contexts of options do.

        Args:
          longest: most tokens of a decoder's row that the model reads; None for any number.
          see: called with the tokens of each row's inputs, and how many there is room for.
        """
        at_once = _BATCHES_SORTED * self.batch_size
        for first in range(0, self._most, at_once):
            items = []
            for nth in range(first, min(first + at_once, self._most)):
                item = self.bound.item(self.example_at(self._row(nth))[0])
                items.append(_with_room(item, longest, see))
            items.sort(key=lambda item: [part.size for part in item.parts])
            for begin in range(0, len(items), self.batch_size):
                own = items[begin : begin + self.batch_size]
                rows: list[Row] = [(item,) for item in own]
                rows += [()] * (self.batch_size - len(rows))
                yield self.bound.batch(rows, self._needed(own, longest), pack=False)

    def _needed(self, items: Sequence[Item], longest: int | None) -> Mapping[str, int]:
        """Lengths of the features, in few steps, in which these have room."""
        parts = zip(*(one.parts for one in items), strict=True)
        sizes = [max(part.size for part in same) for same in parts]
        for divisor in _DIVISORS:
            lengths = {name: -(-length // divisor) for name, length in self.lengths.items()}
            if all(n <= m for n, m in zip(sizes, self.bound.capacities(lengths), strict=True)):
                break
        excess = 0 if longest is None else self.bound.capacities(lengths)[-1] - longest
        if excess > 0 and sizes[-1] <= longest:
            # Of one row, inputs make room for the targets; of two, the decoder's are the targets.
            name = "inputs" if len(sizes) == 1 and "inputs" in lengths else "targets"
            lengths[name] -= excess
        return lengths


def _with_room(item: Item, longest: int | None, see: Callable[[int, int], None]) -> Item:
    """An item whose inputs have lost their beginning, where that makes room for its targets."""
    size = item.parts[-1].size
    if longest is None or not item.prefix or item.positions is not None:
        return item
    see(item.prefix, longest - (size - item.prefix))
    excess = size - longest
    if not 0 < excess <= item.prefix:
        return item
    return item._replace(
        parts=(*item.parts[:-1], item.parts[-1][excess:]), prefix=item.prefix - excess
    )


def open_evaluation(
    config: DatasetConfig,
    *,
    batch_format: str,
    shard_index: int = 0,
    shard_count: int = 1,
    limit: int | None = None,
) -> EvaluationDataset:
    """A split once through, in order, one example a row; a mixture's tasks one after another.

    With a limit, so many examples or fewer, with all of their rows, drawn evenly from the split,
    the same for every batch size and number of shards. Of the configuration, `shuffle`, `pack`,
    `mixing` and `prefetch` play no part.

    Raises:
      UserError: as `open_dataset`.
    """
    check_shards(config, shard_index, shard_count)
    check_pairing(config, batch_format)
    opened = open_tasks(config, training=False)
    if shard_index == 0:
        say_what_is_too_long(opened)
    begin = start_id({task.name: task.start_id for task in opened})
    bound = formats.bound(batch_format, facts_of(config, begin))
    data = [numbered(task.evaluation(config.seed), task.name, batch_format) for task in opened]
    begins = [0, *itertools.accumulate(len(part) for part in data)]
    contiguous = formats.find(batch_format).contiguous
    if contiguous:
        contiguous_task(batch_format, opened)

    def example_at(index: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        number = bisect.bisect_right(begins, index) - 1
        local = index - begins[number]
        raw = opened[number].raw
        return data[number][local], raw(local) if raw else {}

    def with_token_before(index: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        features, raw = example_at(index)
        # Of the text, which an objective may have made other words of.
        return {**features, "before": opened[0].source[index - 1]["targets"][-1]}, raw

    return EvaluationDataset(
        begins[-1],
        example_at,
        bound,
        dict(config.task_feature_lengths),
        config.batch_size,
        shard_index,
        shard_count,
        with_token_before if contiguous else None,
        limit,
        _per_target(opened, [task.text_bytes for task in opened]),
        _ends_of_examples(opened),
        _per_target(opened, [task.text_words for task in opened]),
        not contiguous and all(task.raw is not None for task in opened),
    )


def _ends_of_examples(opened: Sequence[TaskExamples]) -> np.ndarray | None:
    """After which row each example ends, where some may have several."""
    if not any(task.windows is not None for task in opened):
        return None
    parts, before = [], 0
    for task in opened:
        rows = len(task.source)
        ends = np.arange(1, rows + 1) if task.windows is None else task.windows.ends
        parts.append(before + ends)
        before += rows
    return np.concatenate(parts)


def _per_target(opened: Sequence[TaskExamples], sizes: Sequence[int | None]) -> float | None:
    """What a target token of all tasks has of something; None where one did not count it."""
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    return sum(known) / max(1, sum(task.target_tokens for task in opened))
