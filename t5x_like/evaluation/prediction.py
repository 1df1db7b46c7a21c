"""What a model's head says of texts: of the examples of a task, or of texts at hand."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import jax
import numpy as np

from t5x_like.data import formats, open_evaluation
from t5x_like.data.examples import for_lengths
from t5x_like.data.formats import BoundFormat, TaskFacts
from t5x_like.data.formats.prompts import bucket_length
from t5x_like.decoding.generate import fetched
from t5x_like.errors import UserError
from t5x_like.evaluation.generation import (
    measured_by_metrics,
    measured_of,
    metrics_of,
    text_of,
)
from t5x_like.evaluation.measurement import ROWS, SPLIT_ROWS, Finding, Subject
from t5x_like.protocols import (
    Mixture,
    Model,
    Objective,
    Params,
    Predicts,
    Task,
    label_names,
)

# Between the texts of a pair, or of choices, where they are given as one.
SEPARATOR = "\t"
Text = str | Sequence[str]
Outputs = dict[str, np.ndarray]
_TEXT = "_pretokenized"
# Of a feature that is a list: the words of one text.
_WORDS = "words"


@dataclasses.dataclass(frozen=True)
class LabelPrediction:
    """What was expected of a head for one example, and what came.

    Attributes:
      inputs: the text, or all texts of it with a tab between them; its words, where each has a tag.
      targets: a label, a number, the number of a choice, or a tag for each word; None of an
        example without.
      predictions: the same.
      scores: the probability of the label or choice, or of each tag; None of a number.
    """

    inputs: str | list[str]
    targets: Any
    predictions: Any
    scores: Any


@functools.partial(jax.jit, static_argnames=("model", "names"))
def _outputs(
    model: Predicts, params: Params, batch: Mapping[str, Any], names: tuple[str, ...] | None
) -> Mapping[str, jax.Array]:
    found = model.predict(params, batch)
    # What is not asked for is not computed, and not fetched.
    return found if names is None else {name: found[name] for name in names if name in found}


def predict_batch(
    model: Model, params: Params, batch: Mapping[str, np.ndarray], names: tuple[str, ...] | None
) -> Outputs:
    """The outputs of these names, or all, as NumPy arrays, in every process.

    Raises:
      UserError: the model has no head that predicts.
    """
    if not isinstance(model, Predicts):
        raise UserError(
            f"{type(model).__name__} has no head that predicts: generate or score text."
        )
    return {name: fetched(x) for name, x in _outputs(model, params, dict(batch), names).items()}


# -- The examples of a task --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The task's metrics of what the model's head says of each example.

    Of tasks with metrics, and models with a head that is measured.
    """

    name: ClassVar[str] = "prediction"

    def measure(self, subject: Subject) -> Finding | None:
        """See `Measurement`."""
        model, dataset = subject.model, subject.dataset
        task, measured = cast(Task, dataset.task), measured_of(model)
        if measured is None or not measured_by_metrics(task):
            return None
        split = open_evaluation(dataset, batch_format=model.batch_format, limit=subject.limit)
        names = label_names(model)
        predictions: list[LabelPrediction] = []
        compared: list[tuple[Any, Any] | None] = []
        numbers: list[int] = []
        shown = subject.bar_of_batches(split.measured, len(split))
        with shown as progress, subject.partitioner.activate():
            for each in split:
                batch = subject.journal(
                    f"predict {measured.outputs}",
                    each.batch,
                    functools.partial(
                        predict_batch, model, subject.params, each.batch, measured.outputs
                    ),
                )
                outputs = {name: x[: len(each.examples)] for name, x in batch.items()}
                expected = measured.expected(each.batch, each.examples, names)
                told = measured.answers(outputs, each.examples, names)
                predictions += [
                    LabelPrediction(
                        inputs=_written(task, example),
                        targets=target,
                        predictions=answer["predictions"],
                        scores=answer.get("scores"),
                    )
                    for example, target, answer in zip(each.examples, expected, told, strict=True)
                ]
                compared += measured.compared(outputs, each.batch, each.examples, names)
                numbers += map(split.example_of, each.indices)
                progress(1)

        def part(places: Sequence[int]) -> dict[str, float]:
            return _metrics(task, [pair for i in places if (pair := compared[i]) is not None])

        rows: dict[str, float] = {ROWS: split.measured, SPLIT_ROWS: split.num_examples}
        values = rows | part(range(len(compared)))
        return Finding(values, predictions, examples=numbers, part=part)


def _metrics(task: Task, pairs: Sequence[tuple[Any, Any]]) -> dict[str, float]:
    """The task's metrics of what was expected and what came; nothing of nothing."""
    return metrics_of(task, *map(list, zip(*pairs, strict=True))) if pairs else {}


def _written(task: Task, example: Mapping[str, Any]) -> str | list[str]:
    """The text of an example, all of its texts with a tab between them, or its words."""
    features = list(task.output_features)
    kept = sorted(name.removesuffix(_TEXT) for name in example if name.endswith(_TEXT))
    # The texts that become parts of a feature follow it.
    names = [name for name in features if name in kept]
    names += [name for name in kept if name not in features]
    if not names:
        vocabulary = task.output_features[features[0]].vocabulary
        return SEPARATOR.join(text_of(example, name, vocabulary) for name in features)
    if listed(task) == {names[0]: _WORDS}:
        return [_decoded(word) for word in example[f"{names[0]}{_TEXT}"]]
    values = [example[f"{name}{_TEXT}"] for name in names]
    texts = [text for value in values for text in (value if _is_list(value) else [value])]
    return SEPARATOR.join(map(_decoded, texts))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _decoded(text: Any) -> str:
    if isinstance(text, np.ndarray):
        text = text.item()
    return text.decode("utf-8") if isinstance(text, bytes) else str(text)


# -- Texts at hand -------------------------------------------------------------------------------


def listed(task: Task) -> Mapping[str, str]:
    """The features of a task that are lists of texts; mostly none. See `protocols.Task`."""
    return getattr(task, "listed", {})


@dataclasses.dataclass(frozen=True)
class TextReader:
    """Makes batches of texts as a task that labels them does.

    Attributes:
      task: which labels them.
      features: the texts that a row is made of: one, or two.
      objective: makes the row.
      bound: lays rows out.
      lengths: of the task's features.
    """

    task: Task
    features: tuple[str, ...]
    objective: Objective
    bound: BoundFormat
    lengths: Mapping[str, int]

    @classmethod
    def for_task(
        cls, task: Task | Mixture, model: Model, lengths: Mapping[str, int]
    ) -> "TextReader | None":
        """The reader of a task, of a mixture's first; None where the task labels no texts."""
        first, _ = task.tasks[0]
        specs = {name: f.vocabulary.spec() for name, f in first.output_features.items()}
        objective = for_lengths(first.objective(specs), lengths)
        features = getattr(objective, "texts", ())
        if objective is None or not features:
            return None
        facts = TaskFacts(tuple(first.output_features), first.example_features)
        # Rows that continue one another are pieces of a text, and a text at hand is whole.
        name = getattr(formats.find(model.batch_format), "of_texts", model.batch_format)
        bound = formats.bound(name, facts)
        return cls(first, features, objective, bound, lengths)

    @property
    def length(self) -> int:
        """Of the longest row."""
        return self.bound.capacities(self.lengths)[0]

    @property
    def what_is_lost(self) -> str:
        """Of texts with an excess, for a person."""
        return (
            "texts lose their end: with what stands around them they are longer than "
            f"{self.length:,} tokens, which TASK_FEATURE_LENGTHS says."
        )

    def parts(self, text: Text) -> dict[str, str | list[str]]:
        """The text of each feature, or the list of its texts.

        Args:
          text: one; of a task of pairs two, or one with a tab between them; of a task of choices a
            text and its choices, in the same two ways; of a task of words a list of them, or a text
            with spaces between them.

        Raises:
          UserError: another number of parts.
        """
        kinds = listed(self.task)
        if kinds.get(self.features[0]) == _WORDS:
            return {self.features[0]: text.split() if isinstance(text, str) else list(text)}
        parts = [text] if isinstance(text, str) else list(text)
        if len(self.features) == 2 and len(parts) == 1:
            parts = parts[0].split(SEPARATOR)
        if kinds:
            wanted, right = "a text and two or more choices, tabs between them", len(parts) > 2
        elif len(self.features) == 2:
            wanted, right = "a pair of texts, a tab between them", len(parts) == 2
        else:
            wanted, right = "a text", len(parts) == 1
        if not right:
            raise UserError(
                f"found {len(parts)} {'text' if len(parts) == 1 else 'texts'} where the task "
                f"reads {wanted}."
            )
        if kinds:
            return {self.features[0]: parts[0], self.features[1]: parts[1:]}
        return dict(zip(self.features, parts, strict=True))

    def tokens(self, text: Text) -> dict[str, np.ndarray]:
        """What the task's cache would hold of a text: ids by feature, and sizes of lists."""
        found: dict[str, np.ndarray] = {}
        for name, part in self.parts(text).items():
            found |= cast(Any, self.task).tokenized(name, part)
        return found

    def excess(self, text: Text) -> int:
        """How many tokens of a text a row has no room for."""
        return cast(Any, self.objective).excess(self.tokens(text))

    def examples(self, texts: Sequence[Text]) -> list[dict[str, Any]]:
        """What the objective makes of each text, with the text itself as `NAME_pretokenized`."""
        rng = np.random.default_rng(0)
        return [
            self.objective(self.tokens(text), rng)
            | {f"{name}{_TEXT}": part for name, part in self.parts(text).items()}
            for text in texts
        ]

    def batch(self, texts: Sequence[Text], rows: int | None = None) -> dict[str, np.ndarray]:
        """A batch of texts, padded to a bucket of lengths, and with empty rows to `rows`."""
        return self.batch_of(self.examples(texts), rows)

    def batch_of(
        self, examples: Sequence[Mapping[str, Any]], rows: int | None = None
    ) -> dict[str, np.ndarray]:
        """The same of what `examples` gives."""
        items = [self.bound.item(example) for example in examples]
        longest = max(part.size for item in items for part in item.parts)
        empty = [()] * (0 if rows is None else rows - len(items))
        lengths = {**self.lengths, self.features[0]: bucket_length(longest, self.length)}
        return self.bound.batch([*((item,) for item in items), *empty], lengths, False)

    def outputs(
        self,
        model: Model,
        params: Params,
        texts: Sequence[Text],
        names: tuple[str, ...] | None = None,
        batch_size: int = 32,
    ) -> Iterator[tuple[Outputs, list[dict[str, Any]]]]:
        """The model's outputs for each batch of texts, and these as examples."""
        for begin in range(0, len(texts), batch_size):
            examples = self.examples(texts[begin : begin + batch_size])
            found = predict_batch(model, params, self.batch_of(examples, batch_size), names)
            yield {name: x[: len(examples)] for name, x in found.items()}, examples

    def answers(
        self, model: Model, params: Params, texts: Sequence[Text], batch_size: int = 32
    ) -> list[dict[str, Any]]:
        """What a person is told of each text, ready for JSON; see `formats.Measured`.

        Raises:
          UserError: what the model predicts is nothing that a person could be told.
        """
        measured = measured_of(model)
        if measured is None:
            raise UserError(f"{type(model).__name__} has no head that labels texts.")
        found: list[dict[str, Any]] = []
        for outputs, examples in self.outputs(model, params, texts, measured.outputs, batch_size):
            found += measured.answers(outputs, examples, label_names(model))
        return found
