"""Words with a vector each, and what stands near what."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from t5x_like.errors import UserError
from t5x_like.host import files

if TYPE_CHECKING:
    import pandas as pd

_QUESTIONS_AT_ONCE = 512
# Words among which the answer is, after the question's own in all their spellings.
_ANSWERS = 24


@dataclasses.dataclass(frozen=True, eq=False)
class WordVectors:
    """A vector for each word.

    Attributes:
      words: the most frequent first, where that is known; of a word that is there twice the first
        counts.
      vectors: float32 `[words, e]`.

    Raises:
      UserError: there are not as many vectors as words, or none.
    """

    words: Sequence[str]
    vectors: np.ndarray

    def __post_init__(self) -> None:
        shape = np.shape(self.vectors)
        if len(shape) != 2 or shape[0] != len(self.words) or not shape[0]:
            raise UserError(
                f"{len(self.words)} words have vectors of the shape {list(shape)}: a row for each "
                "word is needed, and one word at least."
            )
        object.__setattr__(self, "vectors", np.asarray(self.vectors, np.float32))

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """Word to its row."""
        found: dict[str, int] = {}
        for i, word in enumerate(self.words):
            found.setdefault(word, i)
        return found

    @functools.cached_property
    def unit(self) -> np.ndarray:
        """The vectors at length 1, float32 `[words, e]`; of length 0, as they are."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return self.vectors / np.where(lengths > 0, lengths, 1)

    def __contains__(self, word: str) -> bool:
        return word in self.index

    def __getitem__(self, word: str) -> np.ndarray:
        """The vector of a word, float32 `[e]`.

        Raises:
          UserError: it has none.
        """
        return self.vectors[self._row(word)]

    def _row(self, word: str) -> int:
        if word not in self.index:
            raise UserError(
                f"'{word}' is none of the {len(self.words):,} words that have a vector."
            )
        return self.index[word]

    def neighbours(self, word: str | np.ndarray, count: int = 10) -> "pd.DataFrame":
        """The nearest words, a row for each: `word`, and `similarity`, the cosine, falling.

        Args:
          word: which is left out itself; or a vector `[e]`.
          count: how many.

        Raises:
          UserError: the word has no vector.
        """
        left_out = [self._row(word)] if isinstance(word, str) else []
        vector = self.unit[left_out[0]] if left_out else _unit(np.asarray(word, np.float32))
        return self._nearest(vector, left_out, count)

    def analogy(self, first: str, second: str, third: str, count: int = 1) -> "pd.DataFrame":
        """What is to `third` as `second` is to `first`: the nearest to `second - first + third`.

        Of vectors of length 1, the three words left out (Mikolov et al. 2013a, section 4.1).

        Args:
          first: "man" of "man is to king as woman is to queen".
          second: "king".
          third: "woman".
          count: how many.

        Raises:
          UserError: one of the words has no vector.
        """
        rows = [self._row(word) for word in (first, second, third)]
        a, b, c = self.unit[rows]
        return self._nearest(_unit(b - a + c), rows, count)

    def _nearest(self, vector: np.ndarray, left_out: Sequence[int], count: int) -> "pd.DataFrame":
        import pandas as pd

        if not isinstance(count, int) or count < 1:
            raise UserError(f"count is {count}: 1 or more neighbours can be shown.")
        similarity = self.unit @ vector
        similarity[list(left_out)] = -np.inf
        nearest = np.argsort(-similarity, kind="stable")[: min(count, len(self.words))]
        nearest = nearest[np.isfinite(similarity[nearest])]
        return pd.DataFrame(
            {"word": [self.words[i] for i in nearest], "similarity": similarity[nearest]}
        )

    def analogies(
        self,
        path: str | os.PathLike[str],
        most_frequent: int | None = None,
        case_sensitive: bool = False,
    ) -> "pd.DataFrame":
        """How many questions of word2vec's file are answered rightly, a row for each section.

        Columns are `section`, `correct`, `questions`, those whose four words all have vectors,
        `left_out`, the others, and `accuracy`, in percent; the last row is their `total`. A
        question is answered by the nearest word to `second - first + third` that is none of the
        three, as by word2vec's `compute-accuracy` and gensim.

        Args:
          path: `questions-words.txt`: lines of four words, and `: SECTION` before each section.
          most_frequent: only so many of the words, the first ones, ask and answer; None is all.
          case_sensitive: whether capitals tell words apart.

        Raises:
          UserError: the file cannot be read, or has other lines.
        """
        import pandas as pd

        known = self._known(most_frequent, case_sensitive)
        rows: list[list[object]] = []
        for section, questions in _questions(path):
            folded = [[_folded(word, case_sensitive) for word in four] for four in questions]
            asked = [four for four in folded if all(word in known for word in four)]
            correct = self._answered(asked, known, case_sensitive, most_frequent)
            rows.append([section, correct, len(asked), len(folded) - len(asked)])
        frame = pd.DataFrame(rows, columns=["section", "correct", "questions", "left_out"])
        total = frame[["correct", "questions", "left_out"]].sum()
        frame.loc[len(frame)] = ["total", *total]
        frame["accuracy"] = (
            100 * frame["correct"] / frame["questions"].where(frame["questions"] > 0)
        )
        return frame

    def _known(self, most_frequent: int | None, case_sensitive: bool) -> dict[str, int]:
        found: dict[str, int] = {}
        for i, word in enumerate(self.words[:most_frequent]):
            found.setdefault(_folded(word, case_sensitive), i)
        return found

    def _answered(
        self,
        asked: Sequence[Sequence[str]],
        known: dict[str, int],
        case_sensitive: bool,
        most_frequent: int | None,
    ) -> int:
        unit = self.unit[:most_frequent]
        names = np.array([_folded(word, case_sensitive) for word in self.words[:most_frequent]])
        correct = 0
        for start in range(0, len(asked), _QUESTIONS_AT_ONCE):
            some = asked[start : start + _QUESTIONS_AT_ONCE]
            rows = np.array([[known[word] for word in four] for four in some])
            wanted = unit[rows[:, 1]] - unit[rows[:, 0]] + unit[rows[:, 2]]
            similarity = wanted @ unit.T
            for i, four in enumerate(some):
                # The words as they are folded: another spelling of a question's word is no answer.
                best = _highest(similarity[i], _ANSWERS)
                answer = next((names[j] for j in best if names[j] not in four[:3]), None)
                correct += answer == four[3]
        return correct


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """The places of so many of the highest, falling."""
    count = min(count, values.size)
    some = np.argpartition(-values, count - 1)[:count]
    return some[np.argsort(-values[some], kind="stable")]


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector


def _folded(word: str, case_sensitive: bool) -> str:
    return word if case_sensitive else word.upper()


def _questions(path: str | os.PathLike[str]) -> list[tuple[str, list[list[str]]]]:
    """Sections with their questions, each four words."""
    try:
        lines = files.read_whole(path).decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"'{path}' is not there: word2vec's questions-words.txt is read.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' cannot be read: {error}.") from None
    sections: list[tuple[str, list[list[str]]]] = []
    for number, line in enumerate(lines, 1):
        if line.startswith(":"):
            sections.append((line[1:].strip(), []))
        elif line.strip():
            words = line.split()
            if len(words) != 4:
                raise UserError(
                    f"'{path}', line {number}, has {len(words)} words: an analogy has four."
                )
            if not sections:
                sections.append(("", []))
            sections[-1][1].append(words)
    if not any(questions for _, questions in sections):
        raise UserError(f"'{path}' has no analogies: lines of four words are read.")
    return sections
