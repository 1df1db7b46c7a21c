"""STS-B: the similarity of two sentences, written as text."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.errors import TaskError
from tasks.forms.form import text_of


@dataclasses.dataclass(frozen=True)
class Similarity:
    """Two sentences and their similarity, rounded to the nearest 0.2 (3.25 is `3.2`).

    This turns regression into classification with 26 labels, `0.0` to `5.0` (Raffel et al.
    2020, section 2.4). A label of -1, as in the test set, becomes `-1.0`.

    Attributes:
      prefix: the first word of the inputs.
      first: column of the first sentence.
      second: column of the second sentence.
      score: column of the number.
    """

    prefix: str = "stsb"
    first: str = "sentence1"
    second: str = "sentence2"
    score: str = "label"

    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The sentences and the score."""
        return (self.first, self.second, self.score)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The sentences."""
        return (self.first, self.second)

    @property
    def inputs_begin(self) -> str:
        """`stsb sentence1: `."""
        return f"{self.prefix} sentence1: "

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """`stsb sentence1: … sentence2: …`."""
        first, second = text_of(row[self.first]), text_of(row[self.second])
        return f"{self.inputs_begin}{first} sentence2: {second}"

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs `stsb sentence1: … sentence2: …`, and the number as targets."""
        try:
            score = float(text_of(row[self.score]))
        except ValueError:
            raise TaskError(
                f"column '{self.score}' is '{text_of(row[self.score])}': a number is needed."
            ) from None
        return {
            "inputs": self.inputs_of(row),
            # `round` rounds halves to even, as TensorFlow does in T5's own code.
            "targets": f"{round(score * 5) / 5:.1f}",
        }
