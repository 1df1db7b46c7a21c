"""Inference: prompts from a file or standard input, JSON lines out, resumed where it stopped.

A model that writes text answers with text, one with a head that labels with a label or a number,
one with a head that marks spans with a part of the text.
"""

import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import jax

from t5x_like import checkpoints
from t5x_like.checkpoints.base import fingerprint
from t5x_like.decoding import GenerationConfig, Greedy, Strategy
from t5x_like.decoding.generation_config import Choice, longest_answer
from t5x_like.decoding.prompt_files import (
    STANDARD,
    AnswerFile,
    InputFormat,
    Prompt,
    PromptFile,
    Record,
)
from t5x_like.distributed.startup import gather_json
from t5x_like.errors import UserError
from t5x_like.evaluation.answering import WORDS, Answerer, GeneratedText, Labels, Spans
from t5x_like.evaluation.extraction import extracted_by
from t5x_like.evaluation.generation import DECODING, measured_of
from t5x_like.evaluation.one_task import for_task
from t5x_like.host import command, compilation_cache
from t5x_like.host.disk_space import DiskFull
from t5x_like.host.progress import ProgressBar
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Decodes, InputsForm, Mixture, Model, Task
from t5x_like.tools.research import Research
from t5x_like.tools.researched_text import ResearchedText

BATCH_FORMAT = "batch_format"
STEP, CHECKPOINT = "checkpoint_step", "checkpoint"
# Batches decoded together: enough that prompts of like length meet, few enough that what is
# lost with a killed process is little.
BATCHES_AT_A_TIME = 8


def infer(
    *,
    model: Model,
    model_dir: str,
    task: Task | Mixture,
    task_feature_lengths: dict[str, int],
    partitioner: Partitioner | None = None,
    step: int | None = None,
    input_path: str = STANDARD,
    output_path: str = STANDARD,
    input_format: InputFormat | None = None,
    field: str = "inputs",
    strategy: Strategy = Greedy(),  # noqa: B008 (frozen)
    max_new_tokens: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    min_new_tokens: int = 0,
    repetition_penalty: float = 1.0,
    stop_strings: Sequence[str] = (),
    eos_ids: Sequence[int] = (),
    samples: int = 1,
    choice: Choice = "likelihood",
    research: Research | None = None,
) -> int:
    """Answers every prompt of a file, in order: with generated text, a label, a number or a span.

    Each line of the output is the prompt's own JSON object (of a text line,
    `{"inputs": line}`) with `predictions`, `scores`, `batch_format` and `checkpoint_step` added,
    where labels are predicted `probabilities`, by label, and where text is generated `decoding`,
    the strategy, the longest answer, what else is unusual and the seed of a strategy that draws;
    where one of several samples was chosen, `samples`, `sample_scores` and `votes`, or
    `sample_ratings`, what the model says of each; where answers are marked in a text `span`, its
    characters, `null_score_difference`, `n_best`, and in `decoding` how they are chosen. The texts
    of a pair, or a question and its text, have a tab between them, or are the columns of a JSON
    line. The score of a text is that of `decoding.Generation`: its log-probability, which a beam
    search divides by its length penalty.
    If the output exists, the prompts that its whole lines answer are not done again, and a last
    line that was cut is redone; what is drawn at random does not depend on where a run was
    interrupted. Of several processes the first alone reads and writes files, and tells the others
    the prompts.

    Args:
      model: of the run.
      model_dir: the run, or one checkpoint directory below it.
      task: whose vocabularies the prompts are written in.
      task_feature_lengths: prompts are trimmed to `inputs`, which is said.
      partitioner: the mesh; data parallel over all devices when None.
      step: the checkpoint; None for the newest.
      input_path: a text file (a prompt a line) or JSON lines; `-` is standard input.
      output_path: JSON lines; `-` is standard output, which cannot be resumed.
      input_format: "text" or "jsonl"; None: by the name, `.jsonl` or `.json`, else text.
      field: where a JSON line holds its prompt; of a line without it the task's form makes one,
        of the columns that its inputs are made of.
      strategy: how tokens are chosen.
      max_new_tokens: longest answer; None for the length of `targets`.
      batch_size: prompts decoded together.
      seed: for strategies that draw.
      min_new_tokens: see `GenerationConfig`, as all that follow.
      repetition_penalty: see there.
      stop_strings: see there.
      eos_ids: see there.
      samples: see there.
      choice: see there; an answer is what the task's postprocessor finds in a text.
      research: lets the model look up what it has drafted; `draft` and `queries`, with what the
        model was shown of each, are then in the lines too.

    Returns:
      How many prompts were done, those of earlier runs not counted.

    Raises:
      UserError: a file that cannot be read or resumed, a line that is not UTF-8 or not JSON,
        a prompt that is missing, not text or too long, a column of the name of one that is added,
        no such checkpoint.
    """
    for name, value in (("MAX_NEW_TOKENS", max_new_tokens), ("infer.batch_size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}: it must be at least 1.")
    if input_format is None:
        is_json = input_path.endswith((".jsonl", ".json"))
        input_format = "jsonl" if is_json else "text"
    if input_format not in ("text", "jsonl"):
        raise UserError(f"input_format is {input_format!r}: give 'text' or 'jsonl'.")
    prompts = PromptFile(input_path, input_format, field, _form(task))
    answers = AnswerFile(output_path)
    answerer: Answerer
    asked = for_task(model, task)
    if extracted_by(asked) is not None:
        answerer = Spans(asked, task, task_feature_lengths, prompts, batch_size)
    elif measured_of(asked) is not None:
        answerer = Labels(asked, task, task_feature_lengths, prompts, batch_size)
    else:
        config = GenerationConfig(
            longest_answer(task_feature_lengths, max_new_tokens),
            strategy,
            min_new_tokens,
            repetition_penalty,
            stop_strings,
            eos_ids,
            samples,
            choice,
            seed,
        )
        writer = cast(Decodes, asked)
        settings: dict[str, Any] = {"config": config, "batch_size": batch_size}
        if research is None:
            answerer = GeneratedText(writer, task, task_feature_lengths, prompts, **settings)
        else:
            answerer = ResearchedText(
                writer,
                task,
                task_feature_lengths,
                prompts,
                research=research,
                once=_of_first,
                **settings,
            )
    total, done = _of_first(lambda: _begun(prompts, answers, answerer))
    compilation_cache.enable()
    partitioner = partitioner or Partitioner()
    of_parameters = fingerprint(checkpoints.load_metadata(model_dir, step))
    params, step = checkpoints.load_params(model_dir, model, partitioner, step)
    made = {STEP: step, CHECKPOINT: of_parameters}

    primary = _is_first()
    left = _apart(prompts, answerer)  # the first process's alone is read
    _of_first(lambda: _skip_answered(left, answers, done, prompts, made, answerer))
    _of_first(answers.open)
    # Whoever types wants an answer to each line.
    interactive = input_path == STANDARD and sys.stdin.isatty()
    at_a_time = 1 if interactive else batch_size * BATCHES_AT_A_TIME
    # Results on the same terminal show the progress themselves.
    visible = output_path == STANDARD and sys.stdout.isatty()
    bar = ProgressBar(
        total,
        done=done,
        label="prompts",
        stream=sys.stderr,
        shown=primary and not interactive and not visible,
    )

    def chunk() -> list[tuple[Record, str]]:
        taken = list(itertools.islice(left, at_a_time))
        if total is None:
            for prompt in taken:
                answerer.check(prompt)
        return [(prompt.record, prompt.text) for prompt in taken]

    first = done
    with bar, partitioner.activate():
        answerer.prepare(params)
        try:
            while records := _of_first(chunk):
                found = answerer([text for _, text in records], first, bar.add)
                lines = [
                    {**record, **answer, BATCH_FORMAT: asked.batch_format, **made}
                    for (record, _), answer in zip(records, found, strict=True)
                ]
                _of_first(functools.partial(answers.append, lines))
                first += len(lines)
        finally:
            answers.close()
    if primary and total is None:
        answerer.say()
    return first - done


def read_records(
    lines: Iterable[bytes], name: str, input_format: InputFormat, field: str
) -> Iterator[Record]:
    """One object a prompt; see `PromptFile.of`.

    Args:
      lines: as a binary file gives them.
      name: of the file, for errors.
      input_format: what a line is.
      field: where a JSON line holds its prompt.

    Raises:
      UserError: names the line, and what is wrong with it.
    """
    return (prompt.record for prompt in PromptFile(name, input_format, field).of(lines))


def _of_first(make: Callable[[], Any]) -> Any:
    """What the first process makes, in all of them, and its error in place of that; a collective.

    Processes need not share a file system or standard input.
    """
    found: dict[str, Any] = {}
    failure = None
    if _is_first():
        try:
            found = {"value": make()}
        except (UserError, DiskFull) as error:
            failure, found = error, {"error": str(error)}
    found = gather_json(found)[0]
    if failure is not None:
        raise failure
    if "error" in found:
        raise UserError(found["error"])
    return found["value"]


def _is_first() -> bool:
    return jax.process_index() == 0


def _form(task: Task | Mixture) -> InputsForm | None:
    """How the inputs of a task are written; None of a mixture's, which differ."""
    if len(task.tasks) > 1:
        return None
    return getattr(task.tasks[0][0], "inputs_form", None)


def _begun(prompts: PromptFile, answers: AnswerFile, answerer: Answerer) -> tuple[int | None, int]:
    """How many prompts there are, unknown of standard input, and how many have an answer.

    Raises:
      UserError: a fault in any prompt, which should show now and not after hours.
    """
    total = None
    if prompts.path != STANDARD:
        total = 0
        for prompt in _apart(prompts, answerer):
            answerer.check(prompt)
            total += 1
    done = answers.written()
    if total is not None:
        _check_count(total, prompts, answers, done)
        answerer.say()
    return total, done


def _skip_answered(
    left: Iterator[Prompt],
    answers: AnswerFile,
    done: int,
    prompts: PromptFile,
    made: Mapping[str, Any],
    answerer: Answerer,
) -> None:
    """Moves `left` past the prompts that have an answer, each compared with its line.

    Raises:
      UserError: a line answers another prompt, or one of this input from another checkpoint or
        with other settings; it does not say with which.
    """
    wrong = other = None
    for number, line in enumerate(itertools.islice(answers.records(), done), start=1):
        prompt = next(left, None)
        if prompt is None:
            _check_count(number - 1, prompts, answers, done)
            return
        if wrong is None and not _answers(line, prompt.record, answerer):
            wrong = number
        if other is None and (how := _other_way(line or {}, made, answerer.settings)):
            other = f"line {number} of '{answers.path}' {how} another output_path."
    if wrong is not None:
        raise UserError(
            f"line {wrong} of '{answers.path}' is not the answer to prompt {wrong} of "
            f"'{prompts.path}': it was made from another input; give another output_path or "
            "delete it."
        )
    if other is not None:
        raise UserError(other)


def _other_way(
    line: Mapping[str, Any], made: Mapping[str, Any], settings: str | None
) -> str | None:
    """How an answer was made otherwise than now; the beginning of an error's line."""
    step = made[STEP]
    earlier = line.get(STEP, step)
    if earlier != step:
        return (
            f"is of the checkpoint of step {earlier}, and this is step {step}: give "
            f"infer.step={earlier}, or"
        )
    if CHECKPOINT not in line:
        return (
            "does not say which parameters made it, as an earlier version wrote it: delete the "
            "file, or give"
        )
    if line[CHECKPOINT] != made[CHECKPOINT]:
        return (
            f"is of other parameters than step {step} of this run ({line[CHECKPOINT]}, not "
            f"{made[CHECKPOINT]}): give the run that made it, or"
        )
    if settings is None:  # nothing is generated
        return None
    if DECODING not in line:
        return (
            "does not say how it was decoded, as an earlier version wrote it, and this is "
            f"{settings}: delete the file, or give"
        )
    if line[DECODING] != settings:
        return (
            f"was decoded by {line[DECODING]}, and this is {settings}: give the same settings, or"
        )
    return None


def _apart(prompts: PromptFile, answerer: Answerer) -> Iterator[Prompt]:
    """The prompts, none of which has a column that its answer would replace.

    Raises:
      UserError: one has; names the line.
    """
    added = {*answerer.adds, BATCH_FORMAT, STEP, CHECKPOINT}
    if prompts.field != WORDS:
        added.discard(WORDS)  # a tagged text's, which its prompt was made of
    for prompt in prompts:
        if replaced := sorted(added & prompt.record.keys()):
            raise UserError(
                f"{prompts.name}, line {prompt.line}: the answer would replace "
                f"{', '.join(map(repr, replaced))} of the input, which it writes itself: give "
                "other names."
            )
        yield prompt


def _answers(line: Mapping[str, Any] | None, record: Record, answerer: Answerer) -> bool:
    """Whether a line of the output is the answer to a prompt."""
    asked = {name: value for name, value in record.items() if name not in answerer.adds}
    found = {name: line[name] for name in asked if line is not None and name in line}
    return json.dumps(found, sort_keys=True) == json.dumps(asked, sort_keys=True)


def _check_count(total: int, prompts: PromptFile, answers: AnswerFile, done: int) -> None:
    if done > total:
        raise UserError(
            f"'{answers.path}' already has {done} lines, but '{prompts.path}' has {total} "
            "prompts: it was made from another input; give another output_path or delete it."
        )


if __name__ == "__main__":
    command.run("infer")
