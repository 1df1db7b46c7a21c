"""What a model generates for the examples of a task, and the task's metrics of it."""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

import jax
import numpy as np

from t5x_like.data import formats, open_evaluation
from t5x_like.data.formats import Measured
from t5x_like.data.records import open_records
from t5x_like.decoding import (
    GenerationConfig,
    Greedy,
    Strategy,
    TextGeneration,
    answer_prompts,
)
from t5x_like.decoding.generation_config import Choice
from t5x_like.decoding.options import Contexts, Reading
from t5x_like.errors import UserError
from t5x_like.evaluation.measurement import ROWS, SPLIT_ROWS, Finding, Subject
from t5x_like.evaluation.prompts.shots import INPUTS, TARGETS, Shots, few_shot
from t5x_like.evaluation.prompts.split_text import codec_of_split
from t5x_like.evaluation.prompts.text_prompts import text_prompts
from t5x_like.protocols import Decodes, Feature, Model, Task

# In records and in lines of answers: how text was generated, and of which prompts.
DECODING, PROMPTS = "decoding", "prompts"


@dataclasses.dataclass(frozen=True)
class TextPrediction:
    """What was expected of the model for one example, and what came, as text.

    Attributes:
      inputs: what it read.
      targets: what was expected.
      predictions: what came.
      scores: its log-probability, which a beam search divides by its length penalty.
    """

    inputs: str
    targets: str
    predictions: str
    scores: float


@dataclasses.dataclass(frozen=True)
class ChosenPrediction(TextPrediction):
    """The same where the text is one of several.

    Attributes:
      samples: all of them, in the order in which they were drawn.
      sample_scores: the score of each.
      votes: how many of them have the answer that was chosen by votes; else None.
    """

    samples: Sequence[str]
    sample_scores: Sequence[float]
    votes: int | None


@dataclasses.dataclass(frozen=True)
class Generation:
    """The task's metrics of text that the model generates from each example's inputs.

    Of tasks with inputs and metrics, and models without a head that is measured.

    Attributes:
      strategy: how tokens are chosen.
      max_new_tokens: longest prediction; None for the length of `targets`.
      seed: for strategies that draw.
      min_new_tokens: see `GenerationConfig`, as all that follow.
      repetition_penalty: see there.
      stop_strings: see there.
      eos_ids: see there.
      samples: see there.
      choice: see there; an answer is what the task's postprocessor finds in a text.
      contexts: "inputs": prompts are a task's inputs, as in training. "text": a decoder continues
        them as it does any text, in one direction, as the papers on language models do; the
        task's stop strings end what is written where `stop_strings` has none, and white space
        around it does not count. See `Reading`.
      shots: examples before each prompt.
    """

    strategy: Strategy = Greedy()  # noqa: RUF009 (frozen)
    max_new_tokens: int | None = None
    seed: int = 0
    min_new_tokens: int = 0
    repetition_penalty: float = 1.0
    stop_strings: Sequence[str] = ()
    eos_ids: Sequence[int] = ()
    samples: int = 1
    choice: Choice = "vote"
    contexts: Contexts = "inputs"
    shots: Shots = Shots()  # noqa: RUF009 (frozen)

    name: ClassVar[str] = "generation"

    def __post_init__(self) -> None:
        # Refused before anything is read; the lengths of a task are not known yet.
        self._config(max(1, self.min_new_tokens))
        Reading(self.contexts)

    def measure(self, subject: Subject) -> Finding | None:
        """See `Measurement`; every process decodes all rows, as one program over the mesh."""
        model, dataset = subject.model, subject.dataset
        task = cast(Task, dataset.task)
        if not measured_by_metrics(task) or _has_head(model):
            return None
        model = cast(Decodes, model)
        codec = codec_of_split(dataset, model)
        reading = Reading(self.contexts).of_model(model)
        form = few_shot(task)
        as_text = reading.contexts == "text"
        stop = form.stop if form is not None and as_text else ()
        kept = str.strip if as_text else str
        config = self._config(dataset.task_feature_lengths["targets"], stop)
        examples: list[Mapping[str, Any]]
        shown: dict[str, float] = {}
        if not self.shots.count and not as_text:
            split = open_evaluation(dataset, batch_format=model.batch_format, limit=subject.limit)
            batches = list(split)
            examples = [one for each in batches for one in each.examples]
            numbers = [number for each in batches for number in each.indices]
            inputs = cast(Feature, codec.inputs).vocabulary
            texts = [text_of(example, "inputs", inputs) for example in examples]
            tokens = [example["inputs"].tolist() for example in examples]
            of_all = split.num_examples
        else:  # of their text, which no length of the task trims
            records = open_records(dataset, (INPUTS, TARGETS), subject.limit)
            if records is None:
                raise UserError(
                    f"task {task.name!r}: its cache has no text, of which prompts are made: give "
                    "evaluation.Generation.contexts='inputs' and SHOTS=0."
                )
            examples, numbers, of_all = list(records), records.numbers, records.num_examples
            asked = text_prompts(
                model, codec, dataset, examples, numbers, reading, self.shots, config.max_new_tokens
            )
            codec, texts, tokens = asked.codec, asked.texts, asked.tokens
            if self.shots.count:
                shown = {"shots": asked.shots.mean}
                if jax.process_index() == 0:
                    asked.shots.tell()
            if asked.cut.cut and jax.process_index() == 0:
                print(f"{subject.label}: {asked.cut}", file=sys.stderr, flush=True)
        for example in examples[:1]:  # before anything is generated
            check_metrics(task, text_of(example, "targets", codec.targets.vocabulary), example)
        bar = subject.bar(len(examples) * config.samples)
        with bar, subject.partitioner.activate():
            try:
                answers = answer_prompts(
                    model,
                    subject.params,
                    codec,
                    tokens,
                    config=config,
                    batch_size=dataset.batch_size,
                    progress=bar.add,
                    answer_of=lambda number, text: task.postprocess(
                        kept(text), examples[number], False
                    ),
                    journal=subject.journal,
                )
            except UserError as error:
                raise UserError(f"task {task.name!r}, split {dataset.split}: {error}") from error
        unfinished = sum(not answer.finished for answer in answers)
        if unfinished and jax.process_index() == 0:
            said = f"{unfinished:,} of {len(answers):,} answers do not end within"
            length = f"max_new_tokens={config.max_new_tokens}, and count as they are"
            print(f"{subject.label}: {said} {length}.", file=sys.stderr, flush=True)
        predictions = [
            _prediction(text, text_of(example, "targets", codec.targets.vocabulary), answer, kept)
            for text, example, answer in zip(texts, examples, answers, strict=True)
        ]

        def part(places: Sequence[int]) -> dict[str, float]:
            mine = [examples[i] for i in places], [predictions[i] for i in places]
            return task_metrics(task, *mine)

        values = part(range(len(examples))) | shown
        values |= {ROWS: len(examples), SPLIT_ROWS: of_all}
        told = f"{self.shots.told(form)}, {reading.told(model, codec)}"
        settings = {DECODING: str(config), PROMPTS: told}
        return Finding(values, predictions, settings, numbers, part, self.shots.file_part)

    def _config(self, longest: int, stop: Sequence[str] = ()) -> GenerationConfig:
        """How text is generated, where nothing else is said no longer and up to these strings."""
        own = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("max_new_tokens", "contexts", "shots", "stop_strings")
        }
        most = longest if self.max_new_tokens is None else self.max_new_tokens
        return GenerationConfig(max_new_tokens=most, stop_strings=self.stop_strings or stop, **own)


def measured_by_metrics(task: Task) -> bool:
    """Whether a task has metrics of what is answered to its inputs."""
    return bool(task.metric_fns) and "inputs" in task.output_features


def measured_of(model: Model) -> Measured | None:
    """What of a model's predictions is compared with what of its batches; mostly nothing."""
    return getattr(formats.find(model.batch_format), "measured", None)


def _has_head(model: Model) -> bool:
    """Whether what is measured of a model is what its head says, and not text."""
    batch_format = formats.find(model.batch_format)
    return any(getattr(batch_format, name, None) for name in ("measured", "extracted"))


def _prediction(
    inputs: str, targets: str, answer: TextGeneration, kept: Callable[[str], str]
) -> TextPrediction:
    found = TextPrediction(inputs, targets, kept(answer.text), answer.score)
    if not answer.samples:
        return found
    texts, scores = zip(*((kept(one.text), one.score) for one in answer.samples), strict=True)
    return ChosenPrediction(
        **dataclasses.asdict(found), samples=texts, sample_scores=scores, votes=answer.votes
    )


def text_of(example: Mapping[str, Any], feature: str, vocabulary: Any) -> str:
    """The text before tokenizing where the cache kept it; else what the ids say."""
    text = example.get(f"{feature}_pretokenized")
    if text is None:
        return vocabulary.decode(example[feature].tolist())
    if isinstance(text, np.ndarray):
        text = text.item()
    return text.decode("utf-8") if isinstance(text, bytes) else str(text)


def check_metrics(task: Task, text: str, example: Mapping[str, Any]) -> None:
    """Checks that a task's metrics take what its postprocessor makes of a text.

    Args:
      task: with `metric_fns` and `postprocess`.
      text: a target of it, which is measured as though it were generated too.
      example: the target's.

    Raises:
      UserError: a metric refuses it.
    """
    try:
        task_metrics(task, [example], [TextPrediction("", text, text, 0.0)])
    except Exception as error:  # such as of a metric that is not defined of one example
        if getattr(error, "exit_code", None) == 2:
            raise UserError(f"task {task.name!r}: {error}") from error


def task_metrics(
    task: Task, examples: Sequence[Mapping[str, Any]], predictions: Sequence[TextPrediction]
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
    return metrics_of(task, expected, found)


def metrics_of(task: Task, expected: Sequence[Any], found: Sequence[Any]) -> dict[str, float]:
    """The values of a task's metrics.

    Raises:
      UserError: a metric reads more than what was expected and what was found.
    """
    values: dict[str, float] = {}
    for metric in task.metric_fns:
        if "aux_values" in inspect.signature(metric).parameters:
            raise UserError(
                f"metrics.{metric.__name__} is of what a head for spans says (heads.Spans), and "
                "of no text: METRICS must not have it."
            )
        values |= {name: float(value) for name, value in metric(expected, found).items()}
    return values
