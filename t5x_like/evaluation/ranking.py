"""How often the right one of several options is the likeliest."""

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from t5x_like.decoding.options import (
    ANSWER,
    Contexts,
    Normalization,
    OptionScores,
    Question,
    Reading,
    score_options,
)
from t5x_like.errors import UserError
from t5x_like.evaluation.generation import check_metrics, metrics_of
from t5x_like.evaluation.measurement import Finding, Subject
from t5x_like.evaluation.prompts.asked import Asked
from t5x_like.evaluation.prompts.shots import (
    ANSWERS,
    CONTEXTS,
    CONTINUATIONS,
    GROUP,
    LABEL,
    Shots,
    place_of,
    text_of,
)
from t5x_like.protocols import Task

# What the cache of a task with options has of each row; `tasks.forms.Options` writes it.
_FEATURES = (CONTEXTS, CONTINUATIONS, LABEL)


@dataclasses.dataclass(frozen=True)
class RankedOptions:
    """The options of one example.

    Attributes:
      inputs: the context, or the context of each option.
      options: their texts, or the one text that follows all contexts.
      targets: number of the right option, from 0; None of an example without.
      predictions: number of the likeliest.
      scores: by normalization, what each option is ranked by; see `OptionScores.normalized`.
      tokens: how many each has that are scored.
    """

    inputs: str | Sequence[str]
    options: Sequence[str]
    targets: int | None
    predictions: int
    scores: Mapping[str, Sequence[float]]
    tokens: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Options ranked by their log-likelihood after a context, of tasks with options.

    The values, in percent: `ranking_accuracy` by the normalization that is asked for, with its
    standard error over the examples, and `ranking_accuracy_sum` and so on by all; where rows have a
    group, `ranking_accuracy_over_groups`, the mean over these. Where the cache has what each option
    says (`answers_of_options`), the task's metrics of that: of the option that ranks first, as
    `ranking_f1a`. Equal options rank in their order.

    Attributes:
      normalization: by what `ranking_accuracy` ranks; see `OptionScores.normalized`.
      unconditional_context: what "unconditional" takes for a context that says nothing of the
        question. It costs every option a second time, and is left out unless asked for.
      contexts: see `Reading`; an encoder always reads them as inputs.
      start_token: see `Reading`.
      end_token: see `Reading`.
      batch_size: options scored together.
      name: of the measurement, with which its values begin.
      shots: examples before each context; the unconditional context has none.
    """

    normalization: Normalization = "sum"
    unconditional_context: str = ANSWER
    contexts: Contexts = "text"
    start_token: bool = True
    end_token: bool = False
    batch_size: int = 32
    name: str = "ranking"
    shots: Shots = Shots()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        if self.normalization not in typing.get_args(Normalization):
            raise UserError(
                f"normalization is {self.normalization!r}: it must be one of "
                f"{', '.join(typing.get_args(Normalization))}."
            )
        Reading(self.contexts)  # refuses another word before anything is read

    def measure(self, subject: Subject) -> Finding | None:
        """See `Measurement`; every process scores all rows, as one program over the mesh."""
        asked = Asked.of(
            subject,
            _FEATURES,
            lambda row: Question(_texts(row[CONTEXTS]), _texts(row[CONTINUATIONS])),
            self.shots,
            Reading(self.contexts, self.start_token, self.end_token),
        )
        if asked is None:
            return None
        labels, task = _labels(asked), cast(Task, subject.dataset.task)
        rows, questions = asked.rows, asked.questions
        if rows and ANSWERS in rows[0]:  # before anything is scored
            check_metrics(task, _texts(rows[0][ANSWERS])[0], rows[0])
        unconditional = self.normalization == "unconditional"
        found = asked.scored(
            score_options,
            questions,
            total=sum(len(question.pairs) for question in questions) * (2 if unconditional else 1),
            batch_size=self.batch_size,
            unconditional_context=self.unconditional_context if unconditional else None,
        )

        def part(places: Sequence[int]) -> dict[str, float]:
            mine = [found[i] for i in places], [labels[i] for i in places]
            named = accuracies(*mine, self.normalization)
            told = {f"{self.name}_{name}": value for name, value in named.items()}
            own = [rows[i] for i in places]
            if rows and GROUP in rows[0]:
                told |= self._over_groups(own, mine[1], mine[0])
            if rows and ANSWERS in rows[0]:
                told |= self._by_metrics(task, own, mine[1], mine[0])
            return told

        predictions = [
            self._prediction(*each) for each in zip(questions, labels, found, strict=True)
        ]
        return asked.finding(self.name, part, predictions, self._ranked_by)

    def _over_groups(
        self,
        rows: Sequence[Mapping[str, Any]],
        labels: Sequence[int],
        found: Sequence[OptionScores],
    ) -> dict[str, float]:
        """The mean of the groups' accuracies, whatever their sizes, as MMLU's over subjects."""
        right: dict[str, list[bool]] = {}
        for row, label, scores in zip(rows, labels, found, strict=True):
            if label >= 0:
                best = scores.best(self.normalization)
                right.setdefault(text_of(row[GROUP]), []).append(best == label)
        if not right:
            return {}
        shares = [float(np.mean(own)) for own in right.values()]
        return {f"{self.name}_accuracy_over_groups": 100 * float(np.mean(shares))}

    def _by_metrics(
        self,
        task: Task,
        rows: Sequence[Mapping[str, Any]],
        labels: Sequence[int],
        found: Sequence[OptionScores],
    ) -> dict[str, float]:
        """The task's metrics of what the likeliest options say, of rows with a right one."""
        texts: list[tuple[Any, Any]] = []
        for row, label, scores in zip(rows, labels, found, strict=True):
            if label >= 0:
                says = _texts(row[ANSWERS])
                expected = task.postprocess(says[label], row, True)
                best = task.postprocess(says[scores.best(self.normalization)], row, False)
                texts.append((expected, best))
        if not texts:
            return {}
        values = metrics_of(task, *map(list, zip(*texts, strict=True)))
        return {f"{self.name}_{name}": value for name, value in values.items()}

    @property
    def _ranked_by(self) -> str:
        if self.normalization == "unconditional":
            return f"{self.normalization} after {self.unconditional_context!r}"
        return self.normalization

    def _prediction(self, question: Question, label: int, scores: OptionScores) -> RankedOptions:
        return RankedOptions(
            question.contexts[0] if len(question.contexts) == 1 else question.contexts,
            [text.lstrip() for text in question.continuations],
            label if label >= 0 else None,
            scores.best(self.normalization),
            {name: values.tolist() for name, values in scores.normalized.items()},
            scores.tokens.tolist(),
        )


def accuracies(
    found: Sequence[OptionScores], labels: Sequence[int], normalization: str
) -> dict[str, float]:
    """The share of examples whose right option ranks first, in percent.

    Args:
      found: the scores of each example's options.
      labels: the number of the right one, below 0 where there is none: it does not count.
      normalization: of `accuracy`, which has its standard error: that of a mean over examples drawn
        independently, `sqrt(p (1 - p) / (n - 1))`, as lm-evaluation-harness gives it.

    Returns:
      `accuracy`, `accuracy_standard_error` (of two examples or more), and `accuracy_NAME` by each
      normalization; nothing without labels.
    """
    known = [(scores, label) for scores, label in zip(found, labels, strict=True) if label >= 0]
    if not known:
        return {}
    shares = {
        name: float(np.mean([scores.best(name) == label for scores, label in known]))
        for name in known[0][0].normalized
    }
    share, count = shares[normalization], len(known)
    values = {"accuracy": 100 * share}
    if count > 1:
        values["accuracy_standard_error"] = 100 * math.sqrt(share * (1 - share) / (count - 1))
    return values | {f"accuracy_{name}": 100 * value for name, value in shares.items()}


def _labels(asked: Asked) -> list[int]:
    """The number of each row's right option; caches that others wrote may have any."""
    labels = [int(row[LABEL]) for row in asked.rows]
    for number, label, question in zip(asked.numbers, labels, asked.questions, strict=True):
        if label >= len(question.pairs):
            raise UserError(
                f"{place_of(asked.subject.dataset, number)}: the label is {label}, but there are "
                f"{len(question.pairs)} options, which count from 0."
            )
    return labels


def _texts(values: Any) -> list[str]:
    return [text_of(one) for one in values]
