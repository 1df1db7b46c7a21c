"""Inference: prompts from a file or standard input, JSON lines out, resumed where it stopped."""

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, TextIO

import jax

from t5x_like import checkpoints
from t5x_like.decoding import Greedy, Strategy, TextCodec, generate_text, prepare, prompts_of
from t5x_like.errors import UserError
from t5x_like.host import command, compilation_cache
from t5x_like.host.progress import ProgressBar
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Decodes, Mixture, Task

InputFormat = Literal["text", "jsonl"]
Record = dict[str, Any]

STANDARD = "-"
PREDICTIONS = "predictions"
SCORES = "scores"
BATCH_FORMAT = "batch_format"
# Batches decoded together: enough that prompts of like length meet, few enough that what is
# lost with a killed process is little.
BATCHES_AT_A_TIME = 8


def infer(
    *,
    model: Decodes,
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
) -> int:
    """Generates for every prompt of a file, in order.

    Each line of the output is the prompt's own JSON object (of a text line,
    `{"inputs": line}`) with `predictions` and `scores` added. If the output exists, the
    prompts of its whole lines are not done again, and a last line that was cut is redone; what
    is drawn at random does not depend on where a run was interrupted.

    Args:
      model: of the run.
      model_dir: the run, or one checkpoint directory below it.
      task: whose vocabularies the prompts are written in.
      task_feature_lengths: prompts are trimmed to `inputs`.
      partitioner: the mesh; data parallel over all devices when None.
      step: the checkpoint; None for the newest.
      input_path: a text file (a prompt a line) or JSON lines; `-` is standard input.
      output_path: JSON lines; `-` is standard output, which cannot be resumed.
      input_format: "text" or "jsonl"; None: by the name, `.jsonl` or `.json`, else text.
      field: where a JSON line holds its prompt.
      strategy: how tokens are chosen.
      max_new_tokens: longest answer; None for the length of `targets`.
      batch_size: prompts decoded together.
      seed: for strategies that draw.

    Returns:
      How many prompts were done, those of earlier runs not counted.

    Raises:
      UserError: a file that cannot be read or resumed, a line that is not UTF-8 or not JSON,
        a prompt that is missing or not text, no such checkpoint.
    """
    if input_format is None:
        is_json = input_path.endswith((".jsonl", ".json"))
        input_format = "jsonl" if is_json else "text"
    if input_format not in ("text", "jsonl"):
        raise UserError(f"input_format is {input_format!r}: give 'text' or 'jsonl'.")
    if input_path != STANDARD:
        # A fault in the last line should show now and not after hours.
        total = sum(1 for _ in _records_at(input_path, input_format, field))
    else:
        total = None
    done = 0 if output_path == STANDARD else resume(Path(output_path))
    if total is not None:
        _check_length(total, input_path, output_path, done)
    compilation_cache.enable()
    partitioner = partitioner or Partitioner()
    prompts_of(model)  # refuses a model that writes no text
    codec = TextCodec.for_task(task, model, task_feature_lengths)
    params, _ = checkpoints.load_params(model_dir, model, partitioner, step)

    records = _records_at(input_path, input_format, field)
    _check_same_prompt(records, Path(output_path), done, field, input_path)
    # Whoever types wants an answer to each line.
    interactive = input_path == STANDARD and sys.stdin.isatty()
    at_a_time = 1 if interactive else batch_size * BATCHES_AT_A_TIME
    primary = jax.process_index() == 0
    # Results on the same terminal show the progress themselves.
    visible = output_path == STANDARD and sys.stdout.isatty()
    bar = ProgressBar(
        total,
        done=done,
        label="prompts",
        stream=sys.stderr,
        shown=primary and not interactive and not visible,
    )
    first = done
    with bar, partitioner.activate(), _opened(output_path, primary) as out:
        decoding_params = prepare(model, params)
        while chunk := list(itertools.islice(records, at_a_time)):
            found = generate_text(
                model,
                params,
                codec,
                [record[field] for record in chunk],
                max_new_tokens=max_new_tokens or task_feature_lengths["targets"],
                strategy=strategy,
                batch_size=batch_size,
                seed=seed,
                first_row=first,
                decoding_params=decoding_params,
                progress=bar.add,
            )
            for record, one in zip(chunk, found, strict=True):
                line = {
                    **record,
                    PREDICTIONS: one.text,
                    SCORES: one.score,
                    BATCH_FORMAT: model.batch_format,
                }
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
            out.flush()
            first += len(chunk)
    return first - done


def read_records(
    lines: Iterable[bytes], name: str, input_format: InputFormat, field: str
) -> Iterator[Record]:
    """One object a prompt; empty lines of JSON lines are skipped, of text are empty prompts.

    Args:
      lines: as a binary file gives them.
      name: of the file, for errors.
      input_format: what a line is.
      field: where a JSON line holds its prompt.

    Raises:
      UserError: names the line, and what is wrong with it.
    """
    for number, raw in enumerate(lines, start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name}, line {number}: byte {error.start + 1} is not UTF-8; "
                "convert the file to UTF-8."
            ) from error
        if input_format == "text":
            yield {field: line}
        elif line.strip():
            yield _parsed(line, f"{name}, line {number}", field)


def _parsed(line: str, where: str, field: str) -> Record:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno}).") from error
    if not isinstance(record, dict):
        raise UserError(f"{where}: found {type(record).__name__}; a line is a JSON object.")
    if field not in record:
        raise UserError(
            f"{where}: no field {field!r}; it has {sorted(record)}. Name the prompt's with "
            "infer.field."
        )
    if not isinstance(record[field], str):
        raise UserError(
            f"{where}: the field {field!r} is {type(record[field]).__name__}; a prompt is text."
        )
    try:
        json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: an escape is half of a surrogate pair, not text.") from error
    return record


def resume(path: Path) -> int:
    """How many whole lines an output has; what follows the last of them is cut off."""
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        lines, end = 0, 0
        for raw in file:
            if raw.endswith(b"\n"):
                lines, end = lines + 1, end + len(raw)
        file.truncate(end)
    return lines


def _records_at(path: str, input_format: InputFormat, field: str) -> Iterator[Record]:
    if path == STANDARD:
        yield from read_records(sys.stdin.buffer, "standard input", input_format, field)
        return
    try:
        with open(path, "rb") as file:
            yield from read_records(file, path, input_format, field)
    except OSError as error:
        raise UserError(f"input_path '{path}' cannot be read: {error.strerror}.") from error


def _check_same_prompt(
    records: Iterator[Record], output: Path, done: int, field: str, input_path: str
) -> None:
    """Moves `records` past what is done, and compares the last of it with the output.

    Raises:
      UserError: the output was made from another input.
    """
    if not done:
        return
    skipped = list(itertools.islice(records, done))
    _check_length(len(skipped), input_path, str(output), done)
    with output.open("rb") as file:
        *_, raw = file
    try:
        written = json.loads(raw)[field]
    except (ValueError, KeyError, TypeError):
        written = None
    if written != skipped[-1][field]:
        raise UserError(
            f"line {done} of '{output}' is not the answer to prompt {done} of '{input_path}': "
            "it was made from another input; give another output_path or delete it."
        )


def _check_length(prompts: int, input_path: str, output_path: str, done: int) -> None:
    if done > prompts:
        raise UserError(
            f"'{output_path}' already has {done} lines, but '{input_path}' has {prompts} prompts: "
            "it was made from another input; give another output_path or delete it."
        )


def _opened(path: str, primary: bool) -> AbstractContextManager[TextIO]:
    """Where lines are appended; only the first process writes."""
    if not primary:
        return open(os.devnull, "w", encoding="utf-8")
    if path == STANDARD:
        return contextlib.nullcontext(sys.stdout)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a", encoding="utf-8")
    except OSError as error:
        raise UserError(f"output_path '{path}' cannot be written: {error.strerror}.") from error


if __name__ == "__main__":
    command.run("infer")
