"""`t5x-like dedup`: which documents of a task's source are near duplicates of others."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any

from t5x_like.cli import caching
from t5x_like.cli.corpus import clean, task_documents
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
    parser.add_argument("--n", type=int, help="words of a shingle; 13")
    parser.add_argument("--bands", type=int, help="of a signature; 14")
    parser.add_argument("--rows", type=int, help="values of a band; 8")
    parser.add_argument(
        "--jaccard",
        type=float,
        metavar="J",
        help="choose bands and rows for this similarity, as datasketch does",
    )
    parser.add_argument("--permutations", type=int, help="at most, with --jaccard; 128")
    parser.add_argument("--seed", type=int, help="of the permutations; 1")
    parser.add_argument(
        "--exact", action="store_true", help="only documents whose whole text is the same"
    )
    parser.add_argument(
        "--lines",
        nargs="?",
        const="c4",
        metavar="NORMALIZATION",
        help="copies of lines, which are cut out, instead of documents; c4 or ccnet; c4",
    )
    parser.add_argument(
        "--write", metavar="DIR", help="also write the documents that stay as files, with a report"
    )
    clean.add_format_arguments(parser)
    parser.add_argument(
        "--pipeline_options",
        metavar="OPTIONS",
        help="comma-separated, of Apache Beam, which then reads and compares: --runner=...,--...",
    )
    parser.add_argument("--num_workers", type=int, help="processes; one for each core by default")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(kept=clean.KEPT)


def run(options: argparse.Namespace, config: Any) -> None:
    """Writes a list for each task, and prints how many documents are on it."""
    from t5x_like.host import files
    from t5x_like.host.progress import ProgressBar
    from t5x_like.near_duplicates.deduplicate import deduplicate, replaced
    from tasks.sources import Deduplicated

    rule = _rule(options)
    pipeline_options = _pipeline_options(options)
    workers = task_documents.workers(options)
    of_files = (options.format, options.separator, options.rows_per_file)
    if options.write is not None:
        clean.check_flags(options, options.write)
    elif any(given is not None for given in of_files):
        raise UserError("--format, --separator and --rows_per_file are for --write=DIR.")
    chosen = caching.tasks_of(options, config)
    if options.write is not None and len(chosen) != 1:
        names = ", ".join(task.name for task in chosen)
        raise UserError(f"--write={options.write} is for one task, not {names}.")
    if pipeline_options is None and files.is_remote(options.out):
        raise UserError(f"--out={options.out}: give a local folder; copy the lists afterwards.")
    splits = list(dict.fromkeys(options.splits.split(",")))
    report = {}
    for task in chosen:
        documents = task_documents.TaskDocuments(task)
        if options.lines is not None and len(task.form.columns) != 1:
            raise UserError(f"--lines is for plain text, and '{task.name}' has several columns.")
        count = sum(len(documents.shards(split)) for split in splits)
        if options.write is not None:
            write = f"--write={options.write}"
            clean.check_source(documents.source, task.name, splits, write, options)
        if options.dry_run:
            print(f"{task.name}: {count:,} shards would be read")
            continue
        folder = files.location(options.out)
        files.make_writable(folder, "--out")
        path = folder / f"{task.name.replace(':', '.')}.jsonl"
        others = replaced(documents, splits, path, rule)
        with ProgressBar(
            None, label=task.name, unit="documents", stream=sys.stderr, summary=False
        ) as bar:
            found = deduplicate(
                documents,
                splits,
                path,
                rule,
                name=task.name,
                num_workers=workers,
                progress=bar.add,
                pipeline_options=pipeline_options,
            )
        report[task.name] = {**found, "file": str(path)}
        if others:
            print(
                f"{task.name}: {path} replaces an earlier list with other settings "
                f"({', '.join(others)})",
                file=sys.stderr,
            )
        if not options.json:
            print(f"{task.name}: {_said(found)}: {path}")
        if options.write is not None:
            source = Deduplicated(documents.source, str(path), documents.column)
            written = clean.write(source, task.name, splits, options.write, options)
            report[task.name]["written"] = written
    if options.json:
        print(json.dumps(report))


def _pipeline_options(options: argparse.Namespace) -> list[str] | None:
    """Those of Beam; None without it."""
    if options.pipeline_options is None:
        return None
    if options.num_workers is not None and options.write is None:
        raise UserError("--num_workers is for this machine: --pipeline_options say what Beam has.")
    return list(filter(None, options.pipeline_options.split(",")))


def _said(found: Mapping[str, Any]) -> str:
    dropped, documents = found["dropped"], found["documents"]
    if "lines" in found:
        share = dropped / max(found["all_lines"], 1)
        lines = f"{dropped:,} of {found['all_lines']:,} lines ({share:.1%})"
        return f"{lines} in {documents:,} documents are copies of others"
    share = dropped / max(documents, 1)
    these = f"{dropped:,} of {documents:,} documents ({share:.1%})"
    return f"{these} are duplicates of {found['clusters']:,} others"


# Settings of signatures, which neither exact copies nor lines have.
_OF_SIGNATURES = ("n", "bands", "rows", "jaccard", "permutations", "seed")


def _rule(options: argparse.Namespace) -> Any:
    from t5x_like.near_duplicates.documents import DocumentRule
    from t5x_like.near_duplicates.lines import LineRule
    from t5x_like.near_duplicates.minhash import Bands, bands_for

    if options.lines is not None and options.exact:
        raise UserError("--exact is for documents: --lines compares whole lines anyway.")
    of_signatures = [name for name in _OF_SIGNATURES if getattr(options, name) is not None]
    if of_signatures and (options.exact or options.lines is not None):
        flags = " and ".join(f"--{name}" for name in of_signatures)
        whole = "--exact compares whole texts" if options.exact else "--lines compares whole lines"
        verb = "is" if len(of_signatures) == 1 else "are"
        raise UserError(f"{flags} {verb} for near duplicates: {whole} anyway.")
    if options.lines is not None:
        return LineRule(options.lines)
    if options.exact:
        return DocumentRule(exact=True)
    given = [name for name in ("bands", "rows") if getattr(options, name) is not None]
    if options.jaccard is not None and given:
        raise UserError(f"--jaccard chooses bands and rows: leave out --{' and --'.join(given)}.")
    if options.permutations is not None and options.jaccard is None:
        raise UserError("--permutations is for --jaccard: bands times rows are the permutations.")
    seed = DocumentRule.seed if options.seed is None else options.seed
    if not 0 <= seed < 1 << 32:
        raise UserError(f"--seed={seed}: give a whole number from 0 to 4294967295.")
    if options.jaccard is not None:
        most = 128 if options.permutations is None else options.permutations
        bands = bands_for(options.jaccard, most)
    else:
        bands = dataclasses.replace(Bands(), **{name: getattr(options, name) for name in given})
    return DocumentRule(DocumentRule.n if options.n is None else options.n, bands, seed)
