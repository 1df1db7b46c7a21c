"""How likely one continuation of a context is, and whether a model would have written it."""

import dataclasses
import math
import sys
from collections.abc import Sequence
from typing import cast

import jax
import numpy as np

from t5x_like.data.records import open_records
from t5x_like.decoding import TextCodec
from t5x_like.decoding.continuations import ContinuationScore
from t5x_like.decoding.options import Contexts, OptionEncoder, Question, Reading, score_pairs
from t5x_like.evaluation.measurement import ROWS, SPLIT_ROWS, Finding, Subject
from t5x_like.evaluation.prompts.shots import INPUTS, TARGETS, Shots, few_shot, text_of
from t5x_like.host.progress import ProgressBar
from t5x_like.protocols import Decodes, Task

_FEATURES = (INPUTS, TARGETS)


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
      name: of the measurement, with which its values begin.
    """

    contexts: Contexts = "text"
    start_token: bool = True
    batch_size: int = 32
    shots: Shots = Shots()  # noqa: RUF009 (frozen)
    name: str = "continuation"

    def __post_init__(self) -> None:
        Reading(self.contexts)  # refuses another word before anything is read

    def measure(self, subject: Subject) -> Finding | None:
        """See `Measurement`; every process scores all rows, as one program over the mesh."""
        dataset = subject.dataset
        records = open_records(dataset, _FEATURES, subject.limit)
        if records is None:
            return None
        task, model = cast(Task, dataset.task), cast(Decodes, subject.model)
        codec = TextCodec.for_task(task, model, dataset.task_feature_lengths)
        reading = Reading(self.contexts, self.start_token).of_model(model)
        form = few_shot(task)
        delimiter = " " if form is None else form.delimiter
        prompts = self.shots.of(dataset, _FEATURES)
        spare = OptionEncoder(model, codec, reading).spare
        pairs = []
        for number, row in zip(records.numbers, records, strict=True):
            context, option = text_of(row[INPUTS]), delimiter + text_of(row[TARGETS])
            before = prompts.before(number, row, spare(Question([context], [option])))
            pairs.append((before + context, option))
        leads = jax.process_index() == 0
        bar = ProgressBar(
            len(pairs), label=f"{task.name} {dataset.split}", stream=sys.stderr, shown=leads
        )
        with bar, subject.partitioner.activate():
            scores, cut = score_pairs(
                model,
                subject.params,
                codec,
                pairs,
                reading,
                batch_size=self.batch_size,
                progress=bar.add,
                journal=subject.journal,
            )
        if cut.cut and leads:
            print(f"{task.name} {dataset.split}: {cut}", file=sys.stderr, flush=True)
        values = {ROWS: float(len(pairs)), SPLIT_ROWS: float(records.num_examples)}

        def part(places: Sequence[int]) -> dict[str, float]:
            found = found_of([scores[i] for i in places])
            return {f"{self.name}_{name}": value for name, value in found.items()}

        values |= part(range(len(pairs)))
        if self.shots.count:
            values[f"{self.name}_shots"] = prompts.mean
            if leads:
                prompts.tell()
        predictions = [
            ScoredContinuation(context, option.lstrip(), one.total, len(one.tokens), one.greedy)
            for (context, option), one in zip(pairs, scores, strict=True)
        ]
        told = f"{self.shots.told(form)}, {reading.told(model, codec)}"
        return Finding(values, predictions, {self.name: told}, records.numbers, part)


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
