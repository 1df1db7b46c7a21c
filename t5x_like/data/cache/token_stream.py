"""All documents of a split as one long run of tokens, readable from any position.

Objectives on plain text concatenate documents and cut the result into pieces of equal length.
With the number of tokens of each document known, a piece is found without reading what comes
before it, so that a shuffled order, a restart or another number of processes costs nothing.
Within a document, the byte position of every 1,024th token is kept: varints have no fixed size.
"""

import bisect
import itertools
from pathlib import Path

import numpy as np

from t5x_like.data.cache import index_file, layout
from t5x_like.data.cache.example_proto import decode_varints, feature_spans, payload
from t5x_like.data.cache.reader import open_shards
from t5x_like.data.cache.tfrecord import RecordFile
from t5x_like.errors import UserError

_STRIDE = 1024  # tokens between two kept byte positions


def index_tokens(file: RecordFile, feature: str) -> dict[str, np.ndarray]:
    """Positions of the tokens of one integer feature in a file of records.

    Returns:
      `tokens`, int64 `[n + 1]`: tokens before each record. `marks`, int64 `[n + 1]`: entries of
      `bytes` before each record. `bytes`: for each record the byte positions in the file of its
      tokens 0, 1024, 2048, ... and of its end.

    Raises:
      UserError: a record lacks the feature or is no `tf.train.Example`.
    """
    tokens, marks, positions = [0], [0], []
    for i in range(len(file)):
        record = file[i]
        base = file.span(i)[0]
        try:
            span = feature_spans(record).get(feature)
            if span is None:
                raise ValueError(f"it has no feature {feature!r}")
            start, stop = payload(record, span)
        except (ValueError, IndexError) as error:
            raise UserError(f"{file.path}: record {i} cannot be read: {error}") from None
        ends = np.flatnonzero(np.frombuffer(record, np.uint8)[start:stop] < 128) + 1
        inner = ends[_STRIDE - 1 : -1 : _STRIDE]
        positions.append(base + start + np.concatenate([[0], inner, [stop - start]]))
        tokens.append(tokens[-1] + ends.size)
        marks.append(marks[-1] + positions[-1].size)
    return {
        "tokens": np.array(tokens, np.int64),
        "marks": np.array(marks, np.int64),
        "bytes": np.concatenate([np.zeros(0, np.int64), *positions]),
    }


def indexed(
    folder: Path, split: str, feature: str, shard: int, shards: int, file: RecordFile
) -> dict[str, np.ndarray]:
    """The arrays of `index_tokens` for a shard, from its sidecar where there is one."""
    path = layout.index_path(folder, split, f"{feature}.tokens", shard, shards)
    arrays = index_file.load(path, file.path)
    if arrays is None:
        arrays = index_tokens(file, feature)
        index_file.save(path, file.path, arrays)
    return arrays


class TokenStream:
    """The concatenated tokens of a feature over a split: `len(stream)`, `stream.read(a, b)`."""

    def __init__(
        self,
        folder: Path,
        split: str,
        feature: str,
        end: int | None = None,
        first_tokens: int | None = None,
        ends: int = 1,
    ):
        """Opens a split, and indexes it where that was not done before.

        Args:
          folder: the task's folder in the cache.
          split: name of the split.
          feature: an integer feature of rank 1.
          end: a token to put after each document, or None.
          first_tokens: where the stream ends; None for the end of the split.
          ends: how often `end` is put there.

        Raises:
          UserError: the split or feature is not there, or a file is damaged; there are not so
            many tokens.
        """
        self._ends = np.full(0 if end is None else ends, end or 0, np.int32)
        self._files = open_shards(folder, split)
        n = len(self._files)
        self._indices = [
            indexed(folder, split, feature, i, n, f) for i, f in enumerate(self._files)
        ]
        self._starts = []  # for each shard the position in the stream of its documents
        for index in self._indices:
            tokens = index["tokens"]
            self._starts.append(tokens + self._ends.size * np.arange(tokens.size))
        self._begins = [0, *itertools.accumulate(int(s[-1]) for s in self._starts)]
        self._size = self._begins[-1] if first_tokens is None else first_tokens
        if self._size > self._begins[-1]:
            raise UserError(
                f"first_tokens is {first_tokens:,}, but split {split!r} in {folder} has "
                f"{self._begins[-1]:,} tokens"
            )

    def __len__(self) -> int:
        return self._size

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens `start` to `stop` of the stream, int32; `0 <= start <= stop <= len(stream)`."""
        pieces: list[np.ndarray] = []
        while start < stop:
            shard = bisect.bisect_right(self._begins, start) - 1
            begin = self._begins[shard]
            upto = min(stop, self._begins[shard + 1])
            self._read_shard(shard, start - begin, upto - begin, pieces)
            start = upto
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int32)

    def _read_shard(self, shard: int, start: int, stop: int, pieces: list[np.ndarray]) -> None:
        starts = self._starts[shard]
        document = int(starts.searchsorted(start, "right")) - 1
        while start < stop:
            begin, end = int(starts[document]), int(starts[document + 1])
            upto = min(stop, end)
            length = end - begin - self._ends.size
            last = min(upto - begin, length)
            if start - begin < last:
                pieces.append(self._read_document(shard, document, start - begin, last))
            if upto - begin > length:
                pieces.append(self._ends[max(start - begin - length, 0) : upto - begin - length])
            start = upto
            document += 1

    def _read_document(self, shard: int, document: int, start: int, stop: int) -> np.ndarray:
        index = self._indices[shard]
        mark = int(index["marks"][document])
        first = start // _STRIDE
        positions = index["bytes"]
        begin, end = positions[mark + first], positions[mark + -(-stop // _STRIDE)]
        octets = np.frombuffer(self._files[shard].read(int(begin), int(end)), np.uint8)
        skipped = first * _STRIDE
        return decode_varints(octets)[start - skipped : stop - skipped].astype(np.int32, copy=False)
