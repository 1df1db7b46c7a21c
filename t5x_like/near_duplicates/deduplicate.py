"""Finds the near duplicates among the documents of a source.

Each shard is read once, in as many processes as one likes, and leaves a file with the keys of its
documents; a run that was interrupted resumes with the shards that are left. Then all keys are
sorted, and of each cluster all documents but the first are written to the list of what is dropped.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from t5x_like.distributed import workers
from t5x_like.errors import UserError
from t5x_like.host import directory_lock, files
from t5x_like.near_duplicates import on_beam, shard_keys
from t5x_like.near_duplicates.minhash import Array
from t5x_like.near_duplicates.shard_keys import Documents, Rule, Shard, Work


def deduplicate(
    documents: Documents,
    splits: Sequence[str],
    path: str | os.PathLike[str],
    rule: Rule,
    *,
    name: str = "the source",
    num_workers: int = 1,
    progress: Callable[[int], None] | None = None,
    pipeline_options: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Writes the list of the documents that are dropped.

    Its first line, JSON as the others, says of which text it is and how it was made; each further
    line has the rows of a shard: `{"split": "train", "shard": 0, "rows": [3, 17]}`. Of a
    `LineRule` it has `lines` in place of `rows`, counted through all documents of the shard.
    A list of the same text by the same rule is left as it is, unless it was cut.

    Args:
      documents: of a source.
      splits: are read in this order; of a cluster the first document stays.
      path: of the list; keys are kept beside it, in a folder, until it is written. On Beam it may
        be on `gs://`, and every machine must reach it.
      rule: which documents, or lines of them, are duplicates.
      name: of the source, for messages.
      num_workers: processes that read; 1 is this one.
      progress: called with the number of documents that were read since the last time.
      pipeline_options: of Apache Beam, which then reads and compares; the list is the same. None
        for this machine alone.

    Returns:
      The first line of the list.

    Raises:
      UserError: another command writes in the folder, a shard is named twice, a split has no
        documents, or Beam has no such options.
      DataFault: a process was killed, or the pipeline failed.
      DiskFull: there is no room for the keys.
    """
    target = files.location(path)
    head = _settings(documents, splits, rule)
    digest = hashlib.sha256(json.dumps(head).encode()).hexdigest()[:16]
    target.parent.mkdir(parents=True, exist_ok=True)
    held = directory_lock.lock(target.parent, "--out", "`t5x-like dedup`")
    try:
        finished = _finished(target, rule)
        if all(finished.get(name) == value for name, value in head.items()):
            return finished
        folder = target.with_name(f"{target.stem}.keys-{digest}")
        folder.mkdir(exist_ok=True)
        work = Work(documents, rule, os.fspath(folder))
        shards = shard_keys.shards_of(documents, splits)
        if pipeline_options is None:
            counts, places, further = _here(work, shards, num_workers, progress)
        else:
            counts, places, further = on_beam.found(work, shards, pipeline_options)
        try:
            _check_splits(documents, splits, shards, counts, name)
        except UserError:
            folder.rmtree()  # of no use to another command
            raise
        head |= shard_keys.summed(counts) | {"dropped": sum(map(len, places))} | further
        lines = [
            {"split": shard.split, "shard": shard.number, rule.unit: dropped.tolist()}
            for shard, dropped in zip(shards, places, strict=True)
            if len(dropped)
        ]
        files.write_whole(target, "".join(json.dumps(line) + "\n" for line in (head, *lines)))
        for kept in target.parent.iterdir():  # of other rules or files too, interrupted earlier
            if kept.name.startswith(f"{target.stem}.keys-"):
                kept.rmtree(missing_ok=True)
    finally:
        held.release()
    return head


def replaced(
    documents: Documents, splits: Sequence[str], path: str | os.PathLike[str], rule: Rule
) -> list[str]:
    """In what the list that is at a path differs from the one that `deduplicate` would write.

    Args:
      documents: these are the arguments of `deduplicate`.
      splits: of it.
      path: of the list.
      rule: which documents are duplicates.

    Returns:
      The names of settings as the first line has them, `source` of other files; none where there
      is no list, or one of the same settings.
    """
    try:
        head = json.loads(files.read_whole(files.location(path)).partition(b"\n")[0])
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(head, dict) or "source" not in head:
        return []
    settings = _settings(documents, splits, rule)
    return [name for name, value in settings.items() if head.get(name) != value]


def _settings(documents: Documents, splits: Sequence[str], rule: Rule) -> dict[str, Any]:
    """How a list is made, the beginning of its first line."""
    return {**documents.settings(), "splits": list(splits), **rule.settings()}


def _check_splits(
    documents: Documents,
    splits: Sequence[str],
    shards: Sequence[Shard],
    counts: Sequence[Mapping[str, int]],
    name: str,
) -> None:
    for split in splits:
        of_split = zip(shards, counts, strict=True)
        if not sum(each["documents"] for shard, each in of_split if shard.split == split):
            why = getattr(documents, "why_empty", None)
            advice = why(split) if why else "leave it out"
            raise UserError(f"{name}: split {split!r} has no documents: {advice}")


def _finished(path: epath.Path, rule: Rule) -> dict[str, Any]:
    """The first line of a list; empty where there is none, or not all that the line counts."""
    try:
        head, *lines = map(json.loads, files.read_whole(path).splitlines())
        named = sum(len(line[rule.unit]) for line in lines)
        whole = named == head["dropped"] and head["documents"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}
    return head if whole else {}


def _here(
    work: Work,
    shards: Sequence[Shard],
    num_workers: int,
    progress: Callable[[int], None] | None,
) -> tuple[list[dict[str, int]], list[Array], dict[str, int]]:
    """See `on_beam.found`."""
    missing = [shard for shard in shards if not work.path(shard).exists()]
    for _ in workers.results(
        shard_keys.write, work, missing, workers.beside(num_workers, missing), progress
    ):
        pass
    arrays = [shard_keys.read(work, shard) for shard in shards]
    places, further = work.rule.dropped(arrays)
    return list(map(work.rule.counts, arrays)), places, further
