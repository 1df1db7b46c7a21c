"""Tasks of questions that are answered by a part of a text, SQuAD among them.

The text-to-text task `squad` is another: there the answer is written.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from tasks import metrics
from tasks.forms import Spans
from tasks.objectives import SpanWindows
from tasks.postprocessors import AllAnswers
from tasks.registry import add_task
from tasks.sources import Source, Tfds
from tasks.task import Feature, Metric, Task
from tasks.vocabularies import ByteVocabulary, Vocabulary

# TFDS has answers as two lists. An answer at another place than it says ends nobody's caching.
_SQUAD = Spans(answers="answers/text", starts="answers/answer_start", id="id", misplaced="skip")
_SQUAD2 = dataclasses.replace(_SQUAD, unanswerable=True)


def spans(
    name: str,
    source: Source,
    form: Spans = Spans(),  # noqa: B008 (frozen)
    windows: SpanWindows = SpanWindows(),  # noqa: B008 (frozen)
    *,
    vocabulary: Vocabulary | None = None,
    metrics: Sequence[Metric] = (),
    cache_name: str = "",
    special_tokens: Literal["text", "ids"] | None = None,
) -> Task:
    """A task of questions, each answered by a part of a text.

    Args:
      name: of the task.
      source: has the columns that the form names.
      form: makes a question, a text and the places of answers of a row.
      windows: makes rows for an encoder of them.
      vocabulary: None takes bytes.
      metrics: functions of accepted answers and predictions, such as `metrics.squad`.
      cache_name: "" takes the name.
      special_tokens: of the texts, where they spell them out; see `Task`.
    """
    feature = Feature(vocabulary or ByteVocabulary(), add_eos=False)
    return Task(
        name=name,
        source=source,
        form=form,
        output_features=dict.fromkeys(windows.output_features, feature),
        learned=windows,
        postprocessor=AllAnswers(),
        metric_fns=tuple(metrics),
        cache_name=cache_name,
        special_tokens=special_tokens,
    )


def declare() -> None:
    """Registers `squad_spans`, SQuAD 1.1, and `squad2_spans`, SQuAD 2.0."""
    of_squad2: list[Metric] = [metrics.squad2, metrics.squad2_best_threshold]
    _add("squad_spans", "squad/v1.1:3.0.0", _SQUAD, [metrics.squad])
    _add("squad2_spans", "squad/v2.0:3.0.0", _SQUAD2, of_squad2)


def _add(name: str, dataset: str, form: Spans, metric_fns: Sequence[Metric]) -> None:
    add_task(spans(name, Tfds(dataset, columns=form.columns), form, metrics=metric_fns))
