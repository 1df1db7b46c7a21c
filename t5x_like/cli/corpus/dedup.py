"""`t5x-like dedup`: which documents of a task's source are near duplicates of others."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from t5x_like.cli import caching
from t5x_like.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("task", nargs="*", help="names; MIXTURE_OR_TASK_NAME when there is none")
    parser.add_argument(
        "--splits",
        default="train",
        help="comma-separated; of duplicates in several, the first one's stays; %(default)s",
    )
    parser.add_argument(
        "--out", default="runs/dedup", metavar="DIR", help="of the lists; %(default)s"
    )
    parser.add_argument("--n", type=int, default=13, help="words of a shingle; %(default)s")
    parser.add_argument("--bands", type=int, help="of a signature; 14")
    parser.add_argument("--rows", type=int, help="values of a band; 8")
    parser.add_argument(
        "--jaccard",
        type=float,
        metavar="J",
        help="choose bands and rows for this similarity, as datasketch does",
    )
    parser.add_argument("--permutations", type=int, help="at most, with --jaccard; 128")
    parser.add_argument("--seed", type=int, default=1, help="of the permutations; %(default)s")
    parser.add_argument(
        "--exact", action="store_true", help="only documents whose whole text is the same"
    )
    parser.add_argument("--num_workers", type=int, help="processes; one for each core by default")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(options: argparse.Namespace, config: Any) -> None:
    """Writes a list for each task, and prints how many documents are on it."""
    from t5x_like.host import files
    from t5x_like.host.progress import ProgressBar
    from t5x_like.near_duplicates.deduplicate import deduplicate

    rule = _rule(options)
    workers = options.num_workers
    if workers is None:
        workers = len(os.sched_getaffinity(0))
    if workers < 1:
        raise UserError(f"--num_workers={workers}: give a whole number of 1 or more.")
    if files.is_remote(options.out):
        raise UserError(f"--out={options.out}: give a local folder; copy the lists afterwards.")
    splits = list(dict.fromkeys(options.splits.split(",")))
    report = {}
    for task in caching.tasks_of(options, config):
        documents = TaskDocuments(task)
        count = sum(len(documents.shards(split)) for split in splits)
        if options.dry_run:
            print(f"{task.name}: {count:,} shards would be read")
            continue
        folder = files.location(options.out)
        files.make_writable(folder, "--out")
        path = folder / f"{task.name.replace(':', '.')}.jsonl"
        with ProgressBar(
            None, label=task.name, unit="documents", stream=sys.stderr, summary=False
        ) as bar:
            found = deduplicate(
                documents, splits, path, rule, num_workers=workers, progress=bar.add
            )
        report[task.name] = {**found, "file": str(path)}
        if not options.json:
            share = found["dropped"] / max(found["documents"], 1)
            print(
                f"{task.name}: {found['dropped']:,} of {found['documents']:,} documents "
                f"({share:.1%}) are duplicates of {found['clusters']:,} others: {path}"
            )
    if options.json:
        print(json.dumps(report))


def _rule(options: argparse.Namespace) -> Any:
    from t5x_like.near_duplicates.deduplicate import Rule
    from t5x_like.near_duplicates.minhash import Bands, bands_for

    given = [name for name in ("bands", "rows") if getattr(options, name) is not None]
    if options.jaccard is not None and given:
        raise UserError(f"--jaccard chooses bands and rows: leave out --{' and --'.join(given)}.")
    if options.permutations is not None and options.jaccard is None:
        raise UserError("--permutations is for --jaccard: bands times rows are the permutations.")
    if not 0 <= options.seed < 1 << 32:
        raise UserError(f"--seed={options.seed}: give a whole number from 0 to 4294967295.")
    if options.jaccard is not None:
        most = 128 if options.permutations is None else options.permutations
        bands = bands_for(options.jaccard, most)
    else:
        bands = dataclasses.replace(Bands(), **{name: getattr(options, name) for name in given})
    return Rule(options.n, bands, options.seed, options.exact)


class TaskDocuments:
    """The documents of a task's source, before a list of duplicates is applied to it.

    Raises:
      UserError: seqio alone reads the task, or an earlier list is inside other wrappers.
    """

    def __init__(self, task: Any) -> None:
        from tasks.sources import Deduplicated

        if not hasattr(task, "source") or not hasattr(task, "form"):
            raise UserError(
                f"the text of task '{task.name}' is read by seqio alone: declare it with `tasks`."
            )
        if isinstance(task.source, Deduplicated):
            task = dataclasses.replace(task, source=task.source.source)
        self._task, self._source = task, task.source

    def shards(self, split: str) -> Sequence[str]:
        """See `near_duplicates.deduplicate.Documents`, as the others."""
        if split not in self._source.splits:
            has = ", ".join(self._source.splits)
            raise UserError(f"--splits={split}: the source has {has}.")
        return list(self._source.shards(split))

    def texts(self, split: str, shard: str) -> Iterator[str]:
        """The text of each row: what its form makes of it."""
        for made in self._task.examples(split, [shard]):
            yield "\n".join(map(str, made.values()))

    def fingerprint(self) -> str:
        """The source's."""
        return str(self._source.fingerprint())
