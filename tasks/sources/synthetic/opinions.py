"""Opinions of films, each with its sentiment: text to try learning from preferences with."""

import dataclasses
import json
from typing import ClassVar

import numpy as np

from tasks.errors import TaskError
from tasks.sources import source as source_lib
from tasks.sources.synthetic.drawn_rows import FEWEST_ROWS, DrawnRows

PRAISE = (
    "charming", "clever", "fresh", "funny", "gripping", "honest", "lively", "moving", "sharp",
    "tender", "warm", "witty",
)  # fmt: skip
BLAME = (
    "bland", "boring", "clumsy", "cold", "dull", "flat", "hollow", "lazy", "messy", "shallow",
    "silly", "tired",
)  # fmt: skip
_SUBJECTS = (
    "the acting", "the camera", "the cast", "the comedy", "the dialogue", "the drama", "the ending",
    "the film", "the humor", "the music", "the plot", "the script", "the story", "the thriller",
)  # fmt: skip
_VERBS = ("is", "feels", "looks", "remains", "seems")
_DEGREES = ("", "always ", "often ", "rather ", "so ", "truly ")
_NOT = "never "
_BETWEEN = " and "
SENTIMENTS = ("negative", "positive")


@dataclasses.dataclass(frozen=True)
class Opinions(DrawnRows):
    """Sentences in the manner of film reviews, such as "the plot is rather dull and never funny.".

    A sentence is an `opening`, a subject and a verb, and a `continuation`, adjectives that praise
    or blame; "never" turns one around. It is positive or negative as a whole. `messages` are the
    two as what a user writes and the assistant replies. Each row also has one continuation of
    either sentiment to the same opening, in an order that is drawn, as `completions`, and as
    `ranks` 0 for the positive one and 1 for the other. What is no text is JSON. Four rows in a
    hundred are the `validation` split.

    Attributes:
      rows_in_all: of both splits.
      positive: the share of positive sentences.
      turned: the share of adjectives before which "never" stands.
      most: adjectives of a sentence.
      seed: of what is drawn.
    """

    rows_in_all: int = 20_000
    positive: float = 0.3
    turned: float = 0.25
    most: int = 2
    seed: int = 0

    columns: ClassVar[tuple[str, ...]] = (
        "opening", "continuation", "sentence", "messages", "sentiment", "completions", "ranks",
    )  # fmt: skip

    def __post_init__(self) -> None:
        shares = (self.positive, self.turned)
        counts = self.rows_in_all >= FEWEST_ROWS and self.most >= 1
        if not counts or not all(0 <= share <= 1 for share in shares):
            raise TaskError(
                f"Opinions has rows_in_all {self.rows_in_all}, most {self.most}, positive "
                f"{self.positive} and turned {self.turned}: 25 or more, 1 or more, and shares from "
                "0 to 1 are needed."
            )

    def row(self, rng: np.random.Generator) -> source_lib.Row:
        """A sentence, and continuations of its opening."""
        opening = f"{rng.choice(_SUBJECTS)} {rng.choice(_VERBS)}"
        is_positive = bool(rng.random() < self.positive)
        continuation = self._continuation(is_positive, rng)
        first = bool(rng.random() < 0.5)
        return {
            "opening": opening,
            "continuation": continuation,
            "sentence": f"{opening}{continuation}",
            "messages": json.dumps(
                [
                    {"role": "user", "content": opening},
                    {"role": "assistant", "content": continuation.removeprefix(" ")},
                ]
            ),
            "sentiment": SENTIMENTS[is_positive],
            "completions": json.dumps([self._continuation(one, rng) for one in (first, not first)]),
            "ranks": json.dumps([int(not first), int(first)]),
        }

    def _continuation(self, is_positive: bool, rng: np.random.Generator) -> str:
        parts = []
        for _ in range(rng.integers(1, self.most + 1)):
            turned = bool(rng.random() < self.turned)
            words = PRAISE if is_positive != turned else BLAME
            before = _NOT if turned else str(rng.choice(_DEGREES))
            parts.append(f"{before}{rng.choice(words)}")
        return f" {_BETWEEN.join(parts)}."

    @staticmethod
    def sentiment(continuation: str) -> str | None:
        """Whether a continuation is positive or negative; None if it is not one of these rows'."""
        text = continuation.removeprefix(" ").removesuffix(".")
        if f" {text}." != continuation:
            return None
        found = set()
        for part in text.split(_BETWEEN):
            before, _, word = part.rpartition(" ")
            turned = before == _NOT.strip()
            if word not in PRAISE + BLAME or not (turned or f"{before} ".lstrip() in _DEGREES):
                return None
            found.add(SENTIMENTS[(word in PRAISE) != turned])
        return found.pop() if len(found) == 1 else None
