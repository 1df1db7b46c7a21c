"""Tasks whose rows are conversations, or responses in them."""

from collections.abc import Sequence
from typing import Literal

from tasks.forms import Conversation, Rated
from tasks.objectives import AssistantTurns
from tasks.registry import features_of
from tasks.sources import Source
from tasks.task import Feature, Metric, Task
from tasks.vocabularies import ByteVocabulary, Vocabulary


def conversations(
    name: str,
    source: Source,
    form: Conversation = Conversation(),  # noqa: B008 (frozen)
    *,
    vocabulary: Vocabulary | None = None,
    cache_name: str = "",
    special_tokens: Literal["text", "ids"] | None = None,
) -> Task:
    """A task whose rows are conversations, of which a decoder learns the replies.

    Args:
      name: of the task.
      source: has the column of the messages.
      form: writes them; its template is how roles are marked.
      vocabulary: None takes bytes.
      cache_name: "" takes the name.
      special_tokens: of the texts, where they spell them out; see `Task`. A template's own, such as
        `<|im_end|>`, become tokens with "ids".
    """
    objective = AssistantTurns()
    return Task(
        name=name,
        source=source,
        form=form,
        output_features=features_of(objective.output_features, vocabulary, add_eos=False),
        learned=objective,
        cache_name=cache_name,
        special_tokens=special_tokens,
    )


def rated_responses(
    name: str,
    source: Source,
    form: Rated = Rated(),  # noqa: B008 (frozen)
    *,
    vocabulary: Vocabulary | None = None,
    metrics: Sequence[Metric] = (),
    cache_name: str = "",
    special_tokens: Literal["text", "ids"] | None = None,
) -> Task:
    """A task of responses to a dialogue, which a decoder learns to write and to judge.

    Inputs have no end token, so that what is read and what is written are one line of text. Those
    that are too long lose their beginning: the end says what is asked.

    Args:
      name: of the task.
      source: `sources.RatedResponses`, or one with the columns that the form names.
      form: writes context, response and rating.
      vocabulary: None takes bytes.
      metrics: functions of targets and predictions, such as `metrics.exact_match` of ratings.
      cache_name: "" takes the name.
      special_tokens: of the texts, where they spell them out; see `Task`.
    """
    vocabulary = vocabulary or ByteVocabulary()
    return Task(
        name=name,
        source=source,
        form=form,
        output_features={
            "inputs": Feature(vocabulary, add_eos=False, keeps="end"),
            "targets": Feature(vocabulary, add_eos=True),
        },
        metric_fns=tuple(metrics),
        cache_name=cache_name,
        special_tokens=special_tokens,
    )
