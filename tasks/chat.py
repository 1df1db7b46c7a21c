"""Tasks whose rows are conversations."""

from typing import Literal

from tasks.forms import Conversation
from tasks.objectives import AssistantTurns
from tasks.registry import features_of
from tasks.sources import Source
from tasks.task import Task
from tasks.vocabularies import Vocabulary


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
