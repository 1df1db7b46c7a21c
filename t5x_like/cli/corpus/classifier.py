"""`t5x-like classifier`: tells documents that are wanted from those that a corpus has."""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

from t5x_like.errors import UserError

_HELD_OUT = 10  # one document in so many is not learned from, but measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    what = "tasks, or globs of files that end in .jsonl, .parquet or .txt, alone or .gz or .zst"
    parser.add_argument(
        "--positive", nargs="+", required=True, metavar="TASK", help=f"wanted documents: {what}"
    )
    parser.add_argument(
        "--negative", nargs="+", required=True, metavar="TASK", help="what the corpus has"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="NAME.npz, for filters")
    parser.add_argument("--column", default="text", help="of files; %(default)s")
    parser.add_argument("--separator", help="between the documents of .txt; each file is one")
    parser.add_argument(
        "--max_documents", type=int, default=100_000, metavar="N", help="of each kind; %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(options: argparse.Namespace, config: Any) -> None:
    """Fits the classifier, measures it on a tenth that it has not seen, and writes it.

    Raises:
      UserError: a name is neither a task's nor a file's; the file cannot be written.
    """
    from t5x_like.host import disk_space, files
    from t5x_like.host.progress import ProgressBar
    from tasks.filters import quality

    if not options.out.endswith(".npz"):
        raise UserError(f"--out={options.out}: a classifier is written to NAME.npz.")
    if options.max_documents < 1:
        raise UserError(f"--max_documents={options.max_documents}: give 1 or more.")
    kinds = {"positive": options.positive, "negative": options.negative}
    named = [*options.positive, *options.negative]
    if options.separator and not any(_base(name).endswith(".txt") for name in named):
        raise UserError("--separator is between the documents of .txt, and no such file is named.")
    sources = {kind: [_texts(name, options, config) for name in kinds[kind]] for kind in kinds}
    if options.dry_run:
        print(f"{options.out} would be fitted to {' and '.join(map(' '.join, kinds.values()))}")
        return
    learned, held_out = {}, {}
    with ProgressBar(None, label="classifier", unit="documents", stream=sys.stderr) as bar:
        for kind, texts in sources.items():
            found = list(itertools.islice(_in_turn(texts), options.max_documents))
            bar.add(len(found))
            held_out[kind] = found[_HELD_OUT - 1 :: _HELD_OUT]
            learned[kind] = [text for i, text in enumerate(found, 1) if i % _HELD_OUT]
    classifier = quality.fitted(learned["positive"], learned["negative"])
    right = quality.accuracy(classifier, held_out["positive"], held_out["negative"])
    out = files.location(options.out)
    with disk_space.explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(out, classifier.content())
    counts = {kind: len(learned[kind]) for kind in kinds}
    held = sum(map(len, held_out.values()))
    if options.json:
        print(
            json.dumps(
                {
                    "file": options.out,
                    **counts,
                    "held_out": held,
                    "accuracy": right if held else None,
                }
            )
        )
        return
    measured = (
        f"of {held:,} others {right:.1%} are told right"
        if held
        else f"none is left to measure it by, of fewer than {_HELD_OUT} of each kind"
    )
    print(
        f"{options.out}: {counts['positive']:,} positive and {counts['negative']:,} negative "
        f"documents; {measured}"
    )


def _in_turn(texts: list[Iterator[str]]) -> Iterator[str]:
    """One of each, again and again: what is not read to its end has a part of every source."""
    waiting = list(texts)
    while waiting:
        for one in list(waiting):
            text = next(one, None)
            if text is None:
                waiting.remove(one)
            else:
                yield text


def _texts(name: str, options: argparse.Namespace, config: Any) -> Iterator[str]:
    from t5x_like.cli import caching
    from t5x_like.cli.corpus.task_documents import TaskDocuments
    from tasks import sources

    base = _base(name)
    given: Any = {"files": {"train": name}}
    if base.endswith(".txt"):
        separator = options.separator and options.separator.replace("\\n", "\n")
        source: Any = sources.TextFiles(**given, separator=separator)
        source.check_files()
        return (row["text"] for row in source.rows("train"))
    if base.endswith((".jsonl", ".parquet")):
        kind: Any = sources.JsonLines if base.endswith(".jsonl") else sources.ParquetFiles
        source = kind(**given, columns=(options.column,))
        source.check_files()
        return (row[options.column] for row in source.rows("train"))
    task = caching.named(name, config)
    if len(task.tasks) > 1:
        raise UserError(f"'{name}' is a mixture: name its tasks.")
    documents = TaskDocuments(task, ["train"])
    return (text for shard in documents.shards("train") for text in documents.texts("train", shard))


def _base(name: str) -> str:
    """The name without the ending of compression."""
    return name.removesuffix(".gz").removesuffix(".zst")
