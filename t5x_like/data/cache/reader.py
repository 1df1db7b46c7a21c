"""The examples of one cached split, by number."""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from t5x_like.data.cache import index_file, layout
from t5x_like.data.cache.example_proto import Values, feature_spans, parse_example, payload
from t5x_like.data.cache.tfrecord import RecordFile
from t5x_like.errors import UserError

# Splits up to this size are read whole at every start, at 4 GB/s from the page cache. Of a larger
# one that was verified before, sizes and modification times are compared.
_READ_AT_EVERY_START = 1 << 30
# dtype in the cache: dtype that is given.
_KINDS = {"int32": np.int32, "int64": np.int32, "float32": np.float32}


def open_shards(folder: Path, split: str) -> list[RecordFile]:
    """All files of a split, verified; their order is the order of the examples.

    Raises:
      UserError: the split is unknown, a file is missing, truncated or corrupt, or the number of
        records is not the one recorded.
      DataFault: the disk cannot be read.
    """
    shards = layout.read_info(folder, split).num_shards
    paths = [layout.shard_path(folder, split, i, shards) for i in range(shards)]
    size = sum(path.stat().st_size for path in paths if path.exists())
    files = [
        RecordFile(
            path,
            layout.index_path(folder, split, "records", i, shards),
            verify=size <= _READ_AT_EVERY_START,
        )
        for i, path in enumerate(paths)
    ]
    counts = layout.stats_path(folder, split)
    wanted, found = layout.read_json(counts).get("examples"), sum(len(f) for f in files)
    if wanted != found:
        raise UserError(
            f"split {split!r} in {folder} has {found} examples, but {counts.name} says {wanted}; "
            "build the cache again"
        )
    return files


def _count_tokens(file: RecordFile, feature: str) -> np.ndarray:
    """Tokens of an integer feature in each record, int64 `[n]`."""
    counts = np.zeros(len(file), np.int64)
    for i in range(len(file)):
        record = file[i]
        span = feature_spans(record).get(feature)
        if span is not None:
            start, stop = payload(record, span)
            # A varint ends with the first byte below 128.
            counts[i] = np.count_nonzero(np.frombuffer(record, np.uint8)[start:stop] < 128)
    return counts


def lengths_indexed(
    folder: Path, split: str, feature: str, shard: int, shards: int, file: RecordFile
) -> np.ndarray:
    """Tokens of a feature in each record of a shard, from its sidecar where there is one."""
    path = layout.index_path(folder, split, f"{feature}.lengths", shard, shards)
    arrays = index_file.load(path, file.path)
    if arrays is None:
        arrays = {"lengths": _count_tokens(file, feature)}
        index_file.save(path, file.path, arrays)
    return arrays["lengths"]


class CachedExamples:
    """A split as a random-access source: `len(examples)`, `examples[i] -> dict`.

    Integer features come as int32 arrays, other numbers as float32; what else the cache holds
    (text for the metrics) only from `raw`.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        features: Sequence[str],
        first_tokens: int | None = None,
    ):
        """Opens a split.

        Args:
          folder: the task's folder in the cache.
          split: name of the split.
          features: features of numbers to read.
          first_tokens: leaves the first examples that have no more tokens together, in all these
            features of integers; None leaves all.

        Raises:
          UserError: a feature or the split is not there, or a file is damaged; there are not so
            many tokens.
        """
        self._folder, self._split = folder, split
        self._shards = open_shards(folder, split)
        self._begins = [0, *itertools.accumulate(len(shard) for shard in self._shards)]
        self._size = self._begins[-1]
        self._features = tuple(features)
        self._info = layout.read_info(folder, split)
        for name in self._features:
            found = self._info.dtypes.get(name)
            if len(self) and found not in _KINDS:
                raise UserError(
                    f"the cache {folder} has no feature {name!r} of numbers; it has "
                    + ", ".join(f"{k} ({v})" for k, v in sorted(self._info.dtypes.items()))
                )

        if first_tokens is not None and self._size:
            self._size = self._holding(first_tokens)

    def _holding(self, tokens: int) -> int:
        """How many of the first examples have no more tokens."""
        counted = [name for name in self._features if self._info.dtypes[name] != "float32"]
        ends = np.cumsum(np.sum([self.lengths(name) for name in counted], axis=0))
        found = int(ends.searchsorted(tokens, "right"))
        if not found or ends[-1] < tokens:
            raise UserError(
                f"first_tokens is {tokens:,}, but split {self._split!r} in {self._folder} has "
                f"{ends[-1]:,} tokens, and {ends[0]:,} in its first example"
            )
        return found

    def __len__(self) -> int:
        return self._size

    def _record(self, index: int) -> bytes:
        shard = bisect.bisect_right(self._begins, index) - 1
        return self._shards[shard][index - self._begins[shard]]

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """The features of example `index`, int32 or float32 `[length]` each."""
        parsed = parse_example(self._record(index), self._features)
        return {
            name: np.asarray(parsed.get(name, ()), _KINDS[self._info.dtypes[name]])
            for name in self._features
        }

    def lengths(self, feature: str) -> np.ndarray:
        """Tokens of a feature in each example, int64 `[len(self)]`."""
        n = len(self._shards)
        each = [
            lengths_indexed(self._folder, self._split, feature, i, n, file)
            for i, file in enumerate(self._shards)
        ]
        return np.concatenate([np.zeros(0, np.int64), *each])[: self._size]

    def longest(self, feature: str) -> int | None:
        """Most tokens of a feature in any example, EOS not counted; None where nobody counted."""
        stats = layout.read_json(layout.stats_path(self._folder, self._split))
        found = stats.get(f"{feature}_max_tokens")
        return found if isinstance(found, int) else None

    def raw(self, index: int) -> dict[str, Values | bytes | int | float]:
        """All features of example `index`; those without a length as plain values."""
        example = {}
        for name, value in parse_example(self._record(index)).items():
            scalar = self._info.shapes.get(name) == []
            example[name] = value[0] if scalar and len(value) else value
        return example
