"""Numbers and letters: GPT-3's synthetic tasks, and GSM8K with chains of thought."""

import dataclasses
import re
from typing import Any, ClassVar

from tasks.benchmarks.form import Row
from tasks.errors import TaskError
from tasks.forms import text_of

# Brown et al. 2020, sections 3.9.1 and 3.9.2; the names are those of TFDS's `gpt3`.
ARITHMETIC = (
    *(f"{digits}_digit_{name}" for digits in ("two", "three", "four", "five", "six")
      for name in ("addition", "subtraction")),
    "two_digit_multiplication", "single_digit_three_ops", "sum_of_digits",
)  # fmt: skip
WORD_SCRAMBLING = (
    "cycle_letters_in_word", "mid_word_1_anagrams", "mid_word_2_anagrams",
    "random_insertion_in_word", "reversed_words",
)  # fmt: skip

_CALCULATION = re.compile(r"<<.*?>>")
_MARK = "####"
ANSWER = "The answer is "
# Eight problems with their solutions. Wei et al. 2022 (appendix G) have eight others, which
# `forms.FewShot.examples` takes in place of these.
_SOLVED = (
    ("A shelf holds 14 jars. Nina takes 5 jars away and puts 3 others there. How many jars are on "
     "the shelf?",
     "There are 14 jars. Without 5 of them 14 - 5 = 9 are left. With 3 others these are "
     "9 + 3 = 12.",
     "12"),
    ("A bus has 40 seats. 27 people sit in it and each has a seat. How many seats are free?",
     "Of the 40 seats 27 are taken. 40 - 27 = 13.", "13"),
    ("Omar reads 12 pages a day. How many pages does he read in 5 days?",
     "Each day he reads 12 pages. In 5 days these are 12 * 5 = 60.", "60"),
    ("Three friends share 24 plums evenly, and one of them eats 2 of hers. How many plums does she "
     "have then?",
     "Each friend gets 24 / 3 = 8 plums. After 2 are eaten 8 - 2 = 6 are left.", "6"),
    ("A ticket costs $7. Lea buys 4 tickets and pays with $50. How many dollars does she get back?",
     "The tickets cost 4 * 7 = 28 dollars. From 50 dollars 50 - 28 = 22 come back.", "22"),
    ("A tank has 90 litres of water. Each hour 15 litres flow out. After how many hours is it "
     "empty?",
     "Each hour the tank loses 15 litres. 90 / 15 = 6.", "6"),
    ("Ben is 9 years old. His sister is twice as old, and their father is 20 years older than she "
     "is. How old is the father?",
     "The sister is 9 * 2 = 18 years old. The father is 18 + 20 = 38.", "38"),
    ("A baker makes 6 trays of 8 rolls. 5 rolls are burnt. How many rolls can be sold?",
     "There are 6 * 8 = 48 rolls. Without the 5 that are burnt 48 - 5 = 43 are left.", "43"),
)  # fmt: skip
SOLVED = tuple(f"Q: {asked}\nA: {steps} {ANSWER}{number}." for asked, steps, number in _SOLVED)


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """A question and its answer as GPT-3's files have them, without white space around."""

    columns: ClassVar[tuple[str, ...]] = ("context", "completion")
    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[dict[str, str]] = {}

    def __call__(self, row: Row) -> dict[str, Any]:
        """Inputs and targets."""
        texts = [text_of(row[name]).strip() for name in self.columns]
        return dict(zip(self.features, texts, strict=True))


@dataclasses.dataclass(frozen=True)
class Gsm8k:
    """A word problem, and its solution in one line, which ends with "The answer is 18.".

    From the steps of the data (Cobbe et al. 2021), without their calculator's notes.
    """

    columns: ClassVar[tuple[str, ...]] = ("question", "answer")
    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")
    kept: ClassVar[dict[str, str]] = {}

    def __call__(self, row: Row) -> dict[str, Any]:
        """Inputs and targets.

        Raises:
          TaskError: the answer does not end `#### 18`.
        """
        steps, mark, number = text_of(row["answer"]).rpartition(_MARK)
        if not mark or not number.strip():
            raise TaskError(f"column 'answer' ends '{text_of(row['answer'])[-40:]}': '#### 18'?")
        lines = [_CALCULATION.sub("", line).strip() for line in steps.splitlines()]
        chain = [line if line[-1] in ".!?" else f"{line}." for line in lines if line]
        asked = f"Q: {' '.join(text_of(row['question']).split())}\nA:"
        return {"inputs": asked, "targets": " ".join([*chain, f"{ANSWER}{number.strip()}."])}
