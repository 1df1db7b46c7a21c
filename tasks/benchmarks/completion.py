"""Words that complete a text: LAMBADA, the Children's Book Test."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tasks.benchmarks.form import Asks, Row
from tasks.errors import TaskError
from tasks.forms import text_of, texts_of

_BLANK = "XXXXX"


@dataclasses.dataclass(frozen=True)
class Lambada:
    """A passage without its last word, and that word (Paperno et al. 2016).

    Attributes:
      blank: what stands where the word is missing, " ____. →" for Brown et al. 2020 (section
        3.1.2); nothing for a text that simply ends.
    """

    blank: str = ""

    columns: ClassVar[tuple[str, ...]] = ("passage",)
    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {}

    def __call__(self, row: Row) -> dict[str, Any]:
        """Inputs and targets.

        Raises:
          TaskError: the passage has fewer than two words.
        """
        passage = text_of(row["passage"]).strip()
        before, space, word = passage.rpartition(" ")
        if not before or not space:
            raise TaskError(f"the passage '{passage[:60]}' has no word before its last.")
        return {"inputs": before.rstrip() + self.blank, "targets": word}


@dataclasses.dataclass(frozen=True)
class ChildrensBookTest(Asks):
    """Twenty sentences of a book, and one in which a word is missing (Hill et al. 2016).

    Ranked by the likelihood of each word together with the rest of the sentence (Radford et al.
    2019, section 3.2).
    """

    columns: ClassVar[tuple[str, ...]] = ("sentences", "question", "answer", "options")

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        before, found, after = text_of(row["question"]).partition(_BLANK)
        if not found:
            raise TaskError(f"column 'question' has no {_BLANK}, where a word is missing.")
        options, answer = texts_of(row["options"], "options"), text_of(row["answer"])
        if answer not in options:
            raise TaskError(f"column 'answer' is '{answer}', which is none of the options.")
        story = " ".join(texts_of(row["sentences"], "sentences"))
        context = f"{story} {before}".rstrip()
        if not all(options):
            raise TaskError("column 'options' has one without text.")
        return context, [option + after.rstrip() for option in options], options.index(answer)
