"""A dialogue's context and what is written after it: a response, its ratings, what is looked up."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.errors import TaskError
from tasks.forms.form import text_of, texts_of


@dataclasses.dataclass(frozen=True)
class Rated:
    """A context, marks and responses as one line of text, of which the last piece is learned.

    `What's up? RESPONSE` is followed by ` not much.`, and `What's up? RESPONSE not much. SENSIBLE`
    by ` 1`: one model learns to write responses and to judge them (Thoppilan et al. 2022, section
    6.1). The space before the last piece belongs to it, since subword vocabularies write one with
    the word behind it.

    Attributes:
      context: column of what was said before: a text, or a list of the turns.
      pieces: column of the list of texts that follow, as `sources.RatedResponses` adds it.
      sentinel: what a response is asked for by.
      between: what stands between two turns.
    """

    context: str = "context"
    pieces: str = "pieces"
    sentinel: str = "RESPONSE"
    between: str = "\n"

    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {}
    inputs_begin: ClassVar[str] = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The context and the pieces."""
        return (self.context, self.pieces)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The context."""
        return (self.context,)

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """The context, up to where a response begins."""
        return f"{self._said(row)} {self.sentinel}"

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What is read as `inputs`, and the last piece as `targets`.

        Raises:
          TaskError: a context without text, or no piece to be learned.
        """
        *read, learned = texts_of(row[self.pieces], self.pieces) or [""]
        if not learned:
            raise TaskError(f"column '{self.pieces}' has nothing to be learned at its end.")
        return {"inputs": " ".join([self._said(row), *read]), "targets": f" {learned}"}

    def _said(self, row: Mapping[str, Any]) -> str:
        value = row[self.context]
        if isinstance(value, str | bytes):
            # JSON of texts; whatever else begins with a bracket is text.
            text = text_of(value)
            value = value if text.startswith('["') or text == "[]" else [text]
        said = self.between.join(turn.strip() for turn in texts_of(value, self.context))
        if not said.strip():
            raise TaskError(f"column '{self.context}' has no text: nothing was said before.")
        return said
