"""Which of several texts is taken: by votes, by likelihood, or by what the model says of them."""

import collections
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from t5x_like.data.formats.prompts import Tokens
from t5x_like.decoding.continuations import score_continuations
from t5x_like.decoding.generate import Generation
from t5x_like.errors import UserError
from t5x_like.host.journal import NO_JOURNAL, Journal
from t5x_like.protocols import Decodes

# Attribute to the probability of the rating that is desired.
Ratings = Mapping[str, float]


def _quality() -> dict[str, float]:
    return {"SENSIBLE": 3.0, "SPECIFIC": 1.0, "INTERESTING": 1.0}


@dataclasses.dataclass(frozen=True)
class SampleAndRank:
    """Drops texts that are probably unsafe, and takes the best of the others.

    A model that has learned ratings beside responses, see `tasks.rated_responses`, judges its own
    texts: of `prompt text ATTRIBUTE` it says how probable each rating is. Texts of which an
    attribute with a threshold is less probable are dropped; of the others the one with the
    highest weighted sum is taken, of equals the first (Thoppilan et al. 2022, section 6.1: `3
    P(sensible) + P(specific) + P(interesting)`). A probability is that among the ratings that there
    are.

    Attributes:
      weights: of each attribute in the sum.
      thresholds: of attributes, in the sum or not, the least probability.
      desired: the rating that is desired, where it is not `ratings[0]`: of UNSAFE it is "0".
      ratings: all that an attribute can have, as the model has learned to write them.
      fallback: what is answered where every text is dropped.
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=_quality)
    thresholds: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"UNSAFE": 0.8})
    desired: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"UNSAFE": "0"})
    ratings: Sequence[str] = ("1", "0")
    fallback: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratings", tuple(map(str, self.ratings)))  # a list, from gin
        if len(set(self.ratings)) < 2 or len(set(self.ratings)) < len(self.ratings):
            raise UserError(
                f"SampleAndRank.ratings is {list(self.ratings)}: give two or more that differ."
            )
        for name, weight in self.weights.items():
            if not math.isfinite(weight):
                raise UserError(f"SampleAndRank.weights has {weight} for '{name}': give a number.")
        for name, least in self.thresholds.items():
            if not 0 <= least <= 1:
                raise UserError(
                    f"SampleAndRank.thresholds has {least} for '{name}': give a probability, from "
                    "0 to 1."
                )
        for name, rating in self.desired.items():
            if rating not in self.ratings:
                raise UserError(
                    f"SampleAndRank.desired has {rating!r} for '{name}': give one of "
                    f"{', '.join(map(repr, self.ratings))}."
                )
        if not self.attributes:
            raise UserError("SampleAndRank has neither weights nor thresholds: give attributes.")

    @property
    def attributes(self) -> tuple[str, ...]:
        """All that texts are judged by."""
        return tuple(dict.fromkeys((*self.weights, *self.thresholds)))

    def score(self, found: Ratings) -> float:
        """The weighted sum of a text's probabilities."""
        return sum(weight * found[name] for name, weight in self.weights.items())

    def best(self, found: Sequence[Ratings]) -> int | None:
        """The number of the best text; None where all are dropped."""
        scores = [
            self.score(one)
            if all(one[name] >= least for name, least in self.thresholds.items())
            else None
            for one in found
        ]
        kept = [score for score in scores if score is not None]
        return scores.index(max(kept)) if kept else None

    def judged(
        self,
        model: Decodes,
        params: Any,
        contexts: Sequence[Tokens],
        *,
        encode: Callable[[str], Sequence[int]],
        encode_rating: Callable[[str], Sequence[int]],
        end: Sequence[int] = (),
        bos_id: int | None = 0,
        bidirectional: bool = False,
        batch_size: int = 32,
        journal: Journal = NO_JOURNAL,
    ) -> list[Ratings]:
        """What the model says of texts.

        Args:
          model: a `Decodes`.
          params: its parameters.
          contexts: token ids of each prompt with its text.
          encode: text that is read to token ids.
          encode_rating: text that is written to token ids.
          end: what inputs end with, of tasks whose inputs have an end token.
          bos_id: see `score_continuations`, as all that follow.
          bidirectional: see there.
          batch_size: see there.
          journal: see there.
        """
        pairs = []
        ratings = [list(encode_rating(f" {rating}")) for rating in self.ratings]
        for context in contexts:
            for name in self.attributes:
                asked = [*context, *encode(f" {name}"), *end]
                pairs += [(asked, rating) for rating in ratings]
        found = score_continuations(
            model,
            params,
            pairs,
            bos_id=bos_id,
            bidirectional=bidirectional,
            batch_size=batch_size,
            journal=journal,
        )
        totals = np.array([one.total for one in found])
        totals = totals.reshape(len(contexts), len(self.attributes), len(ratings))
        shares = np.exp(totals - totals.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        places = [
            self.ratings.index(self.desired.get(name, self.ratings[0])) for name in self.attributes
        ]
        return [
            {
                name: float(own[place])
                for name, own, place in zip(self.attributes, of_text, places, strict=True)
            }
            for of_text in shares
        ]


def likeliest(found: Sequence[Generation]) -> int:
    """The number of the text whose tokens have the highest mean log-probability; of equals the
    first.
    """
    means = [one.score / max(1, one.length) for one in found]
    return means.index(max(means))


def majority(answers: Sequence[Any]) -> tuple[int, int]:
    """The number of the first text that has the most frequent answer, and how many have it.

    Of equally frequent ones the answer that came first counts. None and "" are no answers; where
    there are no others, the first text is chosen, with 0 votes.
    """
    # Answers may be lists or arrays, which cannot be counted themselves.
    keys = [None if answer is None else repr(answer) for answer in answers]
    keys = [None if key == repr("") else key for key in keys]
    counts = collections.Counter(key for key in keys if key is not None)
    if not counts:
        return 0, 0
    key, votes = counts.most_common(1)[0]  # of equals, the one that was counted first
    return keys.index(key), votes
