"""A split once through, in order, with the raw examples beside the batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t5x_like.data.feature_converters import Item, ModelBatch, Row


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
    """

    num_examples: int
    example_at: Callable[[int], tuple[Mapping[str, Any], Mapping[str, Any]]]
    item_at: Callable[[Mapping[str, Any]], Item]
    convert: Callable[[Sequence[Row]], ModelBatch]
    batch_size: int
    shard_index: int
    shard_count: int

    def __len__(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        rows_here = self.batch_size // self.shard_count
        for number in range(len(self)):
            first = number * self.batch_size + self.shard_index * rows_here
            indices = range(first, max(first, min(first + rows_here, self.num_examples)))
            rows: list[Row] = []
            examples = []
            for index in indices:
                features, raw = self.example_at(index)
                examples.append({**raw, **features})
                rows.append((self.item_at(features),))
            rows += [()] * (rows_here - len(rows))
            yield EvaluationBatch(self.convert(rows), examples, list(indices))
