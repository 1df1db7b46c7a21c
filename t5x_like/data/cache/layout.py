"""Where a cache keeps what: seqio's own file names, and `task.json` beside them.

`CACHE_DIR/TASK/` holds, for each split, `SPLIT.tfrecord-0000i-of-0000n` (records of
`tf.train.Example`), `info.SPLIT.json` (shards, shapes, dtypes), `stats.SPLIT.json` (counts), and
`COMPLETED` when all is there. `task.json` is this project's: the features with their
vocabularies, and the fingerprint of what the cache was made from. seqio's tools leave
`COMPLETED` empty; here it holds the SHA-256 of each JSON file, as `sha256sum` prints them.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t5x_like.errors import UserError
from t5x_like.host import files

COMPLETED = "COMPLETED"
TASK = "task.json"


def cache_path(cache_dir: str | os.PathLike[str], cache_name: str) -> Path:
    """The folder of one task; as in seqio, a colon in its name makes a subfolder.

    Raises:
      UserError: the cache directory is not a local path.
    """
    directory = os.fspath(cache_dir)
    if "://" in directory:
        raise UserError(
            f"the cache directory {directory} is not a local path; caches are written to local "
            "disks: copy it there afterwards"
        )
    return Path(directory).expanduser().joinpath(*cache_name.split(":"))


def info_path(folder: Path, split: str) -> Path:
    """Shards and features of a split."""
    return folder / f"info.{split}.json"


def stats_path(folder: Path, split: str) -> Path:
    """Counts of a split."""
    return folder / f"stats.{split}.json"


def shard_path(folder: Path, split: str, shard: int, shards: int) -> Path:
    """One file of records."""
    return folder / f"{split}.tfrecord-{shard:05d}-of-{shards:05d}"


def index_path(folder: Path, split: str, kind: str, shard: int, shards: int) -> Path:
    """The sidecar of a shard; a hidden name, so that no pattern of seqio's finds it."""
    return folder / f".{split}.{kind}.index-{shard:05d}-of-{shards:05d}"


def task_path(folder: Path) -> Path:
    """The description of the task that a cache holds."""
    return folder / TASK


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
      UserError: the file is missing or does not hold a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; build the cache again") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; build the cache again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object; build the cache again")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A JSON object, whole or not at all."""
    files.write_whole(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def complete(folder: Path) -> None:
    """Says that a cache is whole, and what its JSON files are."""
    names = sorted(p.name for p in folder.glob("*.json") if not p.name.startswith("."))
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in names]
    files.write_whole(folder / COMPLETED, "".join(lines))


def damage(folder: Path) -> dict[str, str]:
    """What is not as `COMPLETED` says: a file's name, and one line about it."""
    found = {}
    try:
        text = (folder / COMPLETED).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        return {COMPLETED: f"{folder / COMPLETED} cannot be read: {error}"}
    for line in text.splitlines():
        checksum, _, name = line.partition("  ")
        if Path(name).name != name or not name.endswith(".json") or not text.endswith("\n"):
            found[COMPLETED] = f"{folder / COMPLETED} was changed since it was written"
        elif not (folder / name).is_file():
            if name != TASK:  # seqio's tools write none
                found[name] = f"{folder / name} is missing"
        elif _sha256(folder / name) != checksum:
            found[name] = f"{folder / name} was changed since it was written"
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class SplitInfo:
    """What `info.SPLIT.json` says.

    Attributes:
      num_shards: how many files of records there are.
      dtypes: feature name to NumPy's name of its dtype ("string" for text).
      shapes: feature name to shape, None where a length varies.
    """

    num_shards: int
    dtypes: Mapping[str, str]
    shapes: Mapping[str, list[int | None]]


def read_info(folder: Path, split: str) -> SplitInfo:
    """Reads `info.SPLIT.json`.

    Raises:
      UserError: the split is not in the cache, or the file is not what seqio writes.
    """
    path = info_path(folder, split)
    if not path.exists():
        raise UserError(
            f"there is no split {split!r} in {folder}; it has {', '.join(splits(folder)) or 'none'}"
        )
    info = read_json(path)
    if not info:
        # seqio's Beam tool writes an empty object for a split without examples.
        return SplitInfo(0, {}, {})
    try:
        features = info["features"]
        return SplitInfo(
            int(info["num_shards"]),
            {name: feature["dtype"] for name, feature in features.items()},
            {name: feature["shape"] for name, feature in features.items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} lacks {error}; build the cache again") from None


def splits(folder: Path) -> list[str]:
    """Names of the splits of a cache, sorted."""
    return sorted(p.name[len("info.") : -len(".json")] for p in folder.glob("info.*.json"))
