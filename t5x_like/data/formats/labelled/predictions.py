"""What of a head's outputs is compared with what of a batch, and how a person is told."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from t5x_like.data.formats.rows import ModelBatch

Outputs = Mapping[str, np.ndarray]
# Features of one example: what the objective made, and the texts as `NAME_pretokenized`.
Example = Mapping[str, Any]
# Names of the classes 0, 1, … by output.
Names = Mapping[str, Sequence[str]]
Answer = dict[str, Any]


class Measured(Protocol):
    """How predictions of models of one batch format are read and compared.

    A batch format whose models predict may have one, as its attribute `measured`. Rows without an
    example, which fill a batch up, are at its end, and not asked for.
    """

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs of the model's `predict` that are read, where it has them."""

    def compared(
        self, outputs: Outputs, batch: ModelBatch, examples: Sequence[Example], names: Names
    ) -> list[tuple[Any, Any] | None]:
        """For each example what is expected and what was found, as metrics take them.

        None of an example for which nothing is expected.
        """

    def expected(
        self, batch: ModelBatch, examples: Sequence[Example], names: Names
    ) -> list[Any | None]:
        """What is expected of each example, as a person is told, ready for JSON; or None."""

    def answers(self, outputs: Outputs, examples: Sequence[Example], names: Names) -> list[Answer]:
        """What a person is told of each example, ready for JSON.

        `predictions`, and where there are probabilities `scores`, those of the predictions.
        """

    def of_examples(self, outputs: Outputs, examples: Sequence[Example]) -> dict[str, np.ndarray]:
        """Outputs whose axes a person knows, such as words, in place of a row's tokens."""


@dataclasses.dataclass(frozen=True)
class MeasuredRows:
    """A label or a number for each row.

    Attributes:
      output: of the model's `predict`.
      target: of the batch, of the same shape.
      weight: of the batch: 0 where nothing is expected.
      probabilities: of the model's `predict`, one for each class, where the output is a class.
    """

    output: str
    target: str
    weight: str
    probabilities: str | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """See `Measured`."""
        return (self.output, *filter(None, [self.probabilities]))

    def compared(
        self, outputs: Outputs, batch: ModelBatch, examples: Sequence[Example], names: Names
    ) -> list[tuple[Any, Any] | None]:
        """Numbers of classes, or numbers."""
        found = outputs[self.output].tolist()
        return [
            (batch[self.target][i].item(), found[i]) if batch[self.weight][i] > 0 else None
            for i in range(len(examples))
        ]

    def expected(
        self, batch: ModelBatch, examples: Sequence[Example], names: Names
    ) -> list[Any | None]:
        """The label's name, or the number."""
        own = names.get(self.output)
        values = [
            value.item() if weight > 0 else None
            for value, weight in zip(batch[self.target], batch[self.weight], strict=True)
        ][: len(examples)]
        return [None if v is None else v if own is None else own[v] for v in values]

    def answers(self, outputs: Outputs, examples: Sequence[Example], names: Names) -> list[Answer]:
        """`predictions`; for a label also `scores` and, by label, `probabilities`."""
        own = names.get(self.output)
        values = outputs[self.output].tolist()
        if own is None:
            return [{"predictions": float(value)} for value in values]
        found: list[Answer] = [{"predictions": own[value]} for value in values]
        if self.probabilities is not None and self.probabilities in outputs:
            rows = outputs[self.probabilities].tolist()
            for answer, value, row in zip(found, values, rows, strict=True):
                answer["scores"] = row[value]
                answer["probabilities"] = dict(zip(own, row, strict=True))
        return found

    def of_examples(self, outputs: Outputs, examples: Sequence[Example]) -> dict[str, np.ndarray]:
        """Nothing: rows are rows."""
        return {}
