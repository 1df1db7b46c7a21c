"""Where a cache keeps what: seqio's own file names, and `task.json` beside them.

Each source, template and vocabulary has a folder of its own, `CACHE_DIR/TASK-FINGERPRINT/`, and
`CACHE_DIR/TASK` is a link to the one that was built last, for seqio. Folders without a fingerprint
in their names are of seqio's tools, or of earlier versions.

A folder holds, for each split, `SPLIT.tfrecord-0000i-of-0000n` (records of `tf.train.Example`),
`info.SPLIT.json` (shards, shapes, dtypes), `stats.SPLIT.json` (counts), and `COMPLETED` when all is
there. `task.json` is this project's: the features with their vocabularies, and the fingerprint of
what the cache was made from. seqio's tools leave `COMPLETED` empty; here it holds the SHA-256 of
each JSON file, as `sha256sum` prints them.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from etils import epath

from t5x_like.errors import UserError
from t5x_like.host import files

COMPLETED = "COMPLETED"
TASK = "task.json"
# In a split's counts: special tokens that its text spells out.
SPECIAL_TOKENS = "spelled_special"
# Before the reason, in a split's counts: documents and lines that filters of the source dropped.
DROPPED = "dropped "
_DIGITS = 12
_MOST_SHARDS = 10**6
_FINGERPRINTED = re.compile(rf".+-[0-9a-f]{{{_DIGITS}}}")
AnyPath = TypeVar("AnyPath", Path, epath.Path)


def cache_path(cache_dir: AnyPath, cache_name: str) -> AnyPath:
    """Where seqio looks for a task's cache; as there, a colon in its name makes a subfolder.

    Raises:
      UserError: the name would lead out of the cache directory.
    """
    parts = cache_name.split(":")
    if any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts):
        raise UserError(
            f"{cache_name!r} cannot be the name of a cache: letters, digits, '_', '.' and ':' make "
            "one, and none of its parts is empty, '.' or '..'"
        )
    return cache_dir.joinpath(*parts)


def cache_folder(cache_dir: AnyPath, cache_name: str, fingerprint: str) -> AnyPath:
    """The folder of a task's cache.

    Args:
      cache_dir: the directory of all caches.
      cache_name: of the task.
      fingerprint: of the task, whose first digits are in the folder's name.

    Raises:
      UserError: as `cache_path`.
    """
    plain = cache_path(cache_dir, cache_name)
    return plain.with_name(f"{plain.name}-{fingerprint[:_DIGITS]}")


def folders(cache_dir: AnyPath, cache_name: str) -> list[AnyPath]:
    """All folders of caches of this name, of whatever source, sorted."""
    plain = cache_path(cache_dir, cache_name)
    if not plain.parent.is_dir():
        return []
    found = [
        path
        for path in plain.parent.iterdir()
        if path.name.rpartition("-")[0] == plain.name and is_fingerprinted(path.name)
    ]
    if plain.is_dir() and not is_link_for_seqio(plain):
        found.append(plain)
    return sorted(found, key=lambda path: path.name)


def is_fingerprinted(name: str) -> bool:
    """Whether a folder's name ends in the first digits of a fingerprint."""
    return _FINGERPRINTED.fullmatch(name) is not None


def is_link_for_seqio(plain: Path | epath.Path) -> bool:
    """Whether a path is a link that `link_for_seqio` has made."""
    return os.path.islink(plain) and is_fingerprinted(os.readlink(plain))


def path_for_seqio(folder: Path) -> Path | None:
    """Where the link to a cache may be; None for a folder without a fingerprint in its name."""
    if not is_fingerprinted(folder.name):
        return None
    return folder.with_name(folder.name.rpartition("-")[0])


def link_for_seqio(folder: Path) -> None:
    """Makes a finished cache the one that seqio finds by the task's name.

    A folder that is there is left alone, and so is a file system without links.
    """
    plain = path_for_seqio(folder)
    if plain is None or (os.path.lexists(plain) and not is_link_for_seqio(plain)):
        return
    with contextlib.suppress(OSError):
        temporary = plain.with_name(f".{plain.name}.{secrets.token_hex(8)}.tmp")
        temporary.symlink_to(folder.name)
        temporary.replace(plain)


def info_path(folder: Path, split: str) -> Path:
    """Shards and features of a split."""
    return folder / f"info.{split}.json"


def stats_path(folder: Path, split: str) -> Path:
    """Counts of a split."""
    return folder / f"stats.{split}.json"


def shard_path(folder: AnyPath, split: str, shard: int, shards: int) -> AnyPath:
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
        value = json.loads(files.read_whole(path))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; build the cache again") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path} cannot be read: {reason}; build the cache again") from None
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
        text = files.read_whole(folder / COMPLETED).decode("utf-8")
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
    return hashlib.sha256(files.read_whole(path)).hexdigest()


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
        features, shards = info["features"], int(info["num_shards"])
        found = SplitInfo(
            shards,
            {name: str(feature["dtype"]) for name, feature in features.items()},
            {name: feature["shape"] for name, feature in features.items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} lacks {error}; build the cache again") from None
    if not 0 <= shards <= _MOST_SHARDS:
        raise UserError(f"{path} says that there are {shards} shards; build the cache again")
    return found


def recorded_vocabularies(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The vocabulary spec of each feature that `task.json` describes; none where there is no file.

    Raises:
      UserError: the file is not what caching writes.
    """
    path = task_path(folder)
    if not path.exists():
        return {}
    try:
        features = read_json(path).get("features", {})
        found: dict[str, Mapping[str, Any]] = {
            name: {"vocab_size": None, "eos_id": "none", **feature["vocabulary"]}
            for name, feature in features.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} does not describe its features ({type(error).__name__}); build the cache again"
        ) from None
    for name, spec in found.items():
        for key, value in spec.items():
            if not _is_possible(key, value):
                raise UserError(
                    f"{path} has {str(value)[:40]!r} as {key} of {name!r}; build the cache again"
                )
    return found


def _is_possible(key: str, value: Any) -> bool:
    """Whether an entry of a spec can be what its name says; names of ids end in `_id`."""

    def is_id(one: Any) -> bool:
        return isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**31

    if key in ("vocab_size", "extra_ids"):
        return is_id(value)
    if key.endswith("_id"):
        return value is None or is_id(value)
    if key.endswith("_ids"):
        return isinstance(value, list) and all(map(is_id, value))
    return True


def splits(folder: Path) -> list[str]:
    """Names of the splits of a cache, sorted."""
    return sorted(p.name[len("info.") : -len(".json")] for p in folder.glob("info.*.json"))
