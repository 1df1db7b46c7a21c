"""Masks, full stops and random tokens, which objectives write or look for."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.errors import TaskError


def share(value: float, name: str) -> None:
    """Checks a setting that is a share of the tokens.

    Raises:
      TaskError: it is not above 0 and below 1.
    """
    if not 0 < value < 1:
        raise TaskError(f"{name} is {value}: between 0 and 1 is needed.")


def find_mask_id(spec: Mapping[str, Any], given: int | None, name: str) -> int:
    """The id that replaces a masked token.

    Args:
      spec: the vocabulary's.
      given: the setting `mask_id`; None takes the vocabulary's own mask token, as BART's and
        BERT's have, or else its first sentinel, as T5 does (Raffel et al. 2020, section 3.3.1).
      name: the objective's or corruption's, for errors.

    Raises:
      TaskError: the vocabulary has neither, or `given` is not one of its ids.
    """
    size = spec["vocab_size"]
    if given is not None:
        if not 0 <= given < size:
            raise TaskError(f"{name}.mask_id is {given}: an id below vocab_size {size} is needed.")
        return given
    if spec.get("mask_id") is not None:
        return int(spec["mask_id"])
    if not spec["extra_ids"]:
        raise TaskError(
            f"{name} needs a mask token: the vocabulary has none and extra_ids=0; set "
            f"{name}.mask_id, or give the vocabulary a sentinel (extra_ids=1)."
        )
    return size - 1


def find_boundary_ids(spec: Mapping[str, Any], name: str) -> tuple[int, int]:
    """The ids that stand before a row and after each of its segments, BERT's [CLS] and [SEP].

    Args:
      spec: of the vocabulary; where it has no such tokens, the sentinels after the first, which
        `find_mask_id` takes.
      name: of who asks, for errors.

    Raises:
      TaskError: the vocabulary has neither such tokens nor three sentinels.
    """
    found = spec.get("cls_id"), spec.get("sep_id")
    if found[0] is not None and found[1] is not None:
        return int(found[0]), int(found[1])
    if spec["extra_ids"] < 3:
        raise TaskError(
            f"{name} needs tokens before and after segments: the vocabulary has no [CLS] and "
            f"[SEP], and extra_ids={spec['extra_ids']}, where 3 or more would stand for them."
        )
    return spec["vocab_size"] - 2, spec["vocab_size"] - 3


def find_extract_id(spec: Mapping[str, Any], name: str) -> int:
    """The id that ends a row which a decoder labels, GPT-1's extract token: the fourth sentinel.

    The first three may be mask and boundaries, see `find_mask_id` and `find_boundary_ids`.

    Args:
      spec: of the vocabulary.
      name: of who asks, for errors.

    Raises:
      TaskError: the vocabulary has fewer than four sentinels.
    """
    if spec["extra_ids"] < 4:
        raise TaskError(
            f"{name} needs a token from which a label is said: give the vocabulary four sentinels, "
            f"the last of which it is (extra_ids={spec['extra_ids']} now), or set extract to False."
        )
    return int(spec["vocab_size"]) - 4


def find_full_stop_ids(
    spec: Mapping[str, Any], given: Sequence[int] | None, name: str
) -> tuple[int, ...]:
    """The ids that end sentences.

    Args:
      spec: the vocabulary's.
      given: the setting `full_stop_ids`; None takes the vocabulary's tokens that consist of
        full stops.
      name: the objective's or corruption's, for errors.

    Raises:
      TaskError: there are none.
    """
    found = spec.get("full_stop_ids") if given is None else given
    if not found:
        raise TaskError(
            f"{name} needs to know where sentences end: the vocabulary has no token of full "
            f"stops; set {name}.full_stop_ids."
        )
    return tuple(found)


def ordinary_ids(spec: Mapping[str, Any]) -> np.ndarray:
    """All ids but sentinels and those with a special meaning, int32, in ascending order."""
    special = [spec.get("pad_id"), spec["eos_id"], spec.get("unk_id"), spec.get("mask_id")]
    special += spec.get("special_ids", ())
    ids = np.arange(spec["vocab_size"] - spec["extra_ids"], dtype=np.int32)
    return np.setdiff1d(ids, [i for i in special if i is not None])


def random_places(length: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` different indices below `length`, unordered, all sets equally likely."""
    if not count:
        return np.zeros(0, np.intp)
    # The indices of the smallest of `length` random numbers are a random subset, at a third of
    # the cost of a permutation.
    return rng.random(length, dtype=np.float32).argpartition(count - 1)[:count]


@dataclasses.dataclass(frozen=True)
class Replacer:
    """Replaces chosen tokens by masks and random tokens, in given shares, or not at all.

    Attributes:
      mask_share: share of the chosen tokens that become the mask.
      random_share: share of them that become a random token.
      mask_id: id of the mask.
      ordinary: int32, the tokens that random ones are drawn from.
    """

    mask_share: float
    random_share: float
    mask_id: int
    ordinary: np.ndarray

    @classmethod
    def for_vocabulary(
        cls,
        spec: Mapping[str, Any],
        mask_share: float,
        random_share: float,
        mask_id: int | None,
        name: str,
    ) -> "Replacer":
        """The replacer with the ids of a vocabulary; `name` is its user's, for errors.

        Raises:
          TaskError: there is no mask token.
        """
        found = find_mask_id(spec, mask_id, name)
        return cls(mask_share, random_share, found, ordinary_ids(spec))

    def __call__(
        self, tokens: np.ndarray, places: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """A copy of `tokens`, int32 `[t]`, with those at `places`, int `[n]`, replaced."""
        replaced = tokens.copy()
        if self.mask_share == 1:
            replaced[places] = self.mask_id
            return replaced
        fate = rng.random(places.size)
        replaced[places[fate < self.mask_share]] = self.mask_id
        random = places[(fate >= self.mask_share) & (fate < self.mask_share + self.random_share)]
        replaced[random] = self.ordinary[rng.integers(self.ordinary.size, size=random.size)]
        return replaced


def check_shares(mask_share: float, random_share: float, name: str) -> None:
    """Checks the shares of a `Replacer`.

    Raises:
      TaskError: one is negative, or together they exceed 1.
    """
    if min(mask_share, random_share) < 0 or mask_share + random_share > 1 + 1e-9:
        raise TaskError(
            f"{name}.mask_share is {mask_share} and random_share {random_share}: neither may be "
            "negative, and together they may be 1 at most."
        )
