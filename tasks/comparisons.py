"""Tasks whose rows are prompts with ranked answers."""

from collections.abc import Sequence
from typing import Literal

from tasks.forms import Comparison
from tasks.objectives import RankedAnswers
from tasks.registry import features_of
from tasks.sources import Source
from tasks.task import Metric, Task
from tasks.vocabularies import Vocabulary


def comparisons(
    name: str,
    source: Source,
    form: Comparison = Comparison(),  # noqa: B008 (frozen)
    *,
    segments: bool = False,
    vocabulary: Vocabulary | None = None,
    metrics: Sequence[Metric] = (),
    cache_name: str = "",
    special_tokens: Literal["text", "ids"] | None = None,
) -> Task:
    """A task whose rows are prompts, each with answers that people have ranked.

    Args:
      name: of the task.
      source: has the columns that the form names.
      form: writes prompt and answers.
      segments: whether rows are an encoder's, see `objectives.RankedAnswers`.
      vocabulary: None takes bytes.
      metrics: functions of ranks and rewards, such as `metrics.pairwise_accuracy`.
      cache_name: "" takes the name.
      special_tokens: of the texts, where they spell them out; see `Task`.
    """
    objective = RankedAnswers(segments)
    return Task(
        name=name,
        source=source,
        form=form,
        output_features=features_of(objective.output_features, vocabulary, add_eos=False),
        learned=objective,
        metric_fns=tuple(metrics),
        cache_name=cache_name,
        special_tokens=special_tokens,
    )
