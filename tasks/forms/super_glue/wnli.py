"""WNLI as a Winograd schema: the pronoun of the premise that the hypothesis replaces."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tasks.errors import TaskError
from tasks.forms.form import integer_of, text_of
from tasks.forms.super_glue.winograd import INPUTS_BEGIN

_PRONOUNS = ("he", "she", "they", "it", "her", "his", "their", "them", "him")
_ARTICLES = ("a", "an", "the")
_LAST = re.compile(r"[.,?!]$")


@dataclasses.dataclass(frozen=True)
class Wnli:
    """`wsc: The fish ate the worm. *It* was tasty.` to `The worm`, of a premise and a hypothesis.

    WNLI's rows are Winograd schemas with the pronoun replaced; its training set contradicts its
    validation set. So T5 never learns it, and answers it as WSC (Raffel et al. 2020, section 2.4).
    The pronoun is that around which most words of the premise are the hypothesis's; what stands
    there in the hypothesis is what it may refer to, and `label`, whether it does, is kept.

    Attributes:
      premise: column of the text with the pronoun.
      hypothesis: column of a part of it with something in the pronoun's place.
      label: column of the label: 1 where the pronoun refers to it, 0, or -1 in test sets.
    """

    premise: str = "sentence1"
    hypothesis: str = "sentence2"
    label: str = "label"

    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[Mapping[str, str]] = {"label": "integer"}

    @property
    def columns(self) -> tuple[str, ...]:
        """The premise, the hypothesis and the label."""
        return (self.premise, self.hypothesis, self.label)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs, targets and the label.

        Raises:
          TaskError: the premise has no pronoun.
        """
        premise, hypothesis = text_of(row[self.premise]), text_of(row[self.hypothesis])
        found = _replaced(_words(premise), _words(hypothesis))
        if found is None:
            raise TaskError(
                f"column '{self.premise}' is '{premise[:60]}': a text with one of the pronouns "
                f"{', '.join(_PRONOUNS)} is needed."
            )
        place, words = found
        return {
            "inputs": INPUTS_BEGIN + _starred(premise, place),
            "targets": _as_written(words, hypothesis),
            "label": integer_of(row, self.label),
        }


def _words(text: str) -> list[str]:
    """Words in lower case without the punctuation that ends them."""
    words = [_LAST.sub("", word) for word in text.strip().lower().split(" ")]
    return [word for word in words if word]


def _replaced(premise: Sequence[str], hypothesis: Sequence[str]) -> tuple[int, list[str]] | None:
    """The place of the pronoun and the words that the hypothesis has there; None without one."""
    best, most = None, -1
    for place, word in enumerate(premise):
        if word not in _PRONOUNS:
            continue
        before, after = premise[:place], premise[place + 1 :]
        # Of the words before it those next to it, of those after it the first.
        shared_before = _shared(before[::-1], hypothesis[::-1])
        shared_after = _shared(after, hypothesis)
        if shared_before + shared_after > most:
            most = shared_before + shared_after
            left, right = before[place - shared_before :], after[:shared_after]
            best = (place, _between(left, right, hypothesis) if most else [])
    return best


def _shared(words: Sequence[str], hypothesis: Sequence[str]) -> int:
    """How many of the first words stand in the hypothesis one after the other."""
    text = " ".join(hypothesis)
    count = 0
    while count < len(words) and " ".join(words[: count + 1]) in text:
        count += 1
    return count


def _between(left: Sequence[str], right: Sequence[str], hypothesis: Sequence[str]) -> list[str]:
    """What the hypothesis has between these words, or at its beginning or end beside one part."""
    text = " ".join(hypothesis)
    before, after = (re.escape(" ".join(words)) for words in (left, right))
    middle = " ".join(filter(None, [before, "(.+)", after]))
    for pattern in (middle, " ".join(filter(None, ["^(.+)", after])),
                    " ".join(filter(None, [before, "(.+)$"]))):  # fmt: skip
        if found := re.search(pattern, text):
            return found[1].split(" ")
    return []


def _as_written(words: Sequence[str], hypothesis: str) -> str:
    """The words from their last article on, as the hypothesis has them, without `'s`."""
    if not words:
        return ""
    first = max((words.index(one) for one in _ARTICLES if one in words), default=0)
    pattern = " +".join(rf"{re.escape(word)}[.,?!]?" for word in words[first:])
    found = re.search(pattern, hypothesis, re.IGNORECASE)
    return re.sub(r"'s?$", "", _LAST.sub("", found[0])) if found else ""


def _starred(text: str, place: int) -> str:
    """The text with stars around a word, and a space before the punctuation after it."""
    words = text.split(" ")
    word = words[place]
    bare = _LAST.sub("", word)
    words[place] = f"*{bare}*" if bare == word else f"*{bare}* {word[-1]}"
    return " ".join(words)
