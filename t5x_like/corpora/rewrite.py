"""Writes the rows of a source as files: shard by shard, in processes, and restartable.

Each shard is written once, whole, beside a small file of its counts; a run that was killed resumes
with the shards that are left. When all are there the counts are summed in `corpus.json` and shown
in `report.html`, and the small files go.
"""

import collections
import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from t5x_like.corpora import report
from t5x_like.corpora.file_formats import FileFormat, Row, Writer
from t5x_like.distributed import workers
from t5x_like.errors import UserError
from t5x_like.host import directory_lock, disk_space, files

SUMMARY, REPORT = "corpus.json", "report.html"
_PARTS = ".parts-"
_EXAMPLES = 5  # of each reason, in the report


class Corpus(Protocol):
    """The rows of a source, in splits and shards; goes to other processes."""

    @property
    def columns(self) -> Sequence[str]:
        """Of each row."""

    def shards(self, split: str) -> Sequence[str]:
        """The names of the parts that can be read separately, in order."""

    def rows(self, split: str, shard: str) -> Iterator[Row]:
        """The rows that are kept of a shard, in order, each value as text."""

    def take_dropped(self) -> tuple[Mapping[str, int], Mapping[str, Sequence[str]]]:
        """Counts and examples, by reason, of what was left out since this was last asked."""

    def fingerprint(self) -> str:
        """Hex digest that changes when the rows do."""


@dataclasses.dataclass(frozen=True)
class _Shard:
    split: str
    number: int
    count: int  # of shards of the split
    name: str


def rewrite(
    corpus: Corpus,
    splits: Sequence[str],
    out: str | os.PathLike[str],
    file_format: FileFormat,
    *,
    title: str,
    rows_per_file: int | None = None,
    num_workers: int = 1,
    progress: workers.Tell | None = None,
) -> dict[str, Any]:
    """Writes `SPLIT-00000-of-00012.jsonl.zst` and so on, a file for each shard that has rows.

    A folder that holds the same already is left as it is, if its files are those of `corpus.json`.

    Args:
      corpus: of a source.
      splits: of it.
      out: the folder, local.
      file_format: of the files.
      title: of the report.
      rows_per_file: a shard with more rows becomes several files,
        `SPLIT-00000-of-00012-part-00000`; None for one.
      num_workers: processes that read and write; 1 is this one.
      progress: called with the number of documents that were written since the last time.

    Returns:
      `splits`: of each `written`, `read`, `bytes`, `files`, `dropped` and `examples`, by reason;
      and what else `corpus.json` says.

    Raises:
      UserError: the folder is in use, holds another corpus, or lacks files of this one; a shard is
        named twice.
      DataFault: a process was killed.
      DiskFull: there is no room.
    """
    if rows_per_file is not None and rows_per_file < 1:
        raise UserError(f"--rows_per_file={rows_per_file}: give a whole number of 1 or more.")
    folder = Path(files.location(out))
    settings = {
        "source": corpus.fingerprint(),
        "splits": list(splits),
        "format": dataclasses.asdict(file_format),
        "rows_per_file": rows_per_file,
    }
    shards = [shard for split in splits for shard in _shards(corpus, split)]
    folder.mkdir(parents=True, exist_ok=True)
    held = directory_lock.lock(folder, "--out", "command")
    try:
        finished = _finished(folder)
        if finished is not None and finished["settings"] == settings:
            _check_files(folder, finished["splits"], shards, file_format)
            return finished
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        parts = folder / f"{_PARTS}{digest}"
        others = [each for each in folder.glob(f"{_PARTS}*") if each != parts]
        if finished is not None or others:
            raise UserError(
                f"--out={out} holds another corpus, or one that was read or filtered otherwise: "
                "remove it, or give another folder."
            )
        parts.mkdir(exist_ok=True)
        missing = [shard for shard in shards if not _part(parts, shard).exists()]
        work = _Work(corpus, folder, parts, file_format, rows_per_file)
        for _ in workers.results(
            _write, work, missing, workers.beside(num_workers, missing), progress
        ):
            pass
        summary = {"settings": settings, "title": title, "splits": _summed(parts, shards)}
        with disk_space.explained(folder):
            files.write_whole(folder / REPORT, report.page(summary))
            files.write_whole(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
        for left in folder.glob(".*.tmp"):  # of a run that was killed
            left.unlink(missing_ok=True)
        shutil.rmtree(parts, ignore_errors=True)
        return summary
    finally:
        held.release()


def file_names(
    corpus: Corpus, splits: Sequence[str], file_format: FileFormat, rows_per_file: int | None
) -> Iterator[str]:
    """The names of the files that `rewrite` writes, of each shard the first, and of its reports."""
    yield from (SUMMARY, REPORT)
    for split in splits:
        for shard in _shards(corpus, split):
            yield _file_name(shard, 0, file_format, rows_per_file)


def _file_name(shard: _Shard, part: int, file_format: FileFormat, rows_per_file: int | None) -> str:
    name = f"{shard.split}-{shard.number:05d}-of-{shard.count:05d}"
    if rows_per_file is not None:
        name = f"{name}-part-{part:05d}"
    return f"{name}.{file_format.ending}"


def _finished(folder: Path) -> dict[str, Any] | None:
    path = folder / SUMMARY
    if not path.exists():
        return None
    try:
        found = json.loads(files.read_whole(path))
        found["settings"], found["splits"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UserError(f"'{path}' is damaged: remove the folder, or give another --out.") from None
    return dict(found)


def _check_files(
    folder: Path, splits: Mapping[str, Any], shards: Sequence[_Shard], file_format: FileFormat
) -> None:
    """Refuses a folder whose files are not as many, or not as long, as its counts say."""
    ending = re.escape(file_format.ending)
    for split, count in {shard.split: shard.count for shard in shards}.items():
        counts = splits[split]
        name = re.compile(rf"{re.escape(split)}-\d+-of-{count:05d}(-part-\d+)?\.{ending}")
        sizes = [path.stat().st_size for path in folder.iterdir() if name.fullmatch(path.name)]
        if (len(sizes), sum(sizes)) != (counts["files"], counts["bytes"]):
            raise UserError(
                f"'{folder}' has {len(sizes):,} files of split '{split}' with {sum(sizes):,} bytes,"
                f" where {SUMMARY} counts {counts['files']:,} with {counts['bytes']:,}: remove "
                f"{SUMMARY}, and the same command writes all of them again."
            )


def _shards(corpus: Corpus, split: str) -> list[_Shard]:
    names = list(corpus.shards(split))
    for name, times in collections.Counter(names).items():
        if times > 1:
            raise UserError(f"'{name}' is named twice in split '{split}': name it once.")
    return [_Shard(split, number, len(names), name) for number, name in enumerate(names)]


def _part(parts: Path, shard: _Shard) -> Path:
    return parts / f"{shard.split}-{shard.number:05d}.json"


def _summed(parts: Path, shards: Sequence[_Shard]) -> dict[str, Any]:
    """The counts of all shards, and examples from as many shards as there are."""
    found: dict[str, Any] = {}
    kept: dict[tuple[str, str], list[list[str]]] = {}
    for shard in shards:
        part = json.loads(files.read_whole(_part(parts, shard)))
        whole = found.setdefault(
            shard.split,
            {"written": 0, "read": 0, "bytes": 0, "files": 0, "dropped": {}, "examples": {}},
        )
        for name in ("written", "read", "bytes", "files"):
            whole[name] += part[name]
        for reason, count in part["dropped"].items():
            whole["dropped"][reason] = whole["dropped"].get(reason, 0) + count
        for reason, examples in part["examples"].items():
            kept.setdefault((shard.split, reason), []).append(examples)
    for (split, reason), of_shards in kept.items():
        # The first of each shard, then the second of each.
        most = max(map(len, of_shards))
        in_turn = [each[i] for i in range(most) for each in of_shards if i < len(each)]
        found[split]["examples"][reason] = in_turn[:_EXAMPLES]
    return found


# -- In the processes that read --------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Work:
    corpus: Corpus
    folder: Path
    parts: Path
    file_format: FileFormat
    rows_per_file: int | None

    def path(self, shard: _Shard, part: int) -> Path:
        return self.folder / _file_name(shard, part, self.file_format, self.rows_per_file)


def _write(work: _Work, shard: _Shard, tell: workers.Tell) -> None:
    """Writes the files of a shard, then its counts."""
    corpus, columns = work.corpus, tuple(work.corpus.columns)
    corpus.take_dropped()
    told = workers.Told(tell)
    paths: list[Path] = []
    rows = corpus.rows(shard.split, shard.name)
    for first in rows:
        path = work.path(shard, len(paths))
        with work.file_format.writer(path, columns) as writer:
            _fill(writer, first, rows, work.rows_per_file, told)
        paths.append(path)
    told.flush()
    dropped, examples = corpus.take_dropped()
    documents = sum(count for reason, count in dropped.items() if reason.startswith("document: "))
    part = {
        "written": told.count,
        "read": told.count + documents,
        "bytes": sum(path.stat().st_size for path in paths),
        "files": len(paths),
        "dropped": dict(dropped),
        "examples": {reason: list(texts) for reason, texts in examples.items()},
    }
    path = _part(work.parts, shard)
    with disk_space.explained(path):
        files.write_whole(path, json.dumps(part))


def _fill(
    writer: Writer, first: Row, rows: Iterator[Row], most: int | None, told: workers.Told
) -> None:
    writer.add(first)
    told.add()
    count = 1
    while count != most:
        row = next(rows, None)
        if row is None:
            return
        writer.add(row)
        told.add()
        count += 1
