"""Copies of lines: of the same line in any document the first one stays.

C4 was made so (Raffel et al. 2020), and CCNet (Wenzek et al. 2020, section 3.1), which looks at
less of each line.
"""

import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from t5x_like.errors import UserError
from t5x_like.near_duplicates.minhash import Array

_BLANK = 0  # the key of lines that are nobody's copies
_PARTS = 16  # of the keys, sorted one after the other: so much less memory


def _c4(line: str) -> str:
    return line.strip().lower()


def _ccnet(line: str) -> str:
    """Lower case, digits as 0, without accents and punctuation."""
    plain = unicodedata.normalize("NFD", line.strip().lower())
    kept = (c for c in plain if unicodedata.category(c)[0] not in "PM")
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

    normalization: str = "c4"

    def __post_init__(self) -> None:
        if self.normalization not in NORMALIZATIONS:
            raise UserError(f"--lines={self.normalization}: there are {', '.join(NORMALIZATIONS)}.")

    def settings(self) -> dict[str, Any]:
        """What the list depends on, as JSON."""
        return {"lines": self.normalization}

    def arrays(self, texts: Iterable[str]) -> dict[str, Array]:
        """What is kept of a shard: `keys`, uint64, of all lines of its texts in order."""
        normalize = NORMALIZATIONS[self.normalization]
        return {
            "keys": np.fromiter(
                (_key(normalize(line)) for text in texts for line in text.splitlines()), np.uint64
            )
        }

    def listed(
        self, shards: Sequence[tuple[str, int]], arrays: Sequence[Mapping[str, Array]]
    ) -> tuple[dict[str, int], list[dict[str, Any]]]:
        """Numbers for the first line of the list, and the other lines.

        Args:
          shards: split and number of each.
          arrays: of each, as kept.
        """
        keys = np.concatenate([each["keys"] for each in arrays] or [np.zeros(0, np.uint64)])
        is_copy = copies(keys)
        found, begin = [], 0
        for (split, number), each in zip(shards, arrays, strict=True):
            end = begin + len(each["keys"])
            dropped = np.flatnonzero(is_copy[begin:end]).tolist()
            begin = end
            if dropped:
                found.append({"split": split, "shard": number, "lines": dropped})
        counts = {
            "documents": sum(int(each["total"]) for each in arrays),
            "all_lines": int(np.count_nonzero(keys != _BLANK)),
            "dropped": int(is_copy.sum()),
        }
        return counts, found


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
