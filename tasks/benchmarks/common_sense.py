"""Common sense: which of several endings, answers or references is right.

HellaSwag, PIQA, WinoGrande, Winograd's schemas, StoryCloze and SIQA.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import ClassVar

from tasks.benchmarks.form import Asks, Row, label_of
from tasks.forms import Options, text_of, texts_of

PIQA = Options("Question: {goal}\nAnswer:", ("sol1", "sol2"), unlabelled="-1")
SIQA = Options(
    "Q: {context} {question}\nA:", ("answerA", "answerB", "answerC"), labels=("1", "2", "3")
)
STORY_CLOZE = Options("{context}", "endings")
WINOGRANDE = Options(
    "{sentence}", ("option1", "option2"), label="label", blank="_", unlabelled="-1"
)

_SENTENCE_END = re.compile(r"(?<=[.!?]) +(?=[a-z])")
_ARTEFACT = re.compile(r"\[.*?\]")
_POSSESSIVE = ("my", "his", "her", "our", "their")


@dataclasses.dataclass(frozen=True)
class HellaSwag(Asks):
    """What is done, and four ways to go on (Zellers et al. 2019).

    `activity: context`, without the marks of WikiHow's pages, ` [title]` read as the end of a
    sentence. The last sentence, which an ending continues, is capitalized where it begins in lower
    case and no mark follows.
    """

    columns: ClassVar[tuple[str, ...]] = ("activity_label", "context", "endings", "label")

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        context = text_of(row["context"])
        begun = list(_SENTENCE_END.finditer(context, context.rfind("]") + 1))
        if begun:
            at = begun[-1].end()
            context = context[:at] + context[at].upper() + context[at + 1 :]
        endings = [_without_marks(text) for text in texts_of(row["endings"], "endings")]
        asked = _without_marks(f"{text_of(row['activity_label'])}: {context}")
        return asked, endings, label_of(row, "label", "0123")


def _without_marks(text: str) -> str:
    text = text.strip().replace(" [title]", ". ")
    return _ARTEFACT.sub("", text).replace("  ", " ")


@dataclasses.dataclass(frozen=True)
class Winograd(Asks):
    """A sentence with a pronoun, and two that it may stand for (Levesque et al. 2012).

    Each of the two takes the pronoun's place, and the rest of the sentence is scored (Trinh and Le
    2018, section 3.1).
    """

    columns: ClassVar[tuple[str, ...]] = (
        "text", "option1_normalized", "option2_normalized", "pronoun_start", "pronoun_end",
        "pronoun_text", "label",
    )  # fmt: skip

    def question(self, row: Row) -> tuple[Sequence[str], Sequence[str], int]:
        """See `Asks`."""
        text = text_of(row["text"])
        begin, end = (int(text_of(row[f"pronoun_{at}"])) for at in ("start", "end"))
        possessive = text_of(row["pronoun_text"]).lower() in _POSSESSIVE
        filled = []
        for number in ("1", "2"):
            option = text_of(row[f"option{number}_normalized"])
            owned = possessive and option and not option.endswith("'s")
            filled.append(text[:begin] * bool(option) + option + "'s" * bool(owned))
        return filled, [text[end:].rstrip()], label_of(row, "label", "01")
