"""A split once through, in order, with the raw examples beside the batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t5x_like.data.formats import Item, ModelBatch, Row


@dataclass(frozen=True)
class EvaluationBatch:
    """A batch and what it was made from.

    Attributes:
      batch: the model's features, int32 `[rows, length]`; rows without tokens, whose loss
        weights are 0, fill the last batch up.
      examples: for each row that is not filling, the cached columns (text among them), and the
        features as the model is given them, EOS included.
      indices: the numbers of these examples in the split.
    """

    batch: ModelBatch
    examples: list[dict[str, Any]]
    indices: list[int]


@dataclass(frozen=True)
class EvaluationDataset:
    """Finite, ordered, can be iterated again. `len` is the number of batches.

    Attributes:
      num_examples: in the split, all processes together.
      example_at: number to (features, raw columns).
      item_at: features to what a converter lays out.
      convert: lays rows out.
      batch_size: rows of all processes together.
      shard_index: which part of each batch is this process's.
      shard_count: number of parts.
      continued_at: where rows continue those of the batch before, as `example_at`, for an example
        that is not the first of its row's track; None where rows have nothing to do with them.
    """

    num_examples: int
    example_at: Callable[[int], tuple[Mapping[str, Any], Mapping[str, Any]]]
    item_at: Callable[[Mapping[str, Any]], Item]
    convert: Callable[[Sequence[Row]], ModelBatch]
    batch_size: int
    shard_index: int
    shard_count: int
    continued_at: Callable[[int], tuple[Mapping[str, Any], Mapping[str, Any]]] | None = None

    def __len__(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def _place(self, batch: int, row: int) -> int:
        """The example that stands in a row of a batch."""
        if self.continued_at is None:
            return batch * self.batch_size + row
        return row * len(self) + batch

    def __iter__(self) -> Iterator[EvaluationBatch]:
        rows_here = self.batch_size // self.shard_count
        mine = range(self.shard_index * rows_here, (self.shard_index + 1) * rows_here)
        for number in range(len(self)):
            places = (self._place(number, row) for row in mine)
            indices = [place for place in places if place < self.num_examples]
            read = self.continued_at if self.continued_at and number else self.example_at
            rows: list[Row] = []
            examples = []
            for index in indices:
                features, raw = read(index)
                examples.append({**raw, **features})
                rows.append((self.item_at(features),))
            rows += [()] * (rows_here - len(rows))
            yield EvaluationBatch(self.convert(rows), examples, indices)
