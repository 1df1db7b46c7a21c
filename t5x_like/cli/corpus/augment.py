"""`t5x-like augment`: rows of a task with words replaced by others that could stand there."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from t5x_like.cli import caching
from t5x_like.cli.corpus import task_documents
from t5x_like.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("task", nargs="*", help="its name; MIXTURE_OR_TASK_NAME when there is none")
    parser.add_argument(
        "--masked_lm", required=True, metavar="MODEL_DIR", help="the run of a masked language model"
    )
    parser.add_argument("--vectors", metavar="FILE", help="of words, for words of several pieces")
    parser.add_argument("--out", required=True, metavar="FILE", help="NAME.tsv")
    parser.add_argument("--split", default="train", help="which is augmented; %(default)s")
    parser.add_argument(
        "--samples", type=int, default=20, metavar="N", help="texts drawn of each; %(default)s"
    )
    parser.add_argument(
        "--candidates", type=int, default=15, metavar="K", help="of each word; %(default)s"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.4,
        metavar="P",
        help="probability with which a word gives way; %(default)s",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws; %(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(options: argparse.Namespace, config: Any) -> None:
    """Writes each row of the split, and after it those that are drawn of it.

    Raises:
      UserError: the task has no texts, the run is of no masked language model, or a value cannot
        stand in a TSV file.
    """
    from t5x_like.corpora.word_replacement import WordReplacement
    from t5x_like.host import files
    from t5x_like.host.progress import ProgressBar

    if not options.out.endswith(".tsv"):
        raise UserError(f"--out={options.out}: rows are written to NAME.tsv.")
    if options.seed < 0:
        raise UserError(f"--seed={options.seed}: give a whole number of 0 or more.")
    task = _task(options, config)
    source = task_documents.source_of(task, [options.split])
    texts = task.form.input_columns
    columns = tuple(source.columns)
    if not columns:
        raise UserError(f"the source of '{task.name}' gives all columns there are: name them.")
    shards = task_documents.shards(source, options.split)
    if options.dry_run:
        told = " and ".join(texts)
        print(f"{options.out} would have the columns {', '.join(columns)}, with {told} augmented")
        return
    replaced = WordReplacement(_candidates(options), options.threshold, options.samples)
    target = files.location(options.out)
    files.make_writable(target.parent, "--out")
    rows = written = 0
    bar = ProgressBar(None, label=task.name, unit="rows", stream=sys.stderr, summary=False)
    with bar, files.replacing(target) as file:
        for number, row in enumerate(source.rows(options.split, shards)):
            for made in _augmented(row, texts, replaced, (options.seed, number)):
                file.write(_line(made, columns, number).encode())
                written += 1
            rows += 1
            bar.add(1)
        if not rows:
            raise UserError(f"split '{options.split}' of '{task.name}' has no rows.")
    if options.json:
        print(json.dumps({"rows": rows, "written": written, "file": str(target)}))
    else:
        print(f"{task.name}: {written:,} rows of {rows:,}: {target}")


def _task(options: argparse.Namespace, config: Any) -> Any:
    chosen = caching.tasks_of(options, config)
    if len(chosen) != 1:
        names = ", ".join(task.name for task in chosen)
        raise UserError(f"one task is augmented, not {names}.")
    (task,) = chosen
    if type(getattr(task, "form", None)).__name__ != "Labelled":
        raise UserError(
            f"'{task.name}' is no task of texts with labels or numbers, such as "
            "tasks/classification_tsv.gin makes: what else a row says may not hold when its words "
            "are replaced."
        )
    return task


def _candidates(options: argparse.Namespace) -> Any:
    """What a run of a masked language model and a file of vectors say."""
    from t5x_like.runs import load_run
    from t5x_like.runs.masked_words import WordCandidates
    from t5x_like.vectors import read_vectors
    from tasks.objectives.special_tokens import find_boundary_ids, find_mask_id

    opened = load_run(options.masked_lm)
    member, _ = opened.task.tasks[0]
    vocabulary = next(iter(member.output_features.values())).vocabulary
    spec = vocabulary.spec()
    special = find_mask_id(spec, None, "augment"), *find_boundary_ids(spec, "augment")
    return WordCandidates(
        opened.model,
        opened.params,
        vocabulary,
        special_ids=special,
        vectors=None if options.vectors is None else read_vectors(options.vectors),
        count=options.candidates,
    )


def _augmented(
    row: Mapping[str, Any], texts: Sequence[str], replaced: Any, seed: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """The row, and those that are drawn of it; the same whatever other rows there are."""
    import numpy as np

    given = [str(row[name]) for name in texts]
    for drawn in replaced(given, np.random.default_rng(seed)):
        yield {**row, **dict(zip(texts, drawn, strict=True))}


def _line(row: Mapping[str, Any], columns: Sequence[str], number: int) -> str:
    values = [str(row[name]) for name in columns]
    for name, value in zip(columns, values, strict=True):
        if any(sign in value for sign in "\t\r\n"):
            raise UserError(
                f"row {number + 1}: column '{name}' is {value[:40]!r}, and a TSV file cannot have "
                "tabs or line ends in a value: take them out."
            )
    return "\t".join(values) + "\n"
