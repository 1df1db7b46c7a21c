"""A text with several choices, of which one is right."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from t5x_like.data.formats.batch_format import TaskFacts
from t5x_like.data.formats.predictions import Answer, Example, Names, Outputs
from t5x_like.data.formats.rows import Item, ModelBatch, Row, companion, layout


@dataclasses.dataclass(frozen=True)
class Choices:
    """A row of tokens for each choice, and which of them is right.

    The objective gives `choices`, how many tokens the row of each choice has, `inputs` and
    `token_types`, `[choices, longest]`, and `label` of rank 0, -1 for none. The length of the
    feature `choices` is the most choices that a batch has room for. The batch, int32:

    * `encoder_input_tokens`, `encoder_token_types`, `encoder_segment_ids` (1 on the tokens, none
      where an example has fewer choices), `[rows, choices, length]`;
    * `label`, and `label_weight`, 1 where there is one, `[rows]`.
    """

    task_features: ClassVar[tuple[str, ...]] = ("inputs", "choices")
    reads: ClassVar[tuple[str, ...]] = ("inputs", "choices", "token_types", "label")
    may_read: ClassVar[tuple[str, ...]] = ()
    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[None] = None

    @property
    def measured(self) -> "MeasuredChoices":
        """How choices are read and compared."""
        return MeasuredChoices()

    def bind(self, facts: TaskFacts) -> "BoundChoices":
        """See `BatchFormat`."""
        return BoundChoices()


@dataclasses.dataclass(frozen=True)
class BoundChoices:
    """`Choices` for a task."""

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The encoder's length, for each choice."""
        return (lengths["inputs"],) * lengths["choices"]

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """A part for each choice; their types, one after the other; the label."""
        sizes = example["choices"].tolist()
        parts, types = (
            [row[:size] for row, size in zip(example[name], sizes, strict=True)]
            for name in ("inputs", "token_types")
        )
        labels = {"label": example["label"], "token_types": np.concatenate(types)}
        return Item(tuple(parts), labels=labels)

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `Choices`."""
        most, length = lengths["choices"], lengths["inputs"]
        # Each choice as a row of its own.
        apart: list[Row] = []
        label, weight = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.int32)
        for i, row in enumerate(rows):
            own: list[Row] = []
            for item in row:
                ends = np.cumsum([part.size for part in item.parts])[:-1]
                types = np.split(item.labels["token_types"], ends)
                own += [
                    (Item((part,), companions={"token_types": kinds}),)
                    for part, kinds in zip(item.parts, types, strict=True)
                ]
                if item.labels["label"] >= 0:
                    label[i], weight[i] = item.labels["label"], 1
            apart += [*own, *[()] * (most - len(own))]
        laid_out = layout(apart, 0, length)
        shape = (len(rows), most, length)
        return {
            "encoder_input_tokens": laid_out.tokens.reshape(shape),
            "encoder_token_types": companion(apart, "token_types", laid_out.filled).reshape(shape),
            "encoder_segment_ids": laid_out.segment_ids.reshape(shape),
            "label": label,
            "label_weight": weight,
        }


@dataclasses.dataclass(frozen=True)
class MeasuredChoices:
    """The number of a choice, from 0; see `predictions.Measured`."""

    outputs: ClassVar[tuple[str, ...]] = ("choice", "probabilities")

    def compared(
        self, outputs: Outputs, batch: ModelBatch, examples: Sequence[Example], names: Names
    ) -> list[tuple[Any, Any] | None]:
        """Numbers of choices."""
        found = outputs["choice"].tolist()
        return [
            None if label is None else (label, choice)
            for label, choice in zip(self.expected(batch, examples, names), found, strict=True)
        ]

    def expected(
        self, batch: ModelBatch, examples: Sequence[Example], names: Names
    ) -> list[Any | None]:
        """The number of the right one."""
        return [
            batch["label"][i].item() if batch["label_weight"][i] > 0 else None
            for i in range(len(examples))
        ]

    def answers(self, outputs: Outputs, examples: Sequence[Example], names: Names) -> list[Answer]:
        """`predictions`, the number of the likeliest, `scores`, and all `probabilities`."""
        found = []
        for i, example in enumerate(examples):
            choice = outputs["choice"][i].item()
            row = outputs["probabilities"][i].tolist()[: len(example["choices"])]
            found.append({"predictions": choice, "scores": row[choice], "probabilities": row})
        return found

    def of_examples(self, outputs: Outputs, examples: Sequence[Example]) -> dict[str, np.ndarray]:
        """Nothing: choices are an axis of the outputs."""
        return {}
