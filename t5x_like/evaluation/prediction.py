"""What a model's head says of texts: of the examples of a task, or of texts at hand."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np

from t5x_like.data import DatasetConfig, formats, open_evaluation
from t5x_like.data.examples import for_lengths
from t5x_like.data.formats import BoundFormat, Measured, TaskFacts
from t5x_like.data.formats.prompts import bucket_length
from t5x_like.decoding.generate import fetched
from t5x_like.errors import UserError
from t5x_like.evaluation.generation import text_of
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Mixture, Model, Objective, Params, Predicts, Task, label_names

# Between the two texts of a pair where they are given as one.
SEPARATOR = "\t"
Text = str | Sequence[str]
Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class LabelPrediction:
    """What was expected of a head for one example, and what came.

    Attributes:
      inputs: the text, or both of a pair with a tab between them.
      targets: a label or a number; None of an example without.
      predictions: the same.
      scores: the probability of the label; None of a number.
    """

    inputs: str
    targets: str | float | None
    predictions: str | float
    scores: float | None


def measured_of(model: Model) -> Measured | None:
    """What of the model's predictions is compared with what of its batches; mostly nothing."""
    return getattr(formats.find(model.batch_format), "measured", None)


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


def _names(measured: Measured) -> tuple[str, ...]:
    return (measured.output, *filter(None, [measured.probabilities]))


def answers(model: Model, measured: Measured, outputs: Outputs) -> list[dict[str, Any]]:
    """What a person is told of each row, ready for JSON.

    Returns:
      `predictions`, a label or a number; for a label `scores`, its probability, and
      `probabilities` by label.
    """
    names = label_names(model).get(measured.output)
    values = outputs[measured.output]
    if names is None:
        return [{"predictions": float(value)} for value in values]
    found: list[dict[str, Any]] = [{"predictions": names[int(value)]} for value in values]
    if measured.probabilities in outputs:
        rows = outputs[measured.probabilities]
        for answer, value, row in zip(found, values, rows, strict=True):
            answer["scores"] = float(row[int(value)])
            answer["probabilities"] = dict(zip(names, map(float, row), strict=True))
    return found


# -- The examples of a task --------------------------------------------------------------------


def predict_split(
    model: Model,
    params: Params,
    dataset: DatasetConfig,
    measured: Measured,
    *,
    partitioner: Partitioner,
    limit: int | None,
) -> tuple[list[LabelPrediction], dict[str, float]]:
    """What the model says of each example of a task's split, and the task's metrics of it.

    Args:
      model: which predicts.
      params: placed by `partitioner`.
      dataset: the split of one task, not of a mixture.
      measured: of the model's batch format.
      partitioner: the mesh.
      limit: the most examples, drawn evenly from the split; None for all.
    """
    task = cast(Task, dataset.task)
    split = open_evaluation(dataset, batch_format=model.batch_format, limit=limit)
    names = label_names(model).get(measured.output)
    predictions: list[LabelPrediction] = []
    expected: list[Any] = []
    found: list[Any] = []
    with partitioner.activate():
        for each in split:
            real = len(each.examples)
            outputs = {
                name: x[:real]
                for name, x in predict_batch(model, params, each.batch, _names(measured)).items()
            }
            targets = each.batch[measured.target][:real].tolist()
            known = each.batch[measured.weight][:real] > 0
            told = answers(model, measured, outputs)
            for example, target, is_known, answer in zip(
                each.examples, targets, known, told, strict=True
            ):
                label = target if names is None else names[target]
                predictions.append(
                    LabelPrediction(
                        inputs=_written(task, example),
                        targets=label if is_known else None,
                        predictions=answer["predictions"],
                        scores=answer.get("scores"),
                    )
                )
            expected += [
                target for target, is_known in zip(targets, known, strict=True) if is_known
            ]
            found += outputs[measured.output][known].tolist()
    values: dict[str, float] = {}
    for metric in task.metric_fns if expected else ():
        values |= {name: float(value) for name, value in metric(expected, found).items()}
    return predictions, values


def _written(task: Task, example: Mapping[str, Any]) -> str:
    """The text of an example, or its texts with a tab between them."""
    vocabulary = next(iter(task.output_features.values())).vocabulary
    suffix = "_pretokenized"
    texts = [name.removesuffix(suffix) for name in example if name.endswith(suffix)]
    in_order = sorted(texts) or list(task.output_features)
    return SEPARATOR.join(text_of(example, name, vocabulary) for name in in_order)


# -- Texts at hand -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TextReader:
    """Makes batches of texts as a task that labels them does.

    Attributes:
      features: the texts that a row is made of: one, or two.
      vocabulary: of them.
      objective: makes the row.
      bound: lays rows out.
      length: of the longest row.
    """

    features: tuple[str, ...]
    vocabulary: Any
    objective: Objective
    bound: BoundFormat
    length: int

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
        bound = formats.bound(model.batch_format, facts)
        vocabulary = first.output_features[features[0]].vocabulary
        return cls(features, vocabulary, objective, bound, bound.capacities(lengths)[0])

    def tokens(self, text: Text) -> list[np.ndarray]:
        """The ids of each part.

        Args:
          text: one; of a task of pairs two, or one with a tab between them.

        Raises:
          UserError: another number of parts.
        """
        parts = [text] if isinstance(text, str) else list(text)
        if len(self.features) == 2 and len(parts) == 1:
            parts = parts[0].split(SEPARATOR)
        if len(parts) != len(self.features):
            wanted = "a text" if len(self.features) == 1 else "a pair of texts, a tab between them"
            raise UserError(
                f"found {len(parts)} {'text' if len(parts) == 1 else 'texts'} where the task "
                f"reads {wanted}."
            )
        return [np.asarray(self.vocabulary.encode(part), np.int32) for part in parts]

    def excess(self, text: Text) -> int:
        """How many tokens of a text a row has no room for."""
        return max(0, sum(ids.size for ids in self.tokens(text)) - cast(Any, self.objective).room)

    def batch(self, texts: Sequence[Text], rows: int | None = None) -> dict[str, np.ndarray]:
        """A batch of texts, padded to a bucket of lengths, and with empty rows to `rows`."""
        rng = np.random.default_rng(0)
        items = []
        for text in texts:
            example = dict(zip(self.features, self.tokens(text), strict=True))
            items.append(self.bound.item(self.objective(example, rng)))
        longest = max(item.parts[0].size for item in items)
        empty = [()] * (0 if rows is None else rows - len(items))
        lengths = {self.features[0]: bucket_length(longest, self.length)}
        return self.bound.batch([*((item,) for item in items), *empty], lengths, False)

    def outputs(
        self,
        model: Model,
        params: Params,
        texts: Sequence[Text],
        names: tuple[str, ...] | None = None,
        batch_size: int = 32,
    ) -> Iterator[tuple[Outputs, np.ndarray]]:
        """The model's outputs for each batch of texts, and how many tokens each of these has."""
        for begin in range(0, len(texts), batch_size):
            own = texts[begin : begin + batch_size]
            batch = self.batch(own, batch_size)
            found = predict_batch(model, params, batch, names)
            lengths = (batch["encoder_segment_ids"] != 0).sum(axis=1)
            yield {name: x[: len(own)] for name, x in found.items()}, lengths[: len(own)]

    def answers(
        self, model: Model, params: Params, texts: Sequence[Text], batch_size: int = 32
    ) -> list[dict[str, Any]]:
        """`answers` for each text.

        Raises:
          UserError: what the model predicts is nothing that a person could be told.
        """
        measured = measured_of(model)
        if measured is None:
            raise UserError(f"{type(model).__name__} has no head that labels texts.")
        found: list[dict[str, Any]] = []
        for outputs, _ in self.outputs(model, params, texts, _names(measured), batch_size):
            found += answers(model, measured, outputs)
        return found
