"""Finds the near duplicates among the documents of a source.

Each shard is read once, in as many processes as one likes, and leaves a file with the keys of its
documents; a run that was interrupted goes on with the shards that are left. Then all keys are
sorted, and of each cluster all documents but the first are written to the list of what is dropped.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from t5x_like.distributed import workers
from t5x_like.errors import UserError
from t5x_like.host import directory_lock, disk_space, files
from t5x_like.near_duplicates import clusters
from t5x_like.near_duplicates.lines import LineRule
from t5x_like.near_duplicates.minhash import Array, Bands, Permutations, shingles

_AT_ONCE = 64  # documents


class Documents(Protocol):
    """The documents of a source, in splits and shards; goes to other processes."""

    def shards(self, split: str) -> Sequence[str]:
        """The names of the parts that can be read separately, in order."""

    def texts(self, split: str, shard: str) -> Iterable[str]:
        """The text of each row of a shard, in order."""

    def fingerprint(self) -> str:
        """Hex digest that changes when the rows do."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which documents are duplicates.

    Attributes:
      n: words of a shingle; MassiveText's 13 (Rae et al. 2021, appendix A.1).
      bands: of the signatures.
      seed: of the permutations.
      exact: the same text, character by character, instead of similar shingles.

    Raises:
      UserError: n is below 1.
    """

    n: int = 13
    bands: Bands = Bands()  # noqa: RUF009 (frozen)
    seed: int = 1
    exact: bool = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UserError(f"--n={self.n}: give a whole number of 1 or more.")

    def settings(self) -> dict[str, Any]:
        """What the list depends on, as JSON."""
        if self.exact:
            return {"exact": True}
        return {"n": self.n, **dataclasses.asdict(self.bands), "seed": self.seed}

    def keys(self, texts: Iterable[str]) -> Iterator[tuple[int, Array]]:
        """The place and the keys, uint64 `[b]`, of each text that has a word."""
        texts = iter(texts)
        begin = 0
        permutations = Permutations(self.bands.bands * self.bands.rows, self.seed)
        while block := list(itertools.islice(texts, _AT_ONCE)):
            if self.exact:
                for place, text in enumerate(block, begin):
                    yield place, _text_key(text)
            else:
                for place, found in enumerate(shingles(block, self.n), begin):
                    if len(found):
                        yield place, self.bands.keys(permutations.signature(found))
            begin += len(block)

    def arrays(self, texts: Iterable[str]) -> dict[str, Array]:
        """What is kept of a shard: the `keys` of its texts, and which `rows` they are of."""
        rows, keys = [], []
        for row, key in self.keys(texts):
            rows.append(row)
            keys.append(key)
        width = 1 if self.exact else self.bands.bands
        keys_db = np.array(keys, np.uint64).reshape(len(keys), width)
        return {"keys": keys_db, "rows": np.array(rows, np.int64)}

    def listed(
        self, shards: Sequence[tuple[str, int]], arrays: Sequence[Mapping[str, Array]]
    ) -> tuple[dict[str, int], list[dict[str, Any]]]:
        """Numbers for the first line of the list, and the other lines.

        Args:
          shards: split and number of each.
          arrays: of each, as kept, and `total`, its documents.
        """
        first = clusters.first_of_cluster(np.concatenate([each["keys"] for each in arrays]))
        is_dropped = first != np.arange(len(first))
        lines, begin = [], 0
        for (split, number), each in zip(shards, arrays, strict=True):
            places = each["rows"]
            dropped = places[is_dropped[begin : begin + len(places)]].tolist()
            begin += len(places)
            if dropped:
                lines.append({"split": split, "shard": number, "rows": dropped})
        counts = {
            "documents": sum(int(each["total"]) for each in arrays),
            "dropped": int(is_dropped.sum()),
            "clusters": len(np.unique(first[is_dropped])),
        }
        return counts, lines


def _text_key(text: str) -> Array:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.frombuffer(digest, np.uint64)


def deduplicate(
    documents: Documents,
    splits: Sequence[str],
    path: str | os.PathLike[str],
    rule: Rule | LineRule,
    *,
    num_workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Writes the list of the documents that are dropped.

    Its first line, JSON as the others, says of which source it is and how it was made; each
    further line has the rows of a shard: `{"split": "train", "shard": 0, "rows": [3, 17]}`. Of a
    `LineRule` it has `lines` in place of `rows`, counted through all documents of the shard.
    A list of the same source by the same rule is left as it is.

    Args:
      documents: of a source.
      splits: are read in this order; of a cluster the first document stays.
      path: of the list, local; keys are kept beside it, in a folder, until it is written.
      rule: which documents, or lines of them, are duplicates.
      num_workers: processes that read; 1 is this one.
      progress: called with the number of documents that were read since the last time.

    Returns:
      The first line of the list.

    Raises:
      UserError: another command writes in the folder, or a shard is named twice.
      DataFault: a process was killed.
      DiskFull: there is no room for the keys.
    """
    target = Path(files.location(path))
    head = {"source": documents.fingerprint(), "splits": list(splits), **rule.settings()}
    digest = hashlib.sha256(json.dumps(head).encode()).hexdigest()[:16]
    target.parent.mkdir(parents=True, exist_ok=True)
    held = directory_lock.lock(target.parent, "--out", "`t5x-like dedup`")
    try:
        finished = _finished(target)
        if all(finished.get(name) == value for name, value in head.items()):
            return finished
        folder = target.with_name(f"{target.stem}.keys-{digest}")
        folder.mkdir(exist_ok=True)
        found = _read(documents, splits, folder, rule, num_workers, progress)
        places = [(shard.split, shard.number) for shard in found]
        counts, lines = rule.listed(places, [_kept(shard) for shard in found])
        head |= counts
        files.write_whole(target, "".join(json.dumps(line) + "\n" for line in (head, *lines)))
        for kept in target.parent.iterdir():  # of other rules or files too, interrupted earlier
            if kept.name.startswith(f"{target.stem}.keys-"):
                shutil.rmtree(kept, ignore_errors=True)
    finally:
        held.release()
    return head


def _finished(path: Path) -> dict[str, Any]:
    """The first line of a list; empty where there is none."""
    try:
        head = json.loads(files.read_whole(path).split(b"\n", 1)[0])
    except (OSError, ValueError, RecursionError):
        return {}
    return head if isinstance(head, dict) else {}


@dataclasses.dataclass(frozen=True)
class _Shard:
    """The keys of a shard's documents, on disk."""

    split: str
    number: int
    name: str
    path: Path


def _read(
    documents: Documents,
    splits: Sequence[str],
    folder: Path,
    rule: Rule | LineRule,
    num_workers: int,
    progress: Callable[[int], None] | None,
) -> list[_Shard]:
    found = []
    for split in splits:
        names = list(documents.shards(split))
        for name, times in collections.Counter(names).items():
            if times > 1:
                raise UserError(f"'{name}' is named twice in split '{split}': name it once.")
        for number, name in enumerate(names):
            path = folder / f"{split}-{number:05d}.npz"
            found.append(_Shard(split, number, name, path))
    missing = [shard for shard in found if not shard.path.exists()]
    for _ in workers.results(
        _write_keys, (documents, rule), missing, workers.beside(num_workers, missing), progress
    ):
        pass
    return found


def _write_keys(work: tuple[Documents, Rule | LineRule], shard: _Shard, tell: workers.Tell) -> None:
    """Writes the keys of a shard, all or none."""
    documents, rule = work
    told = workers.Told(tell)

    def counted() -> Iterator[str]:
        for text in documents.texts(shard.split, shard.name):
            told.add()
            yield text
        told.flush()

    arrays: Any = rule.arrays(counted())
    size = sum(each.nbytes for each in arrays.values())
    with disk_space.explained(shard.path.parent, size), files.replacing(shard.path) as f:
        np.savez(f, total=np.int64(told.count), **arrays)


def _kept(shard: _Shard) -> dict[str, Array]:
    with np.load(shard.path) as kept:
        return dict(kept)
