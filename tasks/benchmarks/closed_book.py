"""Questions without a text: TriviaQA, Natural Questions, WebQuestions."""

import dataclasses
from collections.abc import Sequence

from tasks.benchmarks.form import Answers, Row, once
from tasks.errors import TaskError
from tasks.forms import text_of, texts_of


@dataclasses.dataclass(frozen=True)
class ClosedBook(Answers):
    """`Q: …?` and the answers that are accepted (Brown et al. 2020, section 3.2).

    Attributes:
      answers: column of their list.
      value: column of the one that is shown in examples; None for the first of the list.
    """

    answers: str = "answer"
    value: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """The question's and the answers'."""
        return ("question", *filter(None, [self.value]), self.answers)

    def question(self, row: Row) -> tuple[str, Sequence[str]]:
        """See `Answers`."""
        asked = text_of(row["question"]).strip().rstrip("?").rstrip()
        accepted = texts_of(row[self.answers], self.answers)
        if self.value is not None:
            accepted = [text_of(row[self.value]), *accepted]
        accepted = once(accepted)
        if not accepted:
            raise TaskError(f"the question '{asked[:60]}' has no answer in '{self.answers}'.")
        return f"Q: {asked}?\nA:", accepted


TRIVIA_QA = ClosedBook("answer/aliases", "answer/value")
NATURAL_QUESTIONS = ClosedBook("answer")
WEB_QUESTIONS = ClosedBook("answers")
