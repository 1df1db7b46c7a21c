"""What a model generates for the examples of a task, and the task's metrics of it."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np

from t5x_like.data import DatasetConfig, open_evaluation
from t5x_like.decoding import Generation, Strategy, TextCodec, generate
from t5x_like.host.progress import ProgressBar
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Decodes, Params, Task


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What was expected of the model for one example, and what came, as text."""

    inputs: str
    targets: str
    predictions: str
    scores: float


def predict_text(
    model: Decodes,
    params: Params,
    dataset: DatasetConfig,
    *,
    partitioner: Partitioner,
    strategy: Strategy,
    max_new_tokens: int | None,
    limit: int | None,
    seed: int,
) -> tuple[list[Mapping[str, Any]], list[Prediction]]:
    """The examples of a task's split, and what the model answers to each.

    Every process decodes all rows, as one program over the whole mesh.

    Args:
      model: which decodes.
      params: placed by `partitioner`.
      dataset: the split of one task, not of a mixture.
      partitioner: the mesh.
      strategy: how tokens are chosen.
      max_new_tokens: longest prediction; None for the length of `targets`.
      limit: the most examples, drawn evenly from the split; None for all.
      seed: for strategies that draw.

    Raises:
      UserError: the model does not write text.
    """
    task = cast(Task, dataset.task)
    codec = TextCodec.for_task(task, model, dataset.task_feature_lengths)
    if max_new_tokens is None:
        max_new_tokens = dataset.task_feature_lengths["targets"]
    split = open_evaluation(dataset, batch_format=model.batch_format, limit=limit)
    examples: list[Mapping[str, Any]] = [example for each in split for example in each.examples]
    bar = ProgressBar(
        len(examples),
        label=f"{task.name} {dataset.split}",
        stream=sys.stderr,
        shown=jax.process_index() == 0,
    )
    with bar, partitioner.activate():
        generations = generate(
            model,
            params,
            [example["inputs"].tolist() for example in examples],
            max_new_tokens=max_new_tokens,
            strategy=strategy,
            eos_id=codec.end_ids,
            bos_id=codec.start_id,
            bidirectional_prompt=codec.bidirectional_prompt,
            batch_size=dataset.batch_size,
            seed=seed,
            progress=bar.add,
        )
    predictions = [
        _prediction(codec, example, generation)
        for example, generation in zip(examples, generations, strict=True)
    ]
    return examples, predictions


def _prediction(codec: TextCodec, example: Mapping[str, Any], generation: Generation) -> Prediction:
    assert codec.inputs is not None  # only text-to-text tasks are predicted
    return Prediction(
        inputs=text_of(example, "inputs", codec.inputs.vocabulary),
        targets=text_of(example, "targets", codec.targets.vocabulary),
        predictions=codec.decode(generation.tokens),
        scores=generation.score,
    )


def text_of(example: Mapping[str, Any], feature: str, vocabulary: Any) -> str:
    """The text before tokenizing where the cache kept it; else what the ids say."""
    text = example.get(f"{feature}_pretokenized")
    if text is None:
        return vocabulary.decode(example[feature].tolist())
    if isinstance(text, np.ndarray):
        text = text.item()
    return text.decode("utf-8") if isinstance(text, bytes) else str(text)


def task_metrics(
    task: Task, examples: Sequence[Mapping[str, Any]], predictions: Sequence[Prediction]
) -> dict[str, float]:
    """The task's own metrics of text that was generated.

    Args:
      task: with `metric_fns` and `postprocess`.
      examples: as the task's cache holds them.
      predictions: one an example.
    """
    found = [
        task.postprocess(prediction.predictions, example, False)
        for prediction, example in zip(predictions, examples, strict=True)
    ]
    expected = [
        task.postprocess(prediction.targets, example, True)
        for prediction, example in zip(predictions, examples, strict=True)
    ]
    values: dict[str, float] = {}
    for metric in task.metric_fns:
        for name, value in metric(expected, found).items():
            values[name] = float(value)
    return values
