"""Copies parameters between a checkpoint and host memory, with little memory besides them."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from t5x_like.checkpoints import base
from t5x_like.checkpoints.checksums import checksums
from t5x_like.checkpoints.contents import errors_as_damage, verify_arrays, with_checksums
from t5x_like.checkpoints.layout import DIRECTORY
from t5x_like.checkpoints.loading import find_checkpoint, load_metadata
from t5x_like.host import files
from t5x_like.partitioning import path_name, split_boxes, with_subtree
from t5x_like.protocols import Model, Params

# Bytes of an array that are written together, at least; there are as many pieces at most.
_PIECE, _PIECES = 2**20, 4096


def write_params(model_dir: str, params: Params, step: int, metadata: Mapping[str, Any]) -> None:
    """Writes a checkpoint that holds parameters only: to start a run from, not to resume one.

    Peak memory is little more than the parameters, because arrays of rank 2 and more are written
    in chunks.

    Args:
      model_dir: the MODEL_DIR.
      params: NumPy arrays.
      step: the checkpoint's step.
      metadata: saved with `step`.
    """
    device = jax.devices("cpu")[0]
    arrays = jax.tree.map(lambda x: jax.device_put(x, device, may_alias=True), params)
    # Orbax rejects an array as large as its limit of concurrent bytes.
    largest = max(x.nbytes for x in jax.tree.leaves(arrays))
    at_once = (1 + largest) / 1e9
    handlers = {
        "params": ocp.PyTreeCheckpointHandler(
            save_concurrent_gb=at_once, save_device_host_concurrent_gb=at_once
        ),
        "metadata": ocp.JsonCheckpointHandler(),
    }
    piece = max(_PIECE, sum(x.nbytes for x in jax.tree.leaves(arrays)) // _PIECES)
    # Orbax divides a dimension evenly: of one that is prime, every number would be a piece.
    pieces = jax.tree.map(
        lambda x: ocp.SaveArgs(chunk_byte_size=piece if x.ndim > 1 else None), arrays
    )
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    directory = files.location(model_dir) / DIRECTORY
    content = with_checksums({"step": step, **metadata}, {"params": checksums(arrays)})
    with ocp.CheckpointManager(directory, item_handlers=handlers, options=options) as manager:
        manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.PyTreeSave(
                    arrays,
                    save_args=pieces,
                    ocdbt_target_data_file_size=max(64 * piece, 2 * largest),
                ),
                metadata=ocp.args.JsonSave(content),
            ),
        )


def read_params(path: str, model: Model, step: int | None = None) -> tuple[Params, int]:
    """Reads the parameters of a checkpoint as NumPy arrays, and its step.

    Args:
      path: as for `checkpoints.find_checkpoint`.
      model: whose parameters these are.
      step: as for `checkpoints.find_checkpoint`.

    Raises:
      UserError: no checkpoint, or one of another model.
      Damaged: it cannot be read, or is not what was saved.
    """
    directory = find_checkpoint(path, step)
    metadata = load_metadata(str(directory))
    target, _ = split_boxes(model.abstract_params())
    found = base.check_pieces(directory, metadata, target, model=model)
    as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    # One array at a time, so that Orbax's own buffers hold only a part of the model.
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:

        def read(piece: base.Piece, path: Any, wanted: Any) -> np.ndarray:
            place, known, tree = piece
            alone = jax.tree_util.tree_map_with_path(
                lambda other, leaf: leaf if other == path else None, tree
            )
            with errors_as_damage(place, f"params array '{path_name(path)}'"):
                restored = reader.restore(
                    (place / "params").absolute(),
                    args=ocp.args.PyTreeRestore(
                        item=alone,
                        restore_args=jax.tree.map(lambda _: as_numpy, alone),
                        partial_restore=True,
                    ),
                )
            verify_arrays(place, "params", restored, known)
            return jax.tree.leaves(restored)[0].astype(wanted.dtype, copy=False)

        params: Params = {}
        for piece in found:
            own = functools.partial(read, piece)
            params = with_subtree(params, jax.tree_util.tree_map_with_path(own, piece[2]))
    return params, int(metadata.get("step", 0))


@dataclasses.dataclass(frozen=True)
class FrozenParams:
    """The parameters of a finished run, for a model that is not trained; a `FrozenSource`.

    Attributes:
      path: MODEL_DIR, or one checkpoint below it.
      step: as for `find_checkpoint`.
    """

    path: str
    step: int | None = None

    def fingerprint(self) -> str:
        """A digest of the parameters' checksums.

        Raises:
          UserError: no checkpoint.
          Damaged: its metadata cannot be read.
        """
        return base.fingerprint(load_metadata(self.path, self.step))

    def host_params(self, model: Model) -> Params:
        """See `FrozenSource`."""
        return read_params(self.path, model, self.step)[0]
