"""Text of a split read as its cache has it: special tokens that it spells out are text, or ids."""

import dataclasses
from typing import Any, cast

from t5x_like.data import DatasetConfig
from t5x_like.decoding import TextCodec
from t5x_like.protocols import Model, Task, Vocabulary


@dataclasses.dataclass(frozen=True)
class _AsCached:
    """The vocabulary of a feature, by which a text has the ids that the task's cache would have."""

    task: Any
    feature: str
    vocabulary: Vocabulary

    def __getattr__(self, name: str) -> Any:
        return getattr(self.vocabulary, name)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without EOS."""
        return self.task.tokenized(self.feature, text)[self.feature].tolist()


def codec_of_split(dataset: DatasetConfig, model: Model) -> TextCodec:
    """The codec for texts of a split's rows, which are no prompts of a person's.

    Raises:
      UserError: see `TextCodec.for_task`.
    """
    task = cast(Task, dataset.task)
    codec = TextCodec.for_task(task, model, dataset.task_feature_lengths)
    if getattr(task, "spelled_special_tokens", "ids") != "text":
        return codec
    features: dict[str, Any] = {
        name: dataclasses.replace(feature, vocabulary=_AsCached(task, name, feature.vocabulary))
        for name in ("inputs", "targets")
        if (feature := cast(Any, getattr(codec, name))) is not None
    }
    return dataclasses.replace(codec, **features)
