"""`t5x-like clean`: the documents of a task's source as files, without what filters drop."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t5x_like.cli import caching
from t5x_like.cli.corpus import task_documents
from t5x_like.errors import UserError

# What is said when a signal has ended the command.
KEPT = "files that were finished are kept; the same command resumes with the others."
_ESCAPES = {"\\n": "\n", "\\t": "\t"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("task", nargs="*", help="name; MIXTURE_OR_TASK_NAME when there is none")
    parser.add_argument("--splits", help="comma-separated; all by default")
    parser.add_argument("--out", required=True, metavar="DIR", help="of the files and the report")
    add_format_arguments(parser)
    parser.add_argument("--num_workers", type=int, help="processes; one for each core by default")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(kept=KEPT)


def add_format_arguments(parser: argparse.ArgumentParser) -> None:
    """What the files are written as."""
    parser.add_argument(
        "--format",
        metavar="ENDING",
        help="jsonl, txt, each with .gz or .zst or without, or parquet; jsonl.zst",
    )
    parser.add_argument(
        "--separator", help="between the documents of txt; '\\n\\n', as tasks/text_files.gin reads"
    )
    parser.add_argument(
        "--rows_per_file", type=int, metavar="N", help="of longer shards several files are made"
    )


def run(options: argparse.Namespace, config: Any) -> None:
    """Writes the files, and prints what was kept and dropped.

    Raises:
      UserError: there are several tasks, or one that seqio alone reads.
    """
    chosen = caching.tasks_of(options, config)
    if len(chosen) != 1:
        raise UserError(
            f"clean writes one task at a time, not {', '.join(task.name for task in chosen)}."
        )
    (task,) = chosen
    check_flags(options, options.out)
    source = task_documents.source_of(task)
    splits = options.splits.split(",") if options.splits else list(source.splits)
    splits = list(dict.fromkeys(splits))
    check_source(source, task.name, splits, f"--out={options.out}", options)
    if options.dry_run:
        count = sum(len(task_documents.shards(source, split)) for split in splits)
        print(f"{task.name}: {count:,} shards would be read")
        return
    written = write(source, task.name, splits, options.out, options)
    if options.json:
        print(json.dumps(written))


def check_flags(options: argparse.Namespace, out: str) -> None:
    """Refuses flags of the files that cannot be, before anything is read.

    Args:
      options: with the format.
      out: the folder.

    Raises:
      UserError: there is no such format, a number is below 1, or the folder is remote.
    """
    from t5x_like.host import files

    ending = _file_format(options).ending
    if options.separator is not None and not ending.startswith("txt"):
        raise UserError(f"--separator is for --format=txt: {ending} needs none.")
    if options.rows_per_file is not None and options.rows_per_file < 1:
        raise UserError(
            f"--rows_per_file={options.rows_per_file}: give a whole number of 1 or more."
        )
    task_documents.workers(options)
    if files.is_remote(out):
        raise UserError(f"{out} is remote: give a local folder; copy the files afterwards.")


def check_source(
    source: Any, name: str, splits: Sequence[str], flag: str, options: argparse.Namespace
) -> None:
    """Refuses a source that cannot be written in the format, or would read what is written.

    Args:
      source: of a task.
      name: of the task.
      splits: of the source.
      flag: that names the folder, with it.
      options: with the format.

    Raises:
      UserError: the columns are not known, or are too many for plain text; a file that would be
        written is one that the source reads.
    """
    from t5x_like.corpora.rewrite import file_names
    from tasks.sources import files

    corpus, file_format = task_documents.SourceRows(source, name), _file_format(options)
    file_format.check_columns(corpus.columns)
    patterns = task_documents.local_patterns(source)
    folder = os.path.expanduser(flag.partition("=")[2])
    for written in file_names(corpus, splits, file_format, options.rows_per_file):
        for pattern in patterns:
            if files.names(pattern, os.path.join(folder, written)):
                raise UserError(
                    f"{flag}: '{written}' there would be read as a file of '{name}', whose source "
                    f"reads '{pattern}': give another folder."
                )


def _file_format(options: argparse.Namespace) -> Any:
    from t5x_like.corpora.file_formats import FileFormat

    given = {"ending": options.format, "separator": options.separator}
    given = {setting: value for setting, value in given.items() if value is not None}
    if "separator" in given:
        for escape, character in _ESCAPES.items():
            given["separator"] = given["separator"].replace(escape, character)
    return FileFormat(**given)


def write(
    source: Any, name: str, splits: Sequence[str], out: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Writes the rows of a source, after the checks above; see `corpora.rewrite`.

    Args:
      source: of a task.
      name: of the task.
      splits: of the source.
      out: the folder.
      options: with the format; says whether lines are printed.
    """
    from t5x_like.corpora.rewrite import REPORT, rewrite
    from t5x_like.host import files
    from t5x_like.host.progress import ProgressBar

    workers = task_documents.workers(options)
    corpus = task_documents.SourceRows(source, name)
    files.make_writable(files.location(out), "--out")
    with ProgressBar(None, label=name, unit="documents", stream=sys.stderr, summary=False) as bar:
        written = rewrite(
            corpus,
            splits,
            out,
            _file_format(options),
            title=f"{name}: what is kept and dropped",
            rows_per_file=options.rows_per_file,
            num_workers=workers,
            progress=bar.add,
        )
    report = Path(out, REPORT)
    if not options.json:
        for split, counts in written["splits"].items():
            print(
                f"{name} {split}: {counts['written']:,} of {counts['read']:,} documents are kept, "
                f"in {counts['files']:,} files of {counts['bytes'] / 1e6:,.1f} MB"
            )
            for line in caching.dropped_lines(counts["dropped"]):
                print(f"{name} {split}: {line}")
        print(f"{name}: {report}")
    return {**written, "out": str(out), "report": str(report)}
