"""Questions that are made of the sentence that answers them."""

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence

import numpy as np

from tasks.errors import TaskError
from tasks.sources.source import Row
from tasks.sources.synthetic.sentences import OfSentences

# What answers often are, in English: numbers, and words in capitals that do not begin a sentence;
# and any words.
_NAMED = re.compile(r"\d[\d,.]*\b|(?<=[a-z,] )[A-Z][\w-]+(?: [A-Z][\w-]+)*")
_ANY = re.compile(r"(?<= )\w[\w-]*(?: \w[\w-]*){0,2}")
_OF_NUMBERS = ("How many", "When", "What")
_OF_OTHERS = ("Who", "What", "Where", "Which")


@dataclasses.dataclass(frozen=True)
class ClozeQuestions(OfSentences):
    """Questions, texts that answer them, and answers, of plain text that has none of them.

    Pre-training for answers in texts that needs no questions (Lewis et al. 2019, section 2,
    with their noisy cloze). An answer is drawn from a sentence: a number or a name, or else up
    to three words in a row. The question is what is left of the sentence: each of its words is kept
    with a probability; a part of them, cut at random, moves from the end to the front; and before
    them stands a question word, of numbers or of others. The text is the sentence with up to two
    sentences before it and one after. The paper's names are those that a tagger finds, and words
    move less far.

    Attributes:
      kept_share: of the sentence's words, in the mean.
      named_share: of the questions whose answers are to be numbers or names; of a sentence without
        them such a question is left out.
      most_words: of a text; of more the sentence alone is taken, and a longer sentence is left out.
    """

    kept_share: float = 0.6
    named_share: float = 0.7
    most_words: int = 75

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("kept_share", "named_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise TaskError(
                    f"ClozeQuestions.{name} is {getattr(self, name)}: from 0 to 1 is needed."
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """A question, its text, and the JSON of its answer."""
        return ("question", "context", "answers")

    def made(
        self,
        text: str,
        places: Sequence[tuple[int, int]],
        before: Sequence[str],
        rng: np.random.Generator,
    ) -> Iterator[Row]:
        """See `OfSentences`."""
        for i, place in enumerate(places):
            sentence = text[slice(*place)]
            if len(sentence.split()) > self.most_words:
                continue
            for _ in range(self.copies):
                pattern = _NAMED if rng.random() < self.named_share else _ANY
                answers = [found.span() for found in pattern.finditer(sentence)]
                first = max(0, i - int(rng.integers(3)))
                last = min(i + int(rng.integers(2)), len(places) - 1)
                if not answers:
                    continue
                begin, end = answers[rng.integers(len(answers))]
                start = places[first][0]
                context = text[start : places[last][1]]
                if len(context.split()) > self.most_words:
                    start, context = place[0], sentence
                answer = {"text": sentence[begin:end], "answer_start": place[0] - start + begin}
                yield {
                    "question": self._question(sentence, begin, end, rng),
                    "context": context,
                    "answers": json.dumps([answer], ensure_ascii=False),
                }

    def _question(self, sentence: str, begin: int, end: int, rng: np.random.Generator) -> str:
        left = (sentence[:begin] + sentence[end:]).split()
        words = [word for word in left if rng.random() < self.kept_share]
        cut = int(rng.integers(len(words) + 1))
        asked = _OF_NUMBERS if sentence[begin].isdigit() else _OF_OTHERS
        return " ".join([asked[rng.integers(len(asked))], *words[cut:], *words[:cut]]) + "?"
