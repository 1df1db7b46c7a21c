"""Tasks whose rows are words with tags."""

from collections.abc import Sequence
from typing import Literal

from tasks.forms import Tags
from tasks.objectives import LabelledSpelledWords, TaggedWords
from tasks.registry import features_of
from tasks.sources import Source
from tasks.task import Metric, Task
from tasks.vocabularies import SpelledWordVocabulary, Vocabulary


def tagged(
    name: str,
    source: Source,
    labels: Sequence[str],
    *,
    words: str = "words",
    tags: str | None = "tags",
    label_names: Sequence[str] = (),
    scheme: str | None = "iob2",
    unlabelled: str | None = None,
    lists: bool = False,
    vocabulary: Vocabulary | None = None,
    metrics: Sequence[Metric] = (),
    cache_name: str = "",
    special_tokens: Literal["text", "ids"] | None = None,
) -> Task:
    """A task whose rows are words, each with a tag.

    Args:
      name: of the task.
      source: has the columns that are named.
      labels: what a tag may be, as the file has it; `bio_labels` makes those of entities.
      words: column of the words.
      tags: column of the tags; None of text without, see `forms.Tags`.
      label_names: how the tags are called, in the order of `labels`; empty takes these.
      scheme: of the tags, see `forms.Tags`.
      unlabelled: what the column of the tags holds where a row has none.
      lists: whether both columns are lists as JSON.
      vocabulary: None takes bytes; one that spells words is for models that read characters.
      metrics: functions of lists of tags, such as `metrics.entity_f1`.
      cache_name: "" takes the name.
      special_tokens: of the text, where it spells them out; see `Task`.
    """
    spells = isinstance(vocabulary, SpelledWordVocabulary)
    objective = LabelledSpelledWords("tags") if spells else TaggedWords()
    return Task(
        name=name,
        source=source,
        form=Tags(labels, words, tags, label_names, scheme, unlabelled, lists),
        output_features=features_of(objective.output_features, vocabulary, add_eos=False),
        learned=objective,
        metric_fns=tuple(metrics),
        cache_name=cache_name,
        special_tokens=special_tokens,
    )
