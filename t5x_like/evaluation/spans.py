"""Which part of a text a model's numbers say is the answer: n best spans, and none.

Pure NumPy: numbers of one row to candidates, candidates of all rows of a text to its answer.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from t5x_like.protocols import Model


class SpanRules(Protocol):
    """How spans of a text are chosen by a model's numbers for their ends.

    Attributes:
      null_threshold: by how much the score of a span must exceed that of none; None where a text
        always has one.
      n_best: spans that are kept.
      longest: most tokens of a span.
    """

    @property
    def null_threshold(self) -> float | None:
        """See above."""

    @property
    def n_best(self) -> int:
        """See above."""

    @property
    def longest(self) -> int:
        """See above."""


def rules_of(model: Model) -> SpanRules | None:
    """How spans are chosen by what a model predicts, its `span_rules`; None if it marks none."""
    return getattr(model, "span_rules", None)


def rule_text(model: Model) -> str | None:
    """The rule in a line, which answers that go together agree in."""
    rules = rules_of(model)
    if rules is None:
        return None
    return f"spans of up to {rules.longest} tokens, null_threshold {rules.null_threshold}"


class Candidate(NamedTuple):
    """A part of a text that may be the answer.

    Attributes:
      score: the sum of the numbers of its two ends.
      begin: its first character.
      end: the character after its last.
    """

    score: float
    begin: int
    end: int


@dataclasses.dataclass(frozen=True)
class SpanAnswer:
    """What is answered to a question.

    Attributes:
      text: the answer, a part of the text; "" for none.
      span: the characters from which and to before which it stands; None for none.
      probability: of the answer among the n best, and none where that may be.
      best: the best part of the text, whether or not it is the answer; "" where there is none.
      null_score_difference: how far the score of no answer exceeds that of `best`; None where every
        question has an answer, or there is no `best`.
      n_best: text, span and probability of each, the likeliest first; JSON.
    """

    text: str
    span: tuple[int, int] | None
    probability: float
    best: str
    null_score_difference: float | None
    n_best: list[dict[str, Any]]


def candidates(
    start_s: np.ndarray,
    end_s: np.ndarray,
    begins_s: np.ndarray,
    ends_s: np.ndarray,
    may_begin_s: np.ndarray,
    text: str,
    rules: SpanRules,
) -> list[Candidate]:
    """The best spans of one row, at most `rules.n_best`, the best first.

    All spans of up to `rules.longest` tokens that end where they begin or later are compared
    (Devlin et al. 2019, section 4.2); the released code compares those of its 20 best beginnings
    and ends alone. None begins or ends with a token of whitespace, or of nothing.

    Args:
      start_s: how well a span begins at each token, float `[s]`, padding after the row or not.
      end_s: how well one ends there.
      begins_s: the character of the text at which each token begins, int `[n]`, n ≤ s; -1 of
        tokens that are not of the text.
      ends_s: the character after its last one.
      may_begin_s: 0 of a token at which no span begins in this row.
      text: of which the row is a window.
      rules: how spans are chosen.
    """
    places = np.flatnonzero(begins_s >= 0)
    if not places.size:
        return []
    window = slice(places[0], places[-1] + 1)
    begins, ends = begins_s[window], ends_s[window]
    says = np.array([bool(text[b:e].strip()) for b, e in zip(begins, ends, strict=True)])
    size, longest = says.size, min(rules.longest, says.size)
    starts = np.where(says & (may_begin_s[window] > 0), start_s[window].astype(float), -np.inf)
    lasts = np.where(says, end_s[window].astype(float), -np.inf)
    padded = np.concatenate([lasts, np.full(longest - 1, -np.inf)])
    scores = starts[:, None] + np.lib.stride_tricks.sliding_window_view(padded, longest)
    flat = scores.ravel()
    kept = np.arange(flat.size)
    if flat.size > rules.n_best:
        kept = np.argpartition(-flat, rules.n_best - 1)[: rules.n_best]
    kept = kept[np.lexsort((kept, -flat[kept]))]
    found = []
    for place in kept[flat[kept] > -np.inf]:
        first, more = divmod(int(place), longest)
        span = _trimmed(text, int(begins[first]), int(ends[min(first + more, size - 1)]))
        found.append(Candidate(float(flat[place]), *span))
    return found


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    """A span without whitespace at its ends."""
    part = text[begin:end]
    return begin + len(part) - len(part.lstrip()), begin + len(part.rstrip())


def answer(
    text: str, found: Sequence[Candidate], null_scores: Sequence[float], rules: SpanRules
) -> SpanAnswer:
    """The answer in a text, by the candidates of all of its rows.

    Where there may be none, a span is the answer if its score exceeds the least of the rows' scores
    of no answer by more than `rules.null_threshold` (section 4.3; `run_squad.py`).

    Args:
      text: in which candidates stand.
      found: of all rows.
      null_scores: the sum of the two numbers at the token of each row that stands for none.
      rules: how spans are chosen.
    """
    spans: dict[tuple[int, int], float] = {}
    for score, begin, end in sorted(found, key=lambda one: (-one.score, one.begin, one.end)):
        spans.setdefault((begin, end), score)
    kept = list(spans.items())[: rules.n_best]
    options: list[tuple[tuple[int, int] | None, float]] = [*kept]
    best, best_score = options[0] if options else (None, -np.inf)
    chosen, difference = best, None
    if rules.null_threshold is not None:
        null = min(null_scores)
        options = sorted([*options, (None, null)], key=lambda option: -option[1])
        chosen = best if best_score > null + rules.null_threshold else None
        difference = None if best is None else float(null - best_score)
    scores = np.array([score for _, score in options])
    weights = np.exp(scores - scores.max(initial=-np.inf))
    n_best: list[dict[str, Any]] = [
        {"text": _part(text, span), "span": _listed(span), "score": float(weight / weights.sum())}
        for (span, _), weight in zip(options, weights, strict=True)
    ]
    return SpanAnswer(
        text=_part(text, chosen),
        span=chosen,
        probability=next((o["score"] for o in n_best if o["span"] == _listed(chosen)), 0.0),
        best=_part(text, best),
        null_score_difference=difference,
        n_best=n_best,
    )


def _part(text: str, span: tuple[int, int] | None) -> str:
    return "" if span is None else text[slice(*span)]


def _listed(span: tuple[int, int] | None) -> list[int] | None:
    return None if span is None else list(span)
