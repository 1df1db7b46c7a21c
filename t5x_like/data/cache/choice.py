"""Which of the caches of a name is a task's, as far as this host can tell."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from etils import epath

from t5x_like.data.cache import layout
from t5x_like.host import files
from t5x_like.protocols import Task, Vocabulary


@dataclass(frozen=True)
class Seen:
    """What this host sees of what a task's cache is made from.

    Attributes:
      fingerprint: the task's; None where a file of its source or of a vocabulary is not here.
      lacking: then a sentence that says what.
    """

    fingerprint: str | None
    lacking: str = ""


def seen(task: Task) -> Seen:
    """The fingerprint of a task; its files are read only where all of them are there."""
    lacking = lacking_of(task)
    if lacking:
        return Seen(None, lacking)
    try:
        return Seen(task.fingerprint())
    except (OSError, ImportError) as error:
        return Seen(None, _told(error, task))


def lacking_of(task: Task) -> str:
    """What of a task's files is not on this host, a sentence; "" where all seems to be."""
    try:
        if hasattr(task, "check_files"):
            task.check_files()
    except (OSError, ImportError) as error:
        return _told(error, task)
    return ""


def _told(error: OSError | ImportError, task: Task) -> str:
    known = hasattr(error, "exit_code")  # one line, for people
    return str(error) if known else f"The source of {task.name!r} is not on this host."


@dataclass(frozen=True)
class Chosen(Generic[layout.AnyPath]):
    """The folder that a task's cache is read from.

    Attributes:
      folder: of the cache, or where it would be.
      others: caches of the same name, of other sources or vocabularies or of unknown ones.
      verify: whether what it was made from is compared with the task.
      alike: whether the others are of sources that were declared alike.
    """

    folder: layout.AnyPath
    others: tuple[layout.AnyPath, ...]
    verify: bool
    alike: bool = False


def choose(
    task: Task, root: layout.AnyPath, fingerprint: str | None, verify_source: bool
) -> "Chosen[layout.AnyPath]":
    """Where a task's cache is: the folder of its fingerprint, or an earlier version's folder.

    Where the source is not to be verified, the only cache that there is; where it cannot be seen,
    the only one of a source that was declared alike.
    """
    plain = layout.cache_path(root, task.cache_name)
    there = [
        folder
        for folder in layout.folders(root, task.cache_name)
        if (folder / layout.COMPLETED).exists()
    ]
    if fingerprint is not None:
        own = layout.cache_folder(root, task.cache_name, fingerprint)
        if own.exists():
            return Chosen(own, (), verify_source)
        if plain in there and _recorded(plain) in (None, fingerprint):
            return Chosen(plain, (), verify_source)
        if verify_source or len(there) != 1:
            return Chosen(own, tuple(there), verify_source)
    declared = there if not verify_source else [f for f in there if _is_declared_alike(f, task)]
    if len(declared) == 1:
        return Chosen(declared[0], (), False)
    return Chosen(plain, tuple(declared or there), False, alike=bool(declared))


# Of a vocabulary's spec.
_DECISIVE = ("kind", "vocab_size", "sha256")
# Files may lie elsewhere on the host that has built a cache.
_PLACES = re.compile(r"\w*dir\w*=(?:'[^']*'|None)|[^\s'\"=(]*/")


def _is_declared_alike(folder: Path | epath.Path, task: Task) -> bool:
    """Whether a cache's source and vocabularies have the same files and settings, where known."""
    path = folder / layout.TASK
    if not path.exists():
        return True
    try:
        described = json.loads(files.read_whole(path))
        source, features = str(described.get("source")), described.get("features")
    except (OSError, ValueError, AttributeError, RecursionError):
        return True
    return _is_source_alike(source, task) and all(
        _is_vocabulary_alike(_recorded_spec(features, name), feature.vocabulary)
        for name, feature in task.output_features.items()
    )


def _recorded_spec(features: Any, name: str) -> Mapping[str, Any] | None:
    """The vocabulary of a feature; None where the cache does not have it, or is damaged."""
    feature = features.get(name) if isinstance(features, dict) else None
    spec = feature.get("vocabulary") if isinstance(feature, dict) else None
    return spec if isinstance(spec, dict) else None


def _is_source_alike(recorded: str, task: Task) -> bool:
    source = getattr(task, "source", None)
    if source is None or recorded == "None":
        return True
    try:
        here = repr(source)
    except (OSError, ValueError):  # of a filter whose file is not here
        return True
    return _PLACES.sub("", recorded) == _PLACES.sub("", here)


def _is_vocabulary_alike(recorded: Mapping[str, Any] | None, vocabulary: Vocabulary) -> bool:
    if recorded is None:
        return True
    try:
        spec = vocabulary.spec()
    except (OSError, ImportError):  # its file is not here
        path = getattr(vocabulary, "path", None)
        return path is None or Path(str(recorded.get("file"))).name == Path(path).name
    both = [key for key in _DECISIVE if key in recorded and key in spec]
    return all(recorded[key] == spec[key] for key in both)


def _recorded(folder: Path | epath.Path) -> str | None:
    """The fingerprint that a cache was made from; None where seqio's own tools have made it."""
    path = folder / layout.TASK
    if not path.exists():
        return None
    try:
        return str(json.loads(files.read_whole(path)).get("fingerprint"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""  # damaged: what it was made from is not known
