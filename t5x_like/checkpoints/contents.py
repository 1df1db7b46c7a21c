"""Reads the arrays and JSON of one checkpoint, and verifies their checksums.

Storage may truncate a file or flip a bit long after the checkpoint was complete.
"""

import contextlib
import json
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
from t5x_like.partitioning import path_name

_SUMS = "checksums"


def with_checksums(metadata: Mapping[str, Any], sums: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the checksums of the other items, and one of itself, to metadata."""
    content = {**metadata, _SUMS: dict(sums)}
    return {**content, "checksum": json_checksum(content)}


def json_checksum(value: Any) -> int:
    """The checksum of a JSON value: CRC-32 of its text with sorted keys."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def read_metadata(directory: epath.Path) -> dict[str, Any]:
    """Reads the metadata of a checkpoint; empty if it has none.

    Raises:
      Damaged: it cannot be read, or is not what was written.
    """
    if not (directory / "metadata").is_dir():
        return {}
    content = _read_json(directory, "metadata")
    if content.pop("checksum", None) not in (None, json_checksum(content)):
        raise _changed(directory, "its metadata")
    return content


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


def _read_json(directory: epath.Path, item: str) -> dict[str, Any]:
    with (
        errors_as_damage(directory, f"its item '{item}'"),
        contextlib.closing(ocp.JsonCheckpointHandler()) as reader,
    ):
        return dict(reader.restore(directory / item))


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
