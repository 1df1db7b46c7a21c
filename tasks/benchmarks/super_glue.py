"""SuperGLUE as options to be ranked (Brown et al. 2020, appendix G), all but BoolQ.

In T5's words they are answered: `tasks.glue.super_glue`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tasks.benchmarks.form import ANSWERS, Asks, Row, label_of, once
from tasks.errors import TaskError
from tasks.forms import MultiRC, Wsc, text_of, texts_of
from tasks.forms.form import integer_of

_NO_YES = ("no", "yes")
_FALSE_TRUE = ("false", "true")
# Of ReCoRD: what stands before a bullet point, and for the entity that is asked for.
_POINT, _PLACEHOLDER = "\n@highlight\n", "@placeholder"
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


@dataclasses.dataclass(frozen=True)
class MultiRCOptions(Asks):
    """A text, a question, one answer, and whether it is right.

    For the metrics, `question_number` is what all answers to a question have in common, and
    `answers_of_options` what each option says.
    """

    columns: ClassVar[tuple[str, ...]] = MultiRC().columns
    kept: ClassVar[Mapping[str, str]] = {
        **Asks.kept, "question_number": "integer", ANSWERS: "texts"
    }  # fmt: skip

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        asked, answer = (text_of(row[name]) for name in ("question", "answer"))
        context = f"{MultiRC.plain(text_of(row['paragraph']))}\nQuestion: {asked}\nAnswer:"
        options = [f"{answer}\nIs the answer correct? {word}" for word in _NO_YES]
        return context, options, label_of(row, "label", _FALSE_TRUE)

    def __call__(self, row: Row) -> dict[str, Any]:
        """See `Asks`."""
        number = integer_of(row, MultiRC().number)
        kept = {"question_number": number, ANSWERS: list(_NO_YES)}
        return {**super().__call__(row), **kept}


@dataclasses.dataclass(frozen=True)
class RecordOptions(Asks):
    """A passage with its bullet points, and a sentence whose blank one of its entities fills.

    Several may be right: `answers` has them all, and `answers_of_options` the entities, for the
    metrics. The label is the first that is right.
    """

    columns: ClassVar[tuple[str, ...]] = ("passage", "query", "entities", "answers")
    kept: ClassVar[Mapping[str, str]] = {
        **Asks.kept, "answers": "texts", ANSWERS: "texts"
    }  # fmt: skip

    def question(self, row: Row) -> tuple[str, Sequence[str], int]:
        """See `Asks`."""
        text, *points = text_of(row["passage"]).strip().split(_POINT)
        context = "".join([f"{text}\n\n", *(f"  - {point}.\n" for point in points)])
        query, entities = text_of(row["query"]), self._entities(row)
        if _PLACEHOLDER not in query:
            raise TaskError(f"column 'query' has no {_PLACEHOLDER}, which an entity fills.")
        options = [f"  - {query}".replace(_PLACEHOLDER, entity) for entity in entities]
        answers = texts_of(row["answers"], "answers")
        known = [number for number, entity in enumerate(entities) if entity in answers]
        if answers and not known:
            raise TaskError(f"column 'answers' has '{answers[0]}', which is none of the entities.")
        return context, options, known[0] if known else -1

    def __call__(self, row: Row) -> dict[str, Any]:
        """See `Asks`."""
        made, entities = super().__call__(row), self._entities(row)
        return {**made, "answers": texts_of(row["answers"], "answers"), ANSWERS: entities}

    def _entities(self, row: Row) -> list[str]:
        return sorted(once(texts_of(row["entities"], "entities")))
