"""Copies of lines: of the same line in any document the first one stays.

C4 was made so (Raffel et al. 2020), and CCNet (Wenzek et al. 2020, section 3.1), which looks at
less of each line.
"""

import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from t5x_like.errors import UserError
from t5x_like.near_duplicates.minhash import Array
from t5x_like.near_duplicates.shard_keys import Arrays

_BLANK = 0  # the key of lines that are nobody's copies
_PARTS = 16  # of the keys, sorted one after the other: so much less memory


def _c4(line: str) -> str:
    return line.strip().lower()


def _ccnet(line: str) -> str:
    """Lower case, digits as 0, without accents and punctuation.

    Accents are marks that take no space, as in CCNet's code: others are vowels of Indic scripts.
    """
    plain = unicodedata.normalize("NFD", line.strip().lower())
    categories = map(unicodedata.category, plain)
    kept = (c for c, of in zip(plain, categories, strict=True) if of != "Mn" and of[0] != "P")
    return re.sub(r"\d", "0", "".join(kept))


NORMALIZATIONS: Mapping[str, Callable[[str], str]] = {"c4": _c4, "ccnet": _ccnet}


@dataclasses.dataclass(frozen=True)
class LineRule:
    """Which lines are the same.

    Attributes:
      normalization: what is compared: `c4`, lines in lower case without white space around them;
        `ccnet`, besides that without accents and punctuation, and with all digits the same.

    Raises:
      UserError: no such normalization.
    """

    unit: ClassVar[str] = "lines"
    normalization: str = "c4"

    def __post_init__(self) -> None:
        if self.normalization not in NORMALIZATIONS:
            raise UserError(f"--lines={self.normalization}: there are {', '.join(NORMALIZATIONS)}.")

    def settings(self) -> dict[str, Any]:
        """See `shard_keys.Rule`, as the others."""
        return {"lines": self.normalization}

    def arrays(self, texts: Iterable[str]) -> dict[str, Array]:
        """The `keys`, uint64, of all lines of the texts in order."""
        normalize = NORMALIZATIONS[self.normalization]
        return {
            "keys": np.fromiter(
                (_key(normalize(line)) for text in texts for line in text.splitlines()), np.uint64
            )
        }

    def counts(self, arrays: Arrays) -> dict[str, int]:
        """How many documents there are, and lines that are not blank."""
        lines = int(np.count_nonzero(arrays["keys"] != _BLANK))
        return {"documents": int(arrays["total"]), "all_lines": lines}

    def keyed(self, arrays: Arrays) -> Iterator[tuple[bytes, int]]:
        """The keys of lines that are not blank."""
        keys_l = arrays["keys"]
        for place in np.flatnonzero(keys_l != _BLANK).tolist():
            yield keys_l[place].tobytes(), place

    def dropped(self, arrays: Sequence[Arrays]) -> tuple[list[Array], dict[str, int]]:
        """All lines of a key but the first."""
        is_copy = copies(np.concatenate([each["keys"] for each in arrays]))
        ends = np.cumsum([len(each["keys"]) for each in arrays])
        return [np.flatnonzero(part) for part in np.split(is_copy, ends[:-1])], {}

    def dropped_of_links(self, links_l2: Array) -> tuple[Array, dict[str, int]]:
        """All that are linked with an earlier one."""
        return np.unique(links_l2[:, 1]), {}


def copies(keys_l: Array) -> Array:
    """Which lines have the key of an earlier one, bool `[l]`; blank ones never do.

    Args:
      keys_l: uint64, in order.
    """
    is_copy = np.zeros(len(keys_l), np.bool_)
    for part in range(_PARTS):
        places = np.flatnonzero(keys_l % np.uint64(_PARTS) == part)
        keys = keys_l[places]
        order = np.argsort(keys, kind="stable")
        in_order = keys[order]
        again = np.flatnonzero((in_order[1:] == in_order[:-1]) & (in_order[1:] != _BLANK)) + 1
        is_copy[places[order[again]]] = True
    return is_copy


def _key(line: str) -> int:
    if not line:
        return _BLANK
    digest = hashlib.blake2b(line.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
