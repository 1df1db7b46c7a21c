"""Which documents are duplicates: the same text, or similar shingles."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from t5x_like.errors import UserError
from t5x_like.near_duplicates import clusters
from t5x_like.near_duplicates.minhash import Array, Bands, Permutations, shingles
from t5x_like.near_duplicates.shard_keys import Arrays

_AT_ONCE = 64  # documents


@dataclasses.dataclass(frozen=True)
class DocumentRule:
    """Which documents are duplicates.

    Attributes:
      n: words of a shingle; MassiveText's 13 (Rae et al. 2021, appendix A.1).
      bands: of the signatures.
      seed: of the permutations.
      exact: the same text, character by character, instead of similar shingles.

    Raises:
      UserError: n is below 1.
    """

    unit: ClassVar[str] = "rows"
    n: int = 13
    bands: Bands = Bands()  # noqa: RUF009 (frozen)
    seed: int = 1
    exact: bool = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UserError(f"--n={self.n}: give a whole number of 1 or more.")

    def settings(self) -> dict[str, Any]:
        """See `shard_keys.Rule`, as the others."""
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
        """The `keys` of the texts, uint64 `[d, b]`, and which `rows` they are of."""
        rows, keys = [], []
        for row, key in self.keys(texts):
            rows.append(row)
            keys.append(key)
        width = 1 if self.exact else self.bands.bands
        keys_db = np.array(keys, np.uint64).reshape(len(keys), width)
        return {"keys": keys_db, "rows": np.array(rows, np.int64)}

    def counts(self, arrays: Arrays) -> dict[str, int]:
        """How many documents there are."""
        return {"documents": int(arrays["total"])}

    def keyed(self, arrays: Arrays) -> Iterator[tuple[bytes, int]]:
        """Each band's key, with the band's number before it."""
        for row, keys_b in zip(arrays["rows"].tolist(), arrays["keys"], strict=True):
            for band, key in enumerate(keys_b):
                yield band.to_bytes(4, "little") + key.tobytes(), row

    def dropped(self, arrays: Sequence[Arrays]) -> tuple[list[Array], dict[str, int]]:
        """All documents of a cluster but the first, and how many clusters there are."""
        first = clusters.first_of_cluster(np.concatenate([each["keys"] for each in arrays]))
        is_dropped = first != np.arange(len(first))
        places, begin = [], 0
        for each in arrays:
            rows = each["rows"]
            places.append(rows[is_dropped[begin : begin + len(rows)]])
            begin += len(rows)
        return places, {"clusters": len(np.unique(first[is_dropped]))}

    def dropped_of_links(self, links_l2: Array) -> tuple[Array, dict[str, int]]:
        """The same, of documents that have a key in common."""
        numbers, links = np.unique(links_l2, return_inverse=True)
        one, other = links.reshape(-1, 2).T
        first = clusters.first_of_linked(one, other, len(numbers))
        is_dropped = first != np.arange(len(first))
        return numbers[is_dropped], {"clusters": len(np.unique(first[is_dropped]))}


def _text_key(text: str) -> Array:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.frombuffer(digest, np.uint64)
