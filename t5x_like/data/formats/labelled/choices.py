"""Texts with several choices, one of which is right, or with answers in order of preference."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from t5x_like.data.formats.batch_format import TaskFacts
from t5x_like.data.formats.labelled.predictions import Answer, Example, Names, Outputs
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
        return _item(example, "choices", ("label",))

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `Choices`."""
        label, weight = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.int32)
        for i, row in enumerate(rows):
            for item in row:
                if item.labels["label"] >= 0:
                    label[i], weight[i] = item.labels["label"], 1
        tokens = _batch(rows, lengths["choices"], lengths["inputs"])
        return {**tokens, "label": label, "label_weight": weight}


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


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """A row of tokens for each answer to a prompt, and the answers' ranks.

    The objective gives `answers`, how many tokens the row of each has, `inputs` and `token_types`,
    `[answers, longest]`, `answer_sizes`, how many of a row's last tokens are the answer's, and
    `ranks`. The length of the feature `answers` is the most that a batch has room for; so all pairs
    of a prompt are in one row of it (Ouyang et al. 2022, section 3.5). The batch, int32:

    * `encoder_input_tokens`, `encoder_token_types`, `encoder_segment_ids` (1 on the tokens, none
      where a prompt has fewer answers), `[rows, answers, length]`;
    * `ranks`, `answer_sizes`, and `answer_weight`, 1 where there is an answer, `[rows, answers]`.
    """

    task_features: ClassVar[tuple[str, ...]] = ("inputs", "answers")
    reads: ClassVar[tuple[str, ...]] = ("inputs", "answers", "token_types", "answer_sizes", "ranks")
    may_read: ClassVar[tuple[str, ...]] = ()
    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[None] = None

    @property
    def measured(self) -> "MeasuredComparisons":
        """How rewards are read and compared."""
        return MeasuredComparisons()

    def bind(self, facts: TaskFacts) -> "BoundComparisons":
        """See `BatchFormat`."""
        return BoundComparisons()


@dataclasses.dataclass(frozen=True)
class BoundComparisons:
    """`Comparisons` for a task."""

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The row's length, for each answer."""
        return (lengths["inputs"],) * lengths["answers"]

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """A part for each answer; their types, one after the other; ranks and sizes."""
        return _item(example, "answers", ("ranks", "answer_sizes"))

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `Comparisons`."""
        names = ("ranks", "answer_sizes", "answer_weight")
        found = {name: np.zeros((len(rows), lengths["answers"]), np.int32) for name in names}
        for i, row in enumerate(rows):
            for item in row:
                for name in names[:2]:
                    found[name][i, : len(item.parts)] = item.labels[name]
                found["answer_weight"][i, : len(item.parts)] = 1
        return _batch(rows, lengths["answers"], lengths["inputs"]) | found


@dataclasses.dataclass(frozen=True)
class MeasuredComparisons:
    """The rewards of a prompt's answers beside their ranks; see `predictions.Measured`."""

    outputs: ClassVar[tuple[str, ...]] = ("reward",)

    def compared(
        self, outputs: Outputs, batch: ModelBatch, examples: Sequence[Example], names: Names
    ) -> list[tuple[Any, Any] | None]:
        """Ranks, and rewards."""
        expected = self.expected(batch, examples, names)
        told = self.answers(outputs, examples, names)
        found = [answer["predictions"] for answer in told]
        return [
            None if ranks is None else (ranks, rewards)
            for ranks, rewards in zip(expected, found, strict=True)
        ]

    def expected(
        self, batch: ModelBatch, examples: Sequence[Example], names: Names
    ) -> list[Any | None]:
        """The ranks; None where all are the same, as of answers without any."""
        found = [batch["ranks"][i][: _count(example)] for i, example in enumerate(examples)]
        return [ranks.tolist() if len(set(ranks.tolist())) > 1 else None for ranks in found]

    def answers(self, outputs: Outputs, examples: Sequence[Example], names: Names) -> list[Answer]:
        """`predictions`, the reward of each answer."""
        return [
            {"predictions": outputs["reward"][i, : _count(example)].tolist()}
            for i, example in enumerate(examples)
        ]

    def of_examples(self, outputs: Outputs, examples: Sequence[Example]) -> dict[str, np.ndarray]:
        """Nothing: rows are answers already."""
        return {}


def _count(example: Example) -> int:
    return len(example["answers"])


def _item(example: Mapping[str, np.ndarray], several: str, labels: Sequence[str]) -> Item:
    """A part for each of several rows; their types, one after the other; and labels."""
    sizes = example[several].tolist()
    parts, types = (
        [row[:size] for row, size in zip(example[name], sizes, strict=True)]
        for name in ("inputs", "token_types")
    )
    own = {name: example[name] for name in labels}
    return Item(tuple(parts), labels={**own, "token_types": np.concatenate(types)})


def _batch(rows: Sequence[Row], most: int, length: int) -> ModelBatch:
    """Tokens, types and segments, int32 `[rows, most, length]`, of what `_item` made."""
    apart: list[Row] = []  # each part as a row of its own
    for row in rows:
        own: list[Row] = []
        for item in row:
            ends = np.cumsum([part.size for part in item.parts])[:-1]
            types = np.split(item.labels["token_types"], ends)
            own += [
                (Item((part,), companions={"token_types": kinds}),)
                for part, kinds in zip(item.parts, types, strict=True)
            ]
        apart += [*own, *[()] * (most - len(own))]
    laid_out = layout(apart, 0, length)
    shape = (len(rows), most, length)
    return {
        "encoder_input_tokens": laid_out.tokens.reshape(shape),
        "encoder_token_types": companion(apart, "token_types", laid_out.filled).reshape(shape),
        "encoder_segment_ids": laid_out.segment_ids.reshape(shape),
    }
