"""SuperGLUE as options to be ranked (Brown et al. 2020, appendix G): RTE, CB, COPA, WiC, WSC.

In T5's words they are answered: `tasks.glue.super_glue`.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from tasks.benchmarks.form import Asks, Row, label_of
from tasks.errors import TaskError
from tasks.forms import Wsc, text_of

_NO_YES = ("no", "yes")
_FALSE_TRUE = ("false", "true")
_CONNECTIVES = {"cause": "because", "effect": "therefore"}


@dataclasses.dataclass(frozen=True)
class Rte(Asks):
    """A premise, a hypothesis, and whether it follows."""

    columns: ClassVar[tuple[str, ...]] = ("premise", "hypothesis", "label")

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        premise, hypothesis = text_of(row["premise"]), text_of(row["hypothesis"])
        asked = f"{premise}\nQuestion: {hypothesis} True or False?\nAnswer:"
        return asked, ["True", "False"], label_of(row, "label", ["entailment", "not_entailment"])


@dataclasses.dataclass(frozen=True)
class CommitmentBank(Asks):
    """A premise, a hypothesis, and whether its speaker holds it for true."""

    columns: ClassVar[tuple[str, ...]] = ("premise", "hypothesis", "label")

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        premise, hypothesis = text_of(row["premise"]), text_of(row["hypothesis"])
        asked = f"{premise}\nQuestion: {hypothesis}. True, False, or Neither?\nAnswer:"
        labels = ["entailment", "contradiction", "neutral"]
        return asked, ["True", "False", "Neither"], label_of(row, "label", labels)


@dataclasses.dataclass(frozen=True)
class Copa(Asks):
    """What happened, `because` or `therefore`, and two ways to go on."""

    columns: ClassVar[tuple[str, ...]] = ("premise", "question", "choice1", "choice2", "label")

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        kind = text_of(row["question"])
        if kind not in _CONNECTIVES:
            raise TaskError(f"column 'question' is '{kind}': cause or effect.")
        context = f"{text_of(row['premise']).strip()[:-1]} {_CONNECTIVES[kind]}"
        choices = [text_of(row[name]) for name in ("choice1", "choice2")]
        options = [text[:1].lower() + text[1:] for text in choices]
        return context, options, label_of(row, "label", ["choice1", "choice2"])


@dataclasses.dataclass(frozen=True)
class Wic(Asks):
    """Two sentences with a word, and whether it means the same in both."""

    columns: ClassVar[tuple[str, ...]] = ("sentence1", "sentence2", "word", "label")

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        asked = (
            f"Sentence 1: {text_of(row['sentence1'])}\nSentence 2: {text_of(row['sentence2'])}\n"
            f"Question: Is the word '{text_of(row['word'])}' used in the same way in the two "
            "sentences above?\nAnswer:"
        )
        return asked, _NO_YES, label_of(row, "label", _FALSE_TRUE)


@dataclasses.dataclass(frozen=True)
class WscOptions(Asks):
    """A text with a pronoun between stars, and whether it refers to certain words of it."""

    columns: ClassVar[tuple[str, ...]] = Wsc().columns

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        passage = Wsc().inputs_of(row).removeprefix(Wsc.inputs_begin)
        pronoun, noun = text_of(row["span2_text"]), text_of(row["span1_text"])
        asked = (
            f"Passage: {passage}\nQuestion: In the passage above, does the pronoun "
            f'"*{pronoun}*" refer to "*{noun}*"?\nAnswer:'
        )
        return asked, _NO_YES, label_of(row, "label", _FALSE_TRUE)
