"""From counts of n-grams to probabilities: the ways of smoothing, by the names of the literature.

For a context h of some tokens, a token w, and h' that is h without its first token, each way gives
the probabilities of those w that were seen after h, and a weight of h for all others, which have
that weight times P(w|h'). Below single tokens stands the uniform distribution over the vocabulary.
Equations are those of Chen and Goodman 1998, "An Empirical Study of Smoothing Techniques for
Language Modeling".
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from models.errors import ModelError

# Of modified Kneser-Ney where counts of counts do not give them: those of KenLM's lmplz.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


@dataclasses.dataclass(frozen=True)
class Continuations:
    """n-grams of one order, as continuations of their contexts.

    Attributes:
      order: tokens of an n-gram.
      counts: of each n-gram, int `[n]`; all of a context's are there.
      contexts: the number of each one's context, ascending, int `[n]`.
      num_contexts: `k`.
      shorter: P(w|h') of each, float64 `[n]`; of single tokens 1 / V, and 0 of one that is never
        predicted.
      num_predictable: V, how many tokens may be predicted.
    """

    order: int
    counts: np.ndarray
    contexts: np.ndarray
    num_contexts: int
    shorter: np.ndarray
    num_predictable: int

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The sum of a value of each n-gram over the continuations of a context, `[k]`."""
        return np.bincount(self.contexts, weights=values, minlength=self.num_contexts)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Probabilities of one order.

    Attributes:
      probabilities: P(w|h) of each n-gram, float64 `[n]`.
      backoffs: of each context, what P(w|h') is multiplied by for a token that is not among its
        continuations, float64 `[k]`.
    """

    probabilities: np.ndarray
    backoffs: np.ndarray


@runtime_checkable
class Smoothing(Protocol):
    """A way of smoothing.

    Attributes:
      continuation_counts: whether orders below the highest count the tokens before an n-gram, and
        not its occurrences.
      backs_off: whether a token that was not seen after h has a share of P(w|h'), or else one of
        the uniform distribution.
    """

    continuation_counts: ClassVar[bool]
    backs_off: ClassVar[bool]

    def discounts_of(self, order: int, counts: np.ndarray) -> tuple[np.ndarray, str]:
        """What all n-grams of an order decide together.

        Args:
          order: tokens of an n-gram.
          counts: of each n-gram of this order, int.

        Returns:
          What `estimate` is given, for the counts 0, 1, 2, ...; empty where counts need no
          discount. And what a user should know of it; "" for nothing.
        """

    def estimate(self, seen: Continuations, discounts: np.ndarray) -> Estimate:
        """The probabilities of one order, or of a part of it, that of the order below known."""


class _Undiscounted:
    def discounts_of(self, order: int, counts: np.ndarray) -> tuple[np.ndarray, str]:
        """See `Smoothing`."""
        return np.zeros(0), ""


@dataclasses.dataclass(frozen=True)
class MaximumLikelihood(_Undiscounted):
    """`c(hw) / c(h)`: what was never seen after h has probability 0, and an infinite loss.

    After a context that was never seen itself, the longest end of it that was seen counts.
    """

    continuation_counts: ClassVar[bool] = False
    backs_off: ClassVar[bool] = True

    def estimate(self, seen: Continuations, discounts: np.ndarray) -> Estimate:
        """See `Smoothing`."""
        totals = seen.sums(seen.counts)
        return Estimate(
            np.where(
                totals[seen.contexts] > 0, _share(seen.counts, totals[seen.contexts]), seen.shorter
            ),
            np.where(totals > 0, 0.0, 1.0),
        )


@dataclasses.dataclass(frozen=True)
class AddK(_Undiscounted):
    """`(c(hw) + k) / (c(h) + k V)`; with k = 1 Laplace's rule.

    Shorter contexts are not looked at, but where a text has no more tokens yet.

    Attributes:
      k: added to every count.
    """

    k: float = 1.0

    continuation_counts: ClassVar[bool] = False
    backs_off: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Checks k.

        Raises:
          ModelError: it is not above 0.
        """
        if not 0 < self.k < math.inf:
            raise ModelError(f"AddK.k is {self.k}: give a number above 0, such as 1 or 0.01.")

    def estimate(self, seen: Continuations, discounts: np.ndarray) -> Estimate:
        """See `Smoothing`."""
        totals = seen.sums(seen.counts) + self.k * seen.num_predictable
        may = seen.shorter > 0
        return Estimate(
            may * (seen.counts + self.k) / totals[seen.contexts],
            self.k * seen.num_predictable / totals,
        )


@dataclasses.dataclass(frozen=True)
class WittenBell(_Undiscounted):
    """`(c(hw) + T(h) P(w|h')) / (c(h) + T(h))`, T(h) being how many tokens were seen after h.

    Attributes:
      uniform: whether single tokens are interpolated with the uniform distribution; without it
        one that never occurs has probability 0.
    """

    uniform: bool = True

    continuation_counts: ClassVar[bool] = False
    backs_off: ClassVar[bool] = True

    def estimate(self, seen: Continuations, discounts: np.ndarray) -> Estimate:
        """See `Smoothing`."""
        if seen.order == 1 and not self.uniform:
            return MaximumLikelihood().estimate(seen, discounts)
        totals, kinds = seen.sums(seen.counts), seen.sums(seen.counts > 0)
        backoffs = np.where(totals > 0, _share(kinds, totals + kinds), 1.0)
        own = _share(seen.counts, (totals + kinds)[seen.contexts])
        return Estimate(own + backoffs[seen.contexts] * seen.shorter, backoffs)


@dataclasses.dataclass(frozen=True)
class Katz:
    """Discounts by Good and Turing, and back-off (Katz 1987).

    An n-gram seen r times has `d_r c(hw) / c(h)`, where `r* = (r+1) n_{r+1} / n_r` and
    `d_r = (r*/r - (k+1) n_{k+1} / n_1) / (1 - (k+1) n_{k+1} / n_1)` for r up to k, and 1 above; a
    discount outside of (0, 1] is left out. Others share what is left in the proportions of
    P(w|h'). Where nothing is left, the context's count is raised by 1.

    Attributes:
      largest: k, the largest count that is discounted.
    """

    largest: int = 5

    continuation_counts: ClassVar[bool] = False
    backs_off: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks the largest count.

        Raises:
          ModelError: it is below 1.
        """
        if self.largest < 1:
            raise ModelError(f"Katz.largest is {self.largest}: give 1 or more; Katz took 5.")

    def discounts_of(self, order: int, counts: np.ndarray) -> tuple[np.ndarray, str]:
        """What counts of 0, 1, ... `largest` and more are multiplied by."""
        n = counts_of_counts(counts, self.largest + 1).astype(float)
        found = np.ones(self.largest + 2)
        if not n[1]:
            return found, ""
        common = (self.largest + 1) * n[self.largest + 1] / n[1]
        for r in range(1, self.largest + 1):
            if n[r] and n[r + 1] and common != 1:
                ratio = (r + 1) * n[r + 1] / (r * n[r])
                discount = (ratio - common) / (1 - common)
                if 0 < discount <= 1:
                    found[r] = discount
        return found, ""

    def estimate(self, seen: Continuations, discounts: np.ndarray) -> Estimate:
        """See `Smoothing`."""
        kept = seen.counts * discounts[np.minimum(seen.counts, self.largest + 1)]
        was = seen.counts > 0
        totals = seen.sums(seen.counts)
        rest = 1 - seen.sums(seen.shorter * was)
        # The others may have no share left to take: then the seen ones have all.
        all_seen = rest <= 1e-9
        kept = np.where(all_seen[seen.contexts], seen.counts, kept)
        left = totals - seen.sums(kept)
        nothing = ~all_seen & (left <= 1e-9 * totals) & (totals > 0)
        totals = totals + nothing
        left = left + nothing
        with np.errstate(divide="ignore", invalid="ignore"):
            backoffs = np.where(all_seen, 0.0, left / totals / rest)
        backoffs = np.where(totals > 0, backoffs, 1.0)
        probabilities = np.where(
            was, _share(kept, totals[seen.contexts]), backoffs[seen.contexts] * seen.shorter
        )
        return Estimate(probabilities, backoffs)


@dataclasses.dataclass(frozen=True)
class KneserNey:
    """Interpolated Kneser-Ney (Kneser and Ney 1995; Chen and Goodman's equation 20).

    `P(w|h) = max(c(hw) - D, 0) / c(h) + D N(h) / c(h) P(w|h')`, N(h) being how many tokens were
    seen after h. Below the highest order c(hw) is how many tokens were seen before hw.

    Attributes:
      discount: D, the same for all orders; None is `n_1 / (n_1 + 2 n_2)` of each order.
      uniform: as `WittenBell.uniform`.
    """

    discount: float | None = None
    uniform: bool = True

    continuation_counts: ClassVar[bool] = True
    backs_off: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks the discount.

        Raises:
          ModelError: it is not between 0 and 1.
        """
        if self.discount is not None and not 0 <= self.discount <= 1:
            raise ModelError(f"KneserNey.discount is {self.discount}: it is between 0 and 1.")

    def discounts_of(self, order: int, counts: np.ndarray) -> tuple[np.ndarray, str]:
        """See `Smoothing`."""
        note, discount = "", self.discount
        if discount is None:
            _, n1, n2 = map(int, counts_of_counts(counts, 2))
            discount = n1 / (n1 + 2 * n2) if n1 and n2 else None
        if discount is None:
            discount = FALLBACK_DISCOUNTS[0]
            note = _no_discounts(order, f"D = {discount}")
        return np.array([0.0, discount, discount, discount]), note

    def estimate(self, seen: Continuations, discounts: np.ndarray) -> Estimate:
        """See `Smoothing`."""
        if seen.order == 1 and not self.uniform:
            return MaximumLikelihood().estimate(seen, discounts)
        return _discounted(seen, discounts)


@dataclasses.dataclass(frozen=True)
class ModifiedKneserNey:
    """Kneser-Ney with a discount for each of the counts 1, 2, and 3 or more (Chen and Goodman).

    `Y = n_1 / (n_1 + 2 n_2)`, `D_1 = 1 - 2 Y n_2/n_1`, `D_2 = 2 - 3 Y n_3/n_2`,
    `D_3 = 3 - 4 Y n_4/n_3` of each order. Where a corpus is too small to give them, they are
    `FALLBACK_DISCOUNTS`, which is said.

    Attributes:
      discounts: the three, the same for all orders; None takes those of each order.
      uniform: as `WittenBell.uniform`.
    """

    discounts: Sequence[float] | None = None
    uniform: bool = True

    continuation_counts: ClassVar[bool] = True
    backs_off: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks the discounts.

        Raises:
          ModelError: there are not three of them, or one is negative or above its count.
        """
        given = self.discounts
        if given is not None and not (
            len(given) == 3 and all(0 <= d <= r for r, d in enumerate(given, 1))
        ):
            raise ModelError(
                f"ModifiedKneserNey.discounts is {given}: give three, of the counts 1, 2 and 3 or "
                "more, none above its count."
            )

    def discounts_of(self, order: int, counts: np.ndarray) -> tuple[np.ndarray, str]:
        """See `Smoothing`."""
        found, note = self.discounts, ""
        if found is None:
            found = estimated_discounts(counts_of_counts(counts, 4))
        if found is None:
            found = FALLBACK_DISCOUNTS
            note = _no_discounts(order, f"D = {', '.join(map(str, found))}")
        return np.array([0.0, *found]), note

    def estimate(self, seen: Continuations, discounts: np.ndarray) -> Estimate:
        """See `Smoothing`."""
        if seen.order == 1 and not self.uniform:
            return MaximumLikelihood().estimate(seen, discounts)
        return _discounted(seen, discounts)


def counts_of_counts(counts: np.ndarray, largest: int) -> np.ndarray:
    """How many n-grams were seen 0, 1, ... `largest` times, int `[largest + 1]`."""
    return np.array([np.count_nonzero(counts == count) for count in range(largest + 1)])


def estimated_discounts(counts_of_counts: np.ndarray) -> tuple[float, float, float] | None:
    """The discounts of modified Kneser-Ney.

    Args:
      counts_of_counts: n_0 to n_4; the first is not read.

    Returns:
      D_1, D_2 and D_3; None where one of n_1 to n_3 is 0, or a discount is not between 0 and its
      count: where KenLM's lmplz has none either.
    """
    _, n1, n2, n3, n4 = map(int, counts_of_counts)
    if not (n1 and n2 and n3):
        return None
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 <= d <= r for r, d in enumerate(found, 1)) else None


def _discounted(seen: Continuations, discounts: np.ndarray) -> Estimate:
    by_count = discounts[np.minimum(seen.counts, 3)]
    totals = seen.sums(seen.counts)
    backoffs = np.where(totals > 0, _share(seen.sums(by_count), totals), 1.0)
    # A discount is at most its count, but for one that was given and fits no count of 1.
    own = _share(np.maximum(seen.counts - by_count, 0), totals[seen.contexts])
    return Estimate(own + backoffs[seen.contexts] * seen.shorter, backoffs)


def _no_discounts(order: int, taken: str) -> str:
    return f"too few n-grams of order {order} to estimate their discounts: {taken} is taken"


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part of whole, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
