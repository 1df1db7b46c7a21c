"""ReCoRD: an entity of a passage that fills the blank of a sentence about it."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.forms.form import text_of, texts_of

_AFTER_A_SENTENCE = re.compile(r"(?<=[.?!\"'])\n@highlight\n")
_AFTER_NO_SENTENCE = "\n@highlight\n"


@dataclasses.dataclass(frozen=True)
class Record:
    """`record query: … entities: a, b passage: …` to one of the entities that fill the blank.

    The bullet points under the passage follow it as sentences. `answers` is kept for the metrics,
    which take the best over all of them.

    Attributes:
      query: column of the sentence with `@placeholder`.
      entities: column of the list of entities.
      passage: column of the passage.
      answer: column of the one answer to be learned, as `sources.EachAnswer` adds it.
      answers: column of the list of all.
    """

    query: str = "query"
    entities: str = "entities"
    passage: str = "passage"
    answer: str = "answer"
    answers: str = "answers"

    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {"answers": "texts"}
    inputs_begin: ClassVar[str] = "record query: "

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the texts and the answers."""
        return (*self.input_columns, self.answer, self.answers)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The query, the entities and the passage."""
        return (self.query, self.entities, self.passage)

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """`record query: … entities: a, b passage: …`."""
        entities = ", ".join(texts_of(row[self.entities], self.entities))
        passage = _AFTER_A_SENTENCE.sub(" ", text_of(row[self.passage]))
        passage = passage.replace(_AFTER_NO_SENTENCE, ". ")
        query = text_of(row[self.query])
        return f"{self.inputs_begin}{query} entities: {entities} passage: {passage}"

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs, targets and all answers."""
        return {
            "inputs": self.inputs_of(row),
            "targets": text_of(row[self.answer]),
            "answers": texts_of(row[self.answers], self.answers),
        }
