"""Checkpoints that hold what a run trains, and name the one that holds the rest.

A run that trains a part of a model leaves the other parameters as its initial checkpoint has them.
Its own checkpoints then keep the trained part; `base` in their metadata says where the others are,
and by which checksums they are known. Whoever reads parameters gets both.
"""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
from etils import epath

from t5x_like.checkpoints.contents import read_arrays, read_metadata
from t5x_like.checkpoints.shapes import check_parameters, stored_arrays
from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.partitioning import path_name, split_boxes, subtree, with_subtree
from t5x_like.protocols import BESIDE_POLICY, Model, Params

BASE = "base"

Piece = tuple[epath.Path, Mapping[str, Any], Any]
"""A checkpoint, its metadata, and the subtree of the wanted parameters that it holds."""


def base_of(directory: epath.Path, metadata: Mapping[str, Any], names: Collection[str]) -> Any:
    """What a run's metadata say of the checkpoint that has the parameters it does not train.

    Args:
      directory: that checkpoint.
      metadata: its own.
      names: of the parameters.
    """
    return {
        "path": str(directory),
        "fingerprint": fingerprint(metadata),
        "parameters": sorted(names),
    }


def fingerprint(metadata: Mapping[str, Any]) -> str:
    """A digest of the checksums of a checkpoint's parameters, and of its base's."""
    own = metadata.get("checksums", {}).get("params", {})
    below = (metadata.get(BASE) or {}).get("fingerprint")
    text = json.dumps(own if below is None else [own, below], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def own_parameters(params: Params, metadata: Mapping[str, Any]) -> Params:
    """Of a tree of parameters, those that the checkpoint with this metadata holds itself."""
    base = metadata.get(BASE)
    if not base:
        return params
    elsewhere = frozenset(base["parameters"])
    return subtree(params, lambda name: name not in elsewhere)


def held(directory: epath.Path, metadata: Mapping[str, Any]) -> set[str]:
    """The names of all parameters that a checkpoint has, itself or by its base."""
    return set(stored_arrays(directory / "params")) | set(
        (metadata.get(BASE) or {}).get("parameters", ())
    )


def pieces(directory: epath.Path, metadata: Mapping[str, Any], wanted: Any) -> Iterator[Piece]:
    """Where each of the wanted parameters is: in a checkpoint, its base, or that one's.

    Raises:
      UserError: a base is not where it was, or is another.
    """
    own = own_parameters(wanted, metadata)
    if own:
        yield directory, metadata, own
    base = metadata.get(BASE) or {}
    elsewhere = frozenset(base.get("parameters", ()))
    if rest := subtree(wanted, elsewhere.__contains__):
        below = _found(directory, base)
        known = read_metadata(below)
        if fingerprint(known) != base["fingerprint"]:
            raise UserError(
                f"checkpoint '{directory}' was trained on the parameters of '{below}', which have "
                "changed since: put those back that were there."
            )
        yield from pieces(below, known, rest)


def _found(directory: epath.Path, base: Mapping[str, Any]) -> epath.Path:
    """The base's directory: where it was, or beside the run if both have moved together."""
    there = files.location(base["path"])
    beside = base.get("beside")
    candidates = [there, *([] if beside is None else [_joined(directory, beside)])]
    for candidate in candidates:
        if (candidate / "params").is_dir():
            return candidate
    raise UserError(
        f"checkpoint '{directory}' holds the parameters that were trained; the others are those of "
        f"'{there}', where there is no checkpoint: put it back there."
    )


def with_place(base: Mapping[str, Any] | None, directory: epath.Path) -> dict[str, Any] | None:
    """What `base_of` says, with the way to the base from the checkpoint that will name it."""
    if not base or files.is_remote(directory) or files.is_remote(base["path"]):
        return dict(base) if base else None
    return {**base, "beside": os.path.relpath(base["path"], directory)}


def _joined(directory: epath.Path, beside: str) -> epath.Path:
    return files.location(os.path.normpath(os.path.join(os.fspath(directory), beside)))


def check_pieces(
    directory: epath.Path,
    metadata: Mapping[str, Any],
    target: Any,
    *,
    model: Model | None = None,
    whole: bool = True,
    fresh: Collection[str] | None = None,
    aside: Callable[[str], bool] = lambda name: False,
) -> list[Piece]:
    """`pieces`, once all are known to have the shapes of `target`; see `check_parameters`.

    Args:
      directory: the checkpoint.
      metadata: its own.
      target: the wanted parameters, with shapes.
      model: whose parameters they are.
      whole: see `check_parameters`.
      fresh: there too.
      aside: names that the checkpoint may have and the model may lack.

    Raises:
      UserError: shapes differ, or the checkpoint tunes its base by what the model lacks.
    """
    _check_tuning(directory, metadata, target if model is None else model.abstract_params(), aside)
    found = list(pieces(directory, metadata, target))
    for place, _, wanted in found:
        own = whole and place == directory
        beside = metadata.get(BESIDE_POLICY) or ()
        check_parameters(wanted, place, whole=own, model=model, fresh=fresh, unread=beside)
    return found


def _check_tuning(
    directory: epath.Path, metadata: Mapping[str, Any], params: Any, aside: Callable[[str], bool]
) -> None:
    """Refuses what was trained beside a base by a model that would read the base alone."""
    if not metadata.get(BASE):
        return
    shapes, _ = split_boxes(params)
    known = {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)}
    beside = metadata.get(BESIDE_POLICY) or ()
    while base := metadata.get(BASE):
        for name in sorted(set(stored_arrays(directory / "params")) - known):
            if name.partition("/")[0] not in beside and not aside(name):
                raise UserError(
                    f"checkpoint '{directory}' has '{name}', which was trained beside the "
                    "parameters of its base, and which this model lacks: what it read would be the "
                    "base alone. Give the model the same tuning (a file under tuning/), or the "
                    "checkpoint of a run that trained all of its parameters."
                )
        directory = _found(directory, base)
        metadata = read_metadata(directory)


def read_pieces(found: list[Piece]) -> Any:
    """The parameters of all pieces, in the shardings and dtypes of their targets.

    Raises:
      Damaged: the first array that cannot be read, or is not what was written.
    """
    tree: dict[str, Any] = {}
    for place, metadata, wanted in found:
        for part in _alike(wanted, stored_arrays(place / "params")):
            arrays = read_arrays(place, "params", part["stored"], metadata)
            tree = with_subtree(tree, jax.tree.map(_cast, arrays, part["wanted"]))
    return tree


def _cast(array: jax.Array, wanted: jax.ShapeDtypeStruct) -> jax.Array:
    return array if array.dtype == wanted.dtype else array.astype(wanted.dtype)


def _alike(wanted: Any, stored: Mapping[str, jax.ShapeDtypeStruct]) -> Iterator[dict[str, Any]]:
    """Parts that are read together: all of the stored dtypes, and one by one those of others.

    The largest first, so that no device holds both forms of much more than it has in the end.
    """
    leaves = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(wanted)}
    other = [name for name, leaf in leaves.items() if stored[name].dtype != leaf.dtype]
    for name in sorted(other, key=lambda name: -leaves[name].size):
        one = subtree(wanted, {name}.__contains__)
        there = jax.ShapeDtypeStruct(
            leaves[name].shape, stored[name].dtype, sharding=leaves[name].sharding
        )
        yield {"stored": jax.tree.unflatten(jax.tree.structure(one), [there]), "wanted": one}
    if rest := subtree(wanted, lambda name: name not in other):
        yield {"stored": rest, "wanted": rest}
