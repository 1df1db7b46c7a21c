"""Tasks whose rows are prompts without an answer."""

from typing import Literal

from tasks.forms import Prompt
from tasks.sources import Source
from tasks.task import Feature, Task
from tasks.vocabularies import ByteVocabulary, Vocabulary


def prompts(
    name: str,
    source: Source,
    form: Prompt = Prompt(),  # noqa: B008 (frozen)
    *,
    vocabulary: Vocabulary | None = None,
    cache_name: str = "",
    special_tokens: Literal["text", "ids"] | None = None,
) -> Task:
    """A task whose rows are prompts, which a policy answers to learn from rewards.

    An answer follows the prompt as it is: no token ends `inputs`, and one that is too long loses
    its beginning.

    Args:
      name: of the task.
      source: has the column that the form names.
      form: writes the prompt.
      vocabulary: None takes bytes.
      cache_name: "" takes the name.
      special_tokens: of the texts, where they spell them out; see `Task`.
    """
    return Task(
        name=name,
        source=source,
        form=form,
        output_features={
            feature: Feature(vocabulary or ByteVocabulary(), add_eos=False, keeps="end")
            for feature in form.features
        },
        cache_name=cache_name,
        special_tokens=special_tokens,
    )
