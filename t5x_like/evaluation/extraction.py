"""The answers that a model finds in texts: of the examples of a task, or of texts at hand."""

import dataclasses
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np

from t5x_like.data import EvaluationDataset, formats, open_evaluation
from t5x_like.data.examples import for_lengths
from t5x_like.data.formats import BoundFormat, Extracted, TaskFacts
from t5x_like.data.formats.prompts import bucket_length
from t5x_like.errors import UserError
from t5x_like.evaluation.generation import DECODING, measured_by_metrics, text_of
from t5x_like.evaluation.measurement import ROWS, SPLIT_ROWS, Finding, Subject
from t5x_like.evaluation.prediction import SEPARATOR, Text, predict_batch
from t5x_like.evaluation.spans import (
    Candidate,
    SpanAnswer,
    SpanRules,
    answer,
    candidates,
    rule_text,
    rules_of,
)
from t5x_like.protocols import Example, Mixture, Model, Params, Task


@dataclasses.dataclass(frozen=True)
class SpanPrediction:
    """What was expected to be found in a text, and what was.

    Attributes:
      id: of the example, where the task keeps one.
      inputs: the question and the text, a tab between them.
      targets: the accepted answers.
      predictions: the answer, a part of the text; "" for none.
      scores: its probability, see `SpanAnswer`.
      span: the characters of the text from which and to before which it stands; None for none.
      null_score_difference: see `SpanAnswer`.
    """

    id: str | None
    inputs: str
    targets: list[str]
    predictions: str
    scores: float
    span: tuple[int, int] | None
    null_score_difference: float | None


def extracted_by(model: Model) -> tuple[Extracted, SpanRules] | None:
    """By which names, and how, spans are chosen by what the model predicts; None of any other."""
    names = getattr(formats.find(model.batch_format), "extracted", None)
    rules = rules_of(model)
    return None if names is None or rules is None else (names, rules)


@dataclasses.dataclass
class _Found:
    """What the rows of one text say so far."""

    text: str
    candidates: list[Candidate] = dataclasses.field(default_factory=list)
    null_scores: list[float] = dataclasses.field(default_factory=list)

    def add(
        self,
        outputs: Mapping[str, np.ndarray],
        row: int,
        example: Mapping[str, Any],
        names: Extracted,
        rules: SpanRules,
    ) -> None:
        """Takes a row of a batch in."""
        start_s, end_s = outputs[names.start][row], outputs[names.end][row]
        none = int(example[names.none])
        self.null_scores.append(float(start_s[none]) + float(end_s[none]))
        begins, ends, may_begin = (
            np.asarray(example[name]) for name in (names.begins, names.ends, names.may_begin)
        )
        self.candidates += candidates(start_s, end_s, begins, ends, may_begin, self.text, rules)

    def answer(self, rules: SpanRules) -> SpanAnswer:
        """The answer by all rows."""
        return answer(self.text, self.candidates, self.null_scores, rules)


# -- The examples of a task --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Extraction:
    """The task's metrics of the answers that the model finds in texts.

    Of tasks with metrics, and models that mark spans. A limit is of questions.
    """

    name: ClassVar[str] = "extraction"

    def measure(self, subject: Subject) -> Finding | None:
        """See `Measurement`."""
        model, dataset = subject.model, subject.dataset
        task, extracted = cast(Task, dataset.task), extracted_by(model)
        if extracted is None or not measured_by_metrics(task):
            return None
        split = open_evaluation(dataset, batch_format=model.batch_format, limit=subject.limit)
        predictions: list[SpanPrediction] = []
        expected: list[Any] = []
        texts: list[Any] = []
        answers: list[SpanAnswer] = []
        numbers: list[int] = []
        for number, raw, found in _answers(subject, extracted, split):
            numbers.append(number)
            answers.append(found)
            expected.append(task.postprocess("", raw, True))
            texts.append(task.postprocess(found.text, raw, False))
            predictions.append(
                SpanPrediction(
                    id=_plain(raw["id"]) if "id" in raw else None,
                    inputs=SEPARATOR.join(_texts(task, raw)),
                    targets=list(expected[-1]),
                    predictions=found.text,
                    scores=found.probability,
                    span=found.span,
                    null_score_difference=found.null_score_difference,
                )
            )

        def part(places: Sequence[int]) -> dict[str, float]:
            mine = [[values[i] for i in places] for values in (expected, texts, answers)]
            found: dict[str, float] = {}
            for metric in task.metric_fns:
                found |= _measured(metric, *mine)
            return found

        values: dict[str, float] = {ROWS: split.measured, SPLIT_ROWS: split.num_examples}
        values |= part(range(len(answers)))
        return Finding(values, predictions, {DECODING: rule_text(model) or ""}, numbers, part)


def _measured(
    metric: Any, expected: list[Any], texts: list[Any], answers: Sequence[SpanAnswer]
) -> dict[str, float]:
    """A metric's values; one that asks for `aux_values`, as seqio names them, is given them."""
    if "aux_values" not in inspect.signature(metric).parameters:
        found = metric(expected, texts)
    else:
        # Without a span, no threshold answers.
        differences = [
            np.inf if one.null_score_difference is None else one.null_score_difference
            for one in answers
        ]
        aux_values = {"spans": [one.best for one in answers]}
        found = metric(expected, texts, {**aux_values, "null_score_differences": differences})
    return {name: float(value) for name, value in found.items()}


def _answers(
    subject: Subject, extracted: tuple[Extracted, SpanRules], split: EvaluationDataset
) -> Iterator[tuple[int, Mapping[str, Any], SpanAnswer]]:
    """Each example's number, cached features and answer, by all rows that are made of it."""
    names, rules = extracted
    model, params = subject.model, subject.params
    task = cast(Task, subject.dataset.task)
    example: Mapping[str, Any] = {}
    found, number = None, -1
    shown = subject.bar_of_batches(split.measured, len(split))
    with shown as progress, subject.partitioner.activate():
        for each in split:
            outputs = subject.journal(
                f"predict {names.start} {names.end}",
                each.batch,
                functools.partial(
                    predict_batch, model, params, each.batch, (names.start, names.end)
                ),
            )
            for row, index in enumerate(each.indices):
                if found is not None and split.example_of(index) != number:
                    yield number, example, found.answer(rules)
                    found = None
                example, number = each.examples[row], split.example_of(index)
                found = found or _Found(_texts(task, example)[-1])
                found.add(outputs, row, example, names, rules)
            progress(1)
    if found is not None:
        yield number, example, found.answer(rules)


def _texts(task: Task, example: Mapping[str, Any]) -> list[str]:
    """The question, and the text in which the answer stands."""
    vocabulary = task.output_features["inputs"].vocabulary
    return [text_of(example, name, vocabulary) for name in ("inputs", "inputs_pair")]


def _plain(value: Any) -> str:
    value = value.item() if isinstance(value, np.ndarray) else value
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


# -- Texts at hand -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SpanReader:
    """Makes rows of questions and texts as a task that finds answers does.

    Attributes:
      features: the question's and the text's.
      vocabulary: of both.
      objective: makes rows.
      bound: lays them out.
      length: of the longest row.
    """

    features: tuple[str, ...]
    vocabulary: Any
    objective: Any
    bound: BoundFormat
    length: int

    what_is_lost: ClassVar[str] = (
        "questions lose their end: they have more tokens than SpanWindows.question_length says."
    )

    @classmethod
    def for_task(
        cls, task: Task | Mixture, model: Model, lengths: Mapping[str, int]
    ) -> "SpanReader":
        """The reader of a task, of a mixture's first.

        Raises:
          UserError: the task finds no answers in texts.
        """
        first, _ = task.tasks[0]
        specs = {name: f.vocabulary.spec() for name, f in first.output_features.items()}
        objective: Any = for_lengths(first.objective(specs), lengths)
        if not hasattr(objective, "row_counts"):
            raise UserError(
                f"task '{task.name}' has no questions about texts, as {type(model).__name__} with "
                "this head answers: choose one, such as tasks/spans_jsonl.gin."
            )
        facts = TaskFacts(tuple(first.output_features), first.example_features)
        bound = formats.bound(model.batch_format, facts)
        features = objective.texts
        vocabulary = first.output_features[features[0]].vocabulary
        return cls(features, vocabulary, objective, bound, bound.capacities(lengths)[0])

    def parts(self, text: Text) -> tuple[str, str]:
        """The question and the text.

        Args:
          text: both, or one with a tab between them; further tabs are the text's.

        Raises:
          UserError: it is neither.
        """
        parts = text.split(SEPARATOR, 1) if isinstance(text, str) else list(text)
        if len(parts) == 2:
            return parts[0], parts[1]
        found = f"{len(parts)} {'text' if len(parts) == 1 else 'texts'}"
        raise UserError(
            f"found {found} where the task reads a question and a text, a tab between them."
        )

    def excess(self, text: Text) -> int:
        """How many tokens of a question are not read."""
        return max(0, len(self.vocabulary.encode(self.parts(text)[0])) - self.objective.room)

    def rows(self, text: Text) -> list[Example]:
        """All rows that a question and a text become."""
        question, context = self.parts(text)
        ids, offsets = self.vocabulary.encode_with_offsets(context)
        first, second = self.features
        places = np.asarray(offsets, np.int32).reshape(-1, 2)
        example = {
            first: np.asarray(self.vocabulary.encode(question), np.int32),
            second: np.asarray(ids, np.int32),
            f"{second}_begins": places[:, 0],
            f"{second}_ends": places[:, 1],
        }
        sizes = {name: np.array([example[name].size]) for name in self.features}
        rng = np.random.default_rng(0)  # from which nothing is drawn
        return [
            self.objective({**example, "row": np.asarray(row)}, rng)
            for row in range(int(self.objective.row_counts(sizes)[0]))
        ]

    def batch(self, texts: Sequence[Text]) -> dict[str, np.ndarray]:
        """A batch of all rows that the texts become, in order."""
        return self._batch_of([row for text in texts for row in self.rows(text)])

    def _batch_of(self, examples: Sequence[Example], rows: int = 0) -> dict[str, np.ndarray]:
        items = [self.bound.item(example) for example in examples]
        longest = max(item.parts[0].size for item in items)
        laid_out = [*((item,) for item in items), *[()] * (rows - len(items))]
        lengths = {self.features[0]: bucket_length(longest, self.length)}
        return self.bound.batch(laid_out, lengths, False)

    def answers(
        self, model: Model, params: Params, texts: Sequence[Text], batch_size: int = 32
    ) -> list[SpanAnswer]:
        """The answer to each question in its text, by all rows that are made of it."""
        extracted = extracted_by(model)
        assert extracted is not None
        names, rules = extracted
        found = [_Found(self.parts(text)[1]) for text in texts]
        rows = [(i, row) for i, text in enumerate(texts) for row in self.rows(text)]
        for begin in range(0, len(rows), batch_size):
            some = rows[begin : begin + batch_size]
            batch = self._batch_of([example for _, example in some], batch_size)
            outputs = predict_batch(model, params, batch, (names.start, names.end))
            for row, (i, example) in enumerate(some):
                found[i].add(outputs, row, example, names, rules)
        return [one.answer(rules) for one in found]
