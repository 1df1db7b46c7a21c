"""How likely one continuation of a context is, and whether a model would have written it."""

import dataclasses
import math
import sys
from collections.abc import Sequence
from typing import cast

import jax
import numpy as np

from t5x_like.decoding.continuations import ContinuationScore
from t5x_like.decoding.options import Contexts, OptionEncoder, Question, Reading, score_pairs
from t5x_like.errors import UserError
from t5x_like.evaluation.measurement import Finding, Subject
from t5x_like.evaluation.prompts.asked import Asked
from t5x_like.evaluation.prompts.shots import INPUTS, TARGETS, Shots, few_shot, text_of
from t5x_like.protocols import Decodes, Task


@dataclasses.dataclass(frozen=True)
class ScoredContinuation:
    """One example.

    Attributes:
      inputs: the context, with what stands before it.
      targets: what should follow.
      scores: its log-likelihood, natural.
      tokens: how many it has.
      greedy: whether each of them is the likeliest where it stands.
    """

    inputs: str
    targets: str
    scores: float
    tokens: int
    greedy: bool


@dataclasses.dataclass(frozen=True)
class Continuation:
    """The likelihood of each example's targets after its inputs, as LAMBADA is measured.

    `continuation_accuracy` is how often all tokens of the targets are the likeliest, in percent,
    with its standard error, and `continuation_perplexity` the exponent of the mean loss of the
    targets, each summed over its tokens (Paperno et al. 2016, section 5; `acc` and `perplexity` of
    lm-evaluation-harness).

    Attributes:
      contexts: see `Reading`; an encoder always reads them as inputs.
      start_token: see `Reading`.
      batch_size: continuations scored together.
      shots: examples before each context.
      stop_words: words of one token that would not be written: targets have to be likelier than
        all other tokens but these, as in GPT-2's accuracy (Radford et al. 2019, section 3.3, whose
        list is not published). The perplexity is the same with and without.
      name: of the measurement, with which its values begin.
    """

    contexts: Contexts = "text"
    start_token: bool = True
    batch_size: int = 32
    shots: Shots = Shots()  # noqa: RUF009 (frozen)
    stop_words: Sequence[str] = ()
    name: str = "continuation"

    def __post_init__(self) -> None:
        Reading(self.contexts)  # refuses another word before anything is read
        if isinstance(self.stop_words, str):
            raise UserError(
                f"stop_words is {self.stop_words!r}: give a list of words, such as ['the', 'a']."
            )

    def measure(self, subject: Subject) -> Finding | None:
        """See `Measurement`; every process scores all rows, as one program over the mesh."""
        form = few_shot(cast(Task, subject.dataset.task))
        delimiter = " " if form is None else form.delimiter
        asked = Asked.of(
            subject,
            (INPUTS, TARGETS),
            lambda row: Question([text_of(row[INPUTS])], [delimiter + text_of(row[TARGETS])]),
            self.shots,
            Reading(self.contexts, self.start_token),
        )
        if asked is None:
            return None
        tokens = self._stop_tokens(asked, delimiter)
        pairs = [question.pairs[0] for question in asked.questions]
        scores = asked.scored(
            score_pairs,
            pairs,
            total=len(pairs),
            batch_size=self.batch_size,
            never_first=tokens,
        )

        def part(places: Sequence[int]) -> dict[str, float]:
            found = found_of([scores[i] for i in places])
            return {f"{self.name}_{name}": value for name, value in found.items()}

        predictions = [
            ScoredContinuation(context, option.lstrip(), one.total, len(one.tokens), one.greedy)
            for (context, option), one in zip(pairs, scores, strict=True)
        ]
        told = f"{len(tokens)} of {len(self.stop_words)} stop words never written"
        return asked.finding(self.name, part, predictions, told if self.stop_words else "")

    def _stop_tokens(self, asked: Asked, delimiter: str) -> list[int]:
        """The stop words that are one token after a context; says where none is."""
        encode = OptionEncoder(cast(Decodes, asked.subject.model), asked.codec, asked.reading)
        found = [encode("x", delimiter + word)[1] for word in self.stop_words]
        tokens = [one[0] for one in found if len(one) == 1]
        if self.stop_words and not tokens and jax.process_index() == 0:
            print(
                f"none of the {len(self.stop_words)} stop words is one token of the vocabulary: "
                "the accuracy is that without a filter",
                file=sys.stderr,
                flush=True,
            )
        return tokens


def found_of(scores: Sequence[ContinuationScore]) -> dict[str, float]:
    """Accuracy in percent, its standard error (of two or more), and the perplexity."""
    if not scores:
        return {}
    share = float(np.mean([one.greedy for one in scores]))
    values = {"accuracy": 100 * share}
    if len(scores) > 1:
        values["accuracy_standard_error"] = 100 * math.sqrt(share * (1 - share) / (len(scores) - 1))
    loss = -float(np.mean([one.total for one in scores]))
    return {**values, "perplexity": math.exp(min(loss, 700.0))}  # below what a float holds
