"""Texts word by word, with a tag for each word."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from t5x_like.data.formats.batch_format import TaskFacts
from t5x_like.data.formats.labelled.predictions import Answer, Example, Names, Outputs
from t5x_like.data.formats.rows import Item, ModelBatch, Row, companion, layout

_WORDS = "inputs_pretokenized"


@dataclasses.dataclass(frozen=True)
class Tagged:
    """What an encoder reads, and the tag of each word at the first of its tokens.

    The other tokens of a word have no tag and do not count (Devlin et al. 2019, section 5.3). The
    objective gives `inputs`, `token_types` as long as these, and for each word `tags`, the number
    of its tag or -1 for none, and `word_places`, where its first token stands or -1 where the row
    has no room for it. The batch, int32 `[rows, length]`:

    * `encoder_input_tokens`, `encoder_token_types`, `encoder_segment_ids` (1 on the tokens);
    * `word_labels`, and `word_weights`, 1 where there is one.
    """

    task_features: ClassVar[tuple[str, ...]] = ("inputs",)
    reads: ClassVar[tuple[str, ...]] = ("inputs", "token_types", "tags", "word_places")
    may_read: ClassVar[tuple[str, ...]] = ()
    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[None] = None

    @property
    def measured(self) -> "MeasuredWords":
        """How tags are read and compared."""
        return MeasuredWords()

    def bind(self, facts: TaskFacts) -> "BoundTagged":
        """See `BatchFormat`."""
        return BoundTagged()


@dataclasses.dataclass(frozen=True)
class BoundTagged:
    """`Tagged` for a task."""

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The encoder's length."""
        return (lengths["inputs"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part, the inputs; their types and tags."""
        inputs, tags, places = (example[name] for name in ("inputs", "tags", "word_places"))
        labels = np.full_like(inputs, -1)
        labels[places[places >= 0]] = tags[places >= 0]
        return Item(
            (inputs,), companions={"token_types": example["token_types"], "word_labels": labels}
        )

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `Tagged`."""
        laid_out = layout(rows, 0, lengths["inputs"])
        labels = companion(rows, "word_labels", laid_out.filled)
        weights = laid_out.filled & (labels >= 0)
        return {
            "encoder_input_tokens": laid_out.tokens,
            "encoder_token_types": companion(rows, "token_types", laid_out.filled),
            "encoder_segment_ids": laid_out.segment_ids,
            "word_labels": np.where(weights, labels, 0).astype(np.int32),
            "word_weights": weights.astype(np.int32),
        }


@dataclasses.dataclass(frozen=True)
class MeasuredWords:
    """A tag for each word, read off its first token; see `predictions.Measured`.

    A word for which the row has no room has none: it is None, and counts as a wrong one.
    """

    outputs: ClassVar[tuple[str, ...]] = ("tags", "probabilities")

    def compared(
        self, outputs: Outputs, batch: ModelBatch, examples: Sequence[Example], names: Names
    ) -> list[tuple[Any, Any] | None]:
        """Lists of names of tags."""
        expected = self.expected(batch, examples, names)
        found = self._tags(outputs, examples, names)
        return [
            None if tags is None else (tags, own) for tags, own in zip(expected, found, strict=True)
        ]

    def expected(
        self, batch: ModelBatch, examples: Sequence[Example], names: Names
    ) -> list[Any | None]:
        """The tag of each word."""
        own = names["tags"]
        # Not the batch's, which lacks the words that have no room.
        return [
            [own[tag] for tag in example["tags"]] if np.all(example["tags"] >= 0) else None
            for example in examples
        ]

    def answers(self, outputs: Outputs, examples: Sequence[Example], names: Names) -> list[Answer]:
        """`words`, and for each of them `predictions` and `scores`."""
        found = []
        for i, tags in enumerate(self._tags(outputs, examples, names)):
            likeliest = outputs["probabilities"][i].max(axis=-1)
            places = examples[i]["word_places"]
            found.append(
                {
                    "words": [_text(word) for word in examples[i][_WORDS]],
                    "predictions": tags,
                    "scores": [float(likeliest[p]) if p >= 0 else None for p in places],
                }
            )
        return found

    def of_examples(self, outputs: Outputs, examples: Sequence[Example]) -> dict[str, np.ndarray]:
        """`tags` `[examples, words]`, -1 where there is none, and `probabilities`, there 0."""
        most = max((len(example["word_places"]) for example in examples), default=0)
        places = np.full((len(examples), most), -1)
        for row, example in zip(places, examples, strict=True):
            row[: len(example["word_places"])] = example["word_places"]
        there = places >= 0
        index = np.where(there, places, 0)
        probabilities = np.take_along_axis(outputs["probabilities"], index[..., None], axis=1)
        return {
            "tags": np.where(there, np.take_along_axis(outputs["tags"], index, axis=1), -1),
            "probabilities": np.where(there[..., None], probabilities, 0),
        }

    def _tags(
        self, outputs: Outputs, examples: Sequence[Example], names: Names
    ) -> list[list[str | None]]:
        own = names["tags"]
        return [
            [own[tags[place]] if place >= 0 else None for place in example["word_places"]]
            for tags, example in zip(outputs["tags"], examples, strict=True)
        ]


def _text(word: Any) -> str:
    return word.decode("utf-8") if isinstance(word, bytes) else str(word)
