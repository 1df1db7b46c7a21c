"""Reads the arrays and JSON of one checkpoint, and verifies their checksums.

Storage may truncate a file or flip a bit long after the checkpoint was complete.
"""

import contextlib
import json
import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from t5x_like.checkpoints.checksums import damaged
from t5x_like.checkpoints.layout import Damaged
from t5x_like.checkpoints.quiet import say_once
from t5x_like.distributed.startup import gather_json
from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.partitioning import path_name
from t5x_like.protocols import LABELS

_SUMS = "checksums"
# Items of metadata, those of earlier versions too; each may be missing.
_TYPES: Mapping[str, tuple[type, ...]] = {
    "step": (int,),
    "seed": (int,),
    "tokens": (int,),
    "parameters": (int,),
    "seconds": (int, float),
    "jax": (str,),
    "guard": (dict, type(None)),
    "unrecorded": (dict, type(None)),
    "base": (dict, type(None)),
    LABELS: (dict,),
    _SUMS: (dict,),
}


def with_checksums(metadata: Mapping[str, Any], sums: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the checksums of the other items, and one of itself, to metadata."""
    content = {**metadata, _SUMS: dict(sums)}
    return {**content, "checksum": json_checksum(content)}


def json_checksum(value: Any) -> int:
    """The checksum of a JSON value: CRC-32 of its text with sorted keys."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def read_metadata(directory: epath.Path) -> dict[str, Any]:
    """Reads the metadata of a checkpoint; empty if it has none.

    Read first: what would make a reader of the other items wait or fail is noticed here.

    Raises:
      Damaged: it cannot be read, or is not what was written; or the checkpoint holds a pipe or
        another thing that is no file.
    """
    _check_files(directory)
    if not (directory / "metadata").is_dir():
        return {}
    content = _read_json(directory, "metadata")
    if content.pop("checksum", None) not in (None, json_checksum(content)):
        raise _changed(directory, "its metadata")
    wrong = next((name for name, value in content.items() if not _is_of_type(name, value)), None)
    if wrong is not None:
        # A checksum shows accidents; who changed this has changed the checksum too.
        raise Damaged(
            f"checkpoint '{directory}' is damaged: '{wrong}' of its metadata is "
            f"{str(content[wrong])[:40]!r}, which no run writes."
        )
    return content


def require_training_state(directory: epath.Path) -> None:
    """Checks that a checkpoint holds what a run needs to resume, before any of it is read.

    Raises:
      UserError: it holds parameters alone, as an imported model does.
      Damaged: parts of it are missing.
    """
    for item in ("params", "metadata"):
        if not (directory / item).is_dir():
            raise Damaged(f"checkpoint '{directory}' is damaged: it has no '{item}'.")
    sums = read_metadata(directory).get(_SUMS, {})
    if "optimizer" not in sums and not (directory / "optimizer").is_dir():
        raise UserError(
            f"checkpoint '{directory}' holds parameters alone: start from it with "
            "INITIAL_CHECKPOINT_PATH and another MODEL_DIR."
        )


def read_json(directory: epath.Path, item: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a JSON item.

    Args:
      directory: the checkpoint.
      item: its name.
      metadata: of the checkpoint, with the checksums.

    Raises:
      Damaged: it cannot be read, or is not what was written.
    """
    content = _read_json(directory, item)
    if metadata.get(_SUMS, {}).get(item) not in (None, json_checksum(content)):
        raise _changed(directory, f"its item '{item}'")
    return content


def read_arrays(directory: epath.Path, item: str, target: Any, metadata: Mapping[str, Any]) -> Any:
    """Reads the arrays of an item into the shardings of `target`; all processes must call it.

    Args:
      directory: the checkpoint.
      item: its name.
      target: a subtree of the item's tree, of `ShapeDtypeStruct`s with shardings.
      metadata: of the checkpoint, with the checksums.

    Raises:
      Damaged: the first array that cannot be read, or is not what was written; raised in all
        processes, even if only one could not read its shards.
    """
    arrays, unreadable, cause = None, None, None
    try:
        arrays = _restore(directory / item, target)
    except Exception as error:
        if not _is_damage(error):
            raise
        name = _first_unreadable(directory / item, target) or _first_line(error)
        unreadable, cause = f"{item} array '{name}'", error
    # All processes must agree, or they would resume from different checkpoints.
    for what in gather_json(unreadable):
        if what is not None:
            raise _unreadable(directory, what) from cause
    verify_arrays(directory, item, arrays, metadata)
    return arrays


def verify_arrays(
    directory: epath.Path, item: str, arrays: Any, metadata: Mapping[str, Any]
) -> None:
    """Compares arrays of an item, or some of them, with their recorded checksums.

    Args:
      directory: the checkpoint.
      item: its name.
      arrays: a subtree of the item's tree.
      metadata: of the checkpoint, with the checksums.

    Raises:
      Damaged: the first array that is not what was written.
    """
    wrong = damaged(arrays, metadata.get(_SUMS, {}).get(item, {}))
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise _changed(directory, f"{item} array '{wrong[0]}'{more}")


@contextlib.contextmanager
def errors_as_damage(directory: epath.Path, what: str) -> Iterator[None]:
    """Turns errors of libraries that cannot parse a file into `Damaged`.

    Raises:
      Damaged: in place of such an error.
    """
    try:
        yield
    except Exception as error:
        if not _is_damage(error):
            raise
        raise _unreadable(directory, f"{what} ({_first_line(error)})") from error


def _check_files(directory: epath.Path) -> None:
    if files.is_remote(directory):
        return
    for folder, folders, names in os.walk(directory):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            try:
                kind = os.stat(path).st_mode
            except OSError as error:
                raise _unreadable(directory, f"'{path}' ({error.strerror})") from error
            if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                raise Damaged(f"checkpoint '{directory}' is damaged: '{path}' is not a file.")


def _is_of_type(name: str, value: Any) -> bool:
    """Whether an item of metadata is of the type that it is written with, and its parts are."""
    if type(value) not in _TYPES.get(name, (type(value),)):
        return False
    if name == _SUMS:
        parts = value.values()
        groups = [part if isinstance(part, dict) else {"": part} for part in parts]
        return all(_is_number(one, int) for group in groups for one in group.values())
    if name == "guard" and value is not None:
        losses, in_a_row = value.get("losses"), value.get("in_a_row")
        whole = isinstance(losses, list) and all(map(_is_number, losses))
        return whole and _is_number(in_a_row, int) and 0 <= in_a_row < 2**31
    if name == "base" and value is not None:
        names = value.get("parameters")
        texts = [value.get("path"), value.get("fingerprint"), value.get("beside", "")]
        listed = isinstance(names, list) and all(isinstance(one, str) for one in names)
        return listed and all(isinstance(text, str) for text in texts)
    if name == "unrecorded" and value is not None:
        totals = value.get("totals", {})
        return _is_number(value.get("skipped", 0), int) and (
            isinstance(totals, dict)
            and all(
                isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair))
                for pair in totals.values()
            )
        )
    return True


def _is_number(value: Any, *kinds: type) -> bool:
    return type(value) in (kinds or (int, float))


def _read_json(directory: epath.Path, item: str) -> dict[str, Any]:
    with (
        errors_as_damage(directory, f"its item '{item}'"),
        contextlib.closing(ocp.JsonCheckpointHandler()) as reader,
    ):
        found = reader.restore(directory / item)
        if not isinstance(found, dict):
            raise TypeError(f"{type(found).__name__} in place of an object")
        return found


def _restore(item: epath.Path, target: Any) -> Any:
    say_once()
    # Not an `ocp.Checkpointer`, which waits at its end for processes that may have failed.
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
        return reader.restore(
            item,
            args=ocp.args.PyTreeRestore(
                item=target,
                restore_args=ocp.checkpoint_utils.construct_restore_args(target),
                partial_restore=True,
            ),
        )


def _first_unreadable(item: epath.Path, target: Any) -> str | None:
    """The name of the first array that cannot be read by itself."""
    for wanted, _ in jax.tree_util.tree_leaves_with_path(target):
        alone = jax.tree_util.tree_map_with_path(
            lambda path, leaf, wanted=wanted: leaf if path == wanted else None, target
        )
        try:
            _restore(item, alone)
        except Exception:
            return path_name(wanted)
    return None


def _is_damage(error: Exception) -> bool:
    """Whether an error means damage, and not a user error, lack of memory or a storage timeout."""
    elsewhere = (UserError, MemoryError, jax.errors.JaxRuntimeError)
    if isinstance(error, OSError):
        return isinstance(error, FileNotFoundError)
    return not isinstance(error, elsewhere)


def _first_line(error: Exception) -> str:
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {said[:160]}"


def _unreadable(directory: epath.Path, what: str) -> Damaged:
    return Damaged(f"checkpoint '{directory}' is damaged: {what} cannot be read.")


def _changed(directory: epath.Path, what: str) -> Damaged:
    return Damaged(
        f"checkpoint '{directory}' is damaged: {what} is not what was saved, by its checksum."
    )
