"""How `infer` answers prompts: with text that a model writes, or with what its head says."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from t5x_like.data.formats import MeasuredWords
from t5x_like.data.formats.prompts import Tokens
from t5x_like.decoding import (
    GenerationConfig,
    TextCodec,
    TextGeneration,
    answer_prompts,
    prepare,
    prompts_of,
)
from t5x_like.decoding.generate import room_after, too_long
from t5x_like.decoding.prompt_files import Prompt, PromptFile
from t5x_like.errors import UserError
from t5x_like.evaluation.extraction import SpanReader
from t5x_like.evaluation.generation import DECODING, measured_of
from t5x_like.evaluation.prediction import TextReader
from t5x_like.evaluation.spans import rule_text
from t5x_like.protocols import Decodes, Mixture, Model, Params, Task

WORDS = "words"
PREDICTIONS = "predictions"
SCORES = "scores"
SAMPLES, SAMPLE_SCORES, VOTES = "samples", "sample_scores", "votes"
SAMPLE_RATINGS = "sample_ratings"
PROBABILITIES = "probabilities"
SPAN = "span"
N_BEST = "n_best"
NULL_SCORE_DIFFERENCE = "null_score_difference"


class Answerer(Protocol):
    """Answers prompts of a file.

    Attributes:
      settings: how text is generated or spans are chosen, which answers of one file agree in; None
        where nothing is to choose.
      adds: names of what `__call__` adds to lines.
    """

    settings: str | None
    adds: frozenset[str]

    def check(self, prompt: Prompt) -> None:
        """Looks at a prompt before any is answered.

        Raises:
          UserError: it cannot be; the message names the line.
        """

    def say(self) -> None:
        """Warns of what `check` noticed."""

    def prepare(self, params: Params) -> None:
        """Takes the parameters, placed on the mesh."""

    def __call__(
        self, texts: Sequence[str], first_row: int, progress: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        """What is added to the line of each prompt.

        Args:
          texts: the prompts.
          first_row: how many were answered before them.
          progress: called with the number of prompts done.
        """


class _OfHead:
    """What a head gives, of texts that a reader lays out."""

    settings: str | None = None
    adds: frozenset[str]

    def __init__(
        self, model: Model, reader: TextReader | SpanReader, prompts: PromptFile, batch_size: int
    ) -> None:
        self._model, self._reader, self._prompts = model, reader, prompts
        self._batch_size = batch_size
        self._params: Params = None
        self._json = _JsonLines(prompts)
        self._seen = self._cut = 0

    def check(self, prompt: Prompt) -> None:
        """See `Answerer`."""
        try:
            excess = self._reader.excess(prompt.text)
        except UserError as error:
            raise UserError(f"{self._prompts.name}, line {prompt.line}: {error}") from error
        self._seen += 1
        self._cut += excess > 0
        self._json.see(prompt.text)

    def say(self) -> None:
        """Warns of texts that are cut, or are JSON."""
        self._json.say()
        if self._cut:
            warn(f"{self._cut:,} of {self._seen:,} {self._reader.what_is_lost}")

    def prepare(self, params: Params) -> None:
        """See `Answerer`."""
        self._params = params


class Labels(_OfHead):
    """Labels, numbers, tags or choices, which a head gives."""

    _reader: TextReader

    def __init__(
        self,
        model: Model,
        task: Task | Mixture,
        task_feature_lengths: Mapping[str, int],
        prompts: PromptFile,
        batch_size: int,
    ) -> None:
        reader = TextReader.for_task(task, model, task_feature_lengths)
        if reader is None:
            raise UserError(
                f"task '{task.name}' labels no texts, as {type(model).__name__} with this head "
                "does: choose a task with labels, such as tasks/classification_tsv.gin."
            )
        super().__init__(model, reader, prompts, batch_size)
        words = isinstance(measured_of(model), MeasuredWords)
        self.adds = frozenset((PREDICTIONS, SCORES, WORDS if words else PROBABILITIES))

    def __call__(
        self, texts: Sequence[str], first_row: int, progress: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        """See `Answerer`."""
        found = self._reader.answers(self._model, self._params, texts, self._batch_size)
        progress(len(texts))
        return found


class Spans(_OfHead):
    """Answers in texts, which a head marks."""

    _reader: SpanReader
    adds = frozenset((PREDICTIONS, SCORES, SPAN, NULL_SCORE_DIFFERENCE, N_BEST, DECODING))

    def __init__(
        self,
        model: Model,
        task: Task | Mixture,
        task_feature_lengths: Mapping[str, int],
        prompts: PromptFile,
        batch_size: int,
    ) -> None:
        reader = SpanReader.for_task(task, model, task_feature_lengths)
        super().__init__(model, reader, prompts, batch_size)
        self.settings = rule_text(model)

    def __call__(
        self, texts: Sequence[str], first_row: int, progress: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        """See `Answerer`."""
        answers = self._reader.answers(self._model, self._params, texts, self._batch_size)
        progress(len(texts))
        return [
            {
                PREDICTIONS: one.text,
                SCORES: one.probability,
                SPAN: one.span,
                NULL_SCORE_DIFFERENCE: one.null_score_difference,
                N_BEST: one.n_best,
                DECODING: self.settings,
            }
            for one in answers
        ]


class GeneratedText:
    """Text that is generated."""

    def __init__(
        self,
        model: Decodes,
        task: Task | Mixture,
        task_feature_lengths: Mapping[str, int],
        prompts: PromptFile,
        *,
        config: GenerationConfig,
        batch_size: int,
    ) -> None:
        prompts_of(model)  # refuses a model that writes no text
        self._model, self._prompts = model, prompts
        self._codec = TextCodec.for_task(task, model, task_feature_lengths)
        self._config, self._batch_size = config, batch_size
        self.settings: str | None = str(config)
        self.adds = frozenset((PREDICTIONS, SCORES, DECODING))
        if config.samples > 1:
            self.adds |= {SAMPLES, SAMPLE_SCORES, SAMPLE_RATINGS, VOTES}
        votes = config.samples > 1 and config.choice == "vote"
        self._postprocess = _postprocessing(task) if votes else None
        self._params: Params = None
        self._decoding_params: Any = None
        self._begin = prompts.form.inputs_begin.strip() if prompts.form else ""
        self._json = _JsonLines(prompts)
        self._seen = self._begun = self._cut = 0
        self._first_cut = ""

    def check(self, prompt: Prompt) -> None:
        """See `Answerer`."""
        codec, where = self._codec, f"{self._prompts.name}, line {prompt.line}"
        length = codec.prompt_length(prompt.text)
        if codec.input_length is not None and length > codec.input_length:
            self._first_cut = self._first_cut or f"line {prompt.line} with {length:,} tokens"
            self._cut += 1
            length = codec.input_length
        room = room_after(self._model, length, codec.start_id)
        if room < 1:
            raise UserError(f"{where}: {too_long(self._model, room)}")
        self._seen += 1
        self._begun += prompt.text.lstrip().startswith(self._begin)
        self._json.see(prompt.text)

    def say(self) -> None:
        """Warns of prompts that are cut, are JSON, or are not written as in training."""
        if self._cut:
            warn(
                f"{self._cut:,} of {self._seen:,} prompts lose their {self._codec.lost_part}: they "
                f"are longer than the {self._codec.input_length:,} tokens of "
                f"TASK_FEATURE_LENGTHS['inputs'], the first of them {self._first_cut}."
            )
        form = self._prompts.form
        if not self._json.say() and form is not None and self._seen and not self._begun:
            columns = ", ".join(form.input_columns)
            warn(
                f"no prompt begins with '{self._begin}', as the task's inputs do: write them so, "
                f"or give JSON lines with the columns {columns}, of which the task makes them."
            )

    def prepare(self, params: Params) -> None:
        """See `Answerer`."""
        self._params = params
        self._decoding_params = prepare(self._model, params)

    def __call__(
        self, texts: Sequence[str], first_row: int, progress: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        """See `Answerer`."""
        found = self._written(
            [self._codec.encode(text) for text in texts],
            self._config,
            first_row=first_row,
            progress=_of_prompts(progress, self._config.samples),
        )
        return [self._told(one) for one in found]

    def _written(
        self, prompts: Sequence[Tokens], config: GenerationConfig, **arguments: Any
    ) -> list[TextGeneration]:
        """What the model writes after each prompt; see `answer_prompts`."""
        return answer_prompts(
            self._model,
            self._params,
            self._codec,
            prompts,
            config=config,
            batch_size=self._batch_size,
            decoding_params=self._decoding_params,
            answer_of=self._answer_of,
            **arguments,
        )

    def _answer_of(self, number: int, text: str) -> Any:
        """What a sample votes for."""
        return text if self._postprocess is None else self._postprocess(text, {}, False)

    def _told(self, one: TextGeneration) -> dict[str, Any]:
        told = {PREDICTIONS: one.text, SCORES: one.score}
        if one.samples:
            told[SAMPLES] = [each.text for each in one.samples]
            told[SAMPLE_SCORES] = [each.score for each in one.samples]
            if one.samples[0].ratings is not None:
                told[SAMPLE_RATINGS] = [each.ratings for each in one.samples]
        if one.votes is not None:
            told[VOTES] = one.votes
        return {**told, DECODING: self.settings}


def _of_prompts(progress: Callable[[int], None], samples: int) -> Callable[[int], None]:
    """Counts prompts where texts are told, so many of each."""
    texts = 0

    def told(count: int) -> None:
        nonlocal texts
        before, texts = texts, texts + count
        progress(texts // samples - before // samples)

    return told


def _postprocessing(task: Task | Mixture) -> Callable[[str, Mapping[str, Any], bool], Any]:
    """What finds the answer in a text.

    Raises:
      UserError: there is more than one way.
    """
    if len(task.tasks) > 1:
        raise UserError(
            f"choice is 'vote', but '{task.name}' is a mixture, whose tasks find answers in texts "
            "in their own ways: give one of them as MIXTURE_OR_TASK_NAME, or 'likelihood'."
        )
    return task.tasks[0][0].postprocess


class _JsonLines:
    """Notices an input of JSON objects that is read as text."""

    def __init__(self, prompts: PromptFile) -> None:
        self._prompts = prompts
        self._texts = self._objects = 0

    def see(self, text: str) -> None:
        """Looks at a prompt; empty ones say nothing."""
        if self._prompts.input_format == "text" and text.strip():
            self._texts += 1
            self._objects += _is_object(text)

    def say(self) -> bool:
        """Warns where all of them are objects, and whether that is so."""
        found = 0 < self._texts == self._objects
        if found:
            warn(
                f"every line of {self._prompts.name} is a JSON object, and is read as text: give "
                "infer.input_format='jsonl', or name the file .jsonl, if it holds prompts."
            )
        return found


def _is_object(text: str) -> bool:
    try:
        return text.lstrip().startswith("{") and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def warn(text: str) -> None:
    """Prints a warning to standard error."""
    print(f"warning: {text}", file=sys.stderr, flush=True)
