"""Saves the training state in the background, and restores it bit for bit."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

from t5x_like.checkpoints import base, json_leak
from t5x_like.checkpoints.checksums import checksums
from t5x_like.checkpoints.contents import (
    json_checksum,
    read_arrays,
    read_json,
    read_metadata,
    require_training_state,
    with_checksums,
)
from t5x_like.checkpoints.layout import DIRECTORY, set_aside, unfinished
from t5x_like.checkpoints.policy import CheckpointPolicy
from t5x_like.checkpoints.quiet import say_once
from t5x_like.checkpoints.shapes import check_parameters
from t5x_like.distributed.startup import gather_json
from t5x_like.host import disk_space, files, memory
from t5x_like.partitioning import path_name
from t5x_like.training.state import TrainState


class Checkpointer:
    """Saves and restores the training states of one run.

    Args:
      model_dir: the run's MODEL_DIR.
      policy: which checkpoints are kept; the default policy when None.
      read_only: whether writing is forbidden.

    Attributes:
      unfinished: names of checkpoints whose writing was interrupted.

    Raises:
      UserError: it cannot be written.
    """

    def __init__(
        self, model_dir: str, policy: CheckpointPolicy | None = None, *, read_only: bool = False
    ) -> None:
        say_once()
        json_leak.contain()
        policy = policy or CheckpointPolicy()
        directory = files.location(model_dir) / DIRECTORY
        if not read_only:
            files.make_writable(directory, "the folder of checkpoints", jax.process_index())
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation.AnyPreservationPolicy(
                [policy.kept(), _Links(directory)]
            ),
            enable_async_checkpointing=True,
            async_options=ocp.AsyncOptions(
                post_finalization_callback=memory.give_back_freed_memory,
                # Or its threads would wait five minutes for a directory that cannot be made, and
                # the process with them.
                create_directories_asynchronously=False,
            ),
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        self._policy = policy
        self._directory = directory
        # Before Orbax removes them.
        self.unfinished = unfinished(self._directory)
        self._manager = ocp.CheckpointManager(
            self._directory, options=options, item_handlers=_handlers()
        )

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def drop_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps; of one that is a link, the link."""
        for later in self.steps():
            if later <= step:
                continue
            if _is_link(self._directory / str(later)):
                if jax.process_index() == 0:
                    (self._directory / str(later)).unlink()
                self._manager.reload()
            else:
                self._manager.delete(later)

    def set_aside(self, step: int) -> epath.Path:
        """Renames a damaged checkpoint, so that it is not found any more; returns its new path.

        All processes of a run must call it.
        """
        damaged, primary = self._directory / str(step), jax.process_index() == 0
        target = gather_json(str(set_aside(damaged)) if primary else None)[0]
        self._manager.reload()
        return epath.Path(target)

    def save(
        self,
        state: TrainState,
        step: int,
        data: Mapping[str, Any],
        metadata: Mapping[str, Any],
        measured: Mapping[str, float] | None = None,
    ) -> None:
        """Starts to write a checkpoint; returns when the arrays are copied off the devices.

        Args:
          state: what to save.
          step: updates made.
          data: the position in the data.
          metadata: saved with `step` and the checksums.
          measured: name to value of the metrics measured at this step, for `best_metric`.

        Raises:
          CannotWrite: it cannot be written, or the previous one could not be.
        """
        if step == self._manager.latest_step():
            return
        metadata = {"step": step, **metadata}
        if metadata.get(base.BASE):
            metadata[base.BASE] = base.with_place(metadata[base.BASE], self._directory / str(step))
        own = base.own_parameters(state.params, metadata)
        items = {"params": own, "optimizer": _named(state.opt_state)}
        if state.carry is not None:
            items["carry"] = _named(state.carry)
        data = dict(data)
        sums: dict[str, Any] = {name: checksums(tree) for name, tree in items.items()}
        sums["data"] = json_checksum(data)
        needed = _bytes_here(items)
        with disk_space.explained(self._directory, needed):
            # Orbax reports an error of the previous save only when the next one begins.
            self._manager.wait_until_finished()
            disk_space.require(self._directory, needed)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    **{name: ocp.args.PyTreeSave(tree) for name, tree in items.items()},
                    data=ocp.args.JsonSave(data),
                    metadata=ocp.args.JsonSave(with_checksums(metadata, sums)),
                ),
                metrics=self._policy.competing(measured or {}),
                force=True,
            )

    def restore(
        self, step: int, target: TrainState
    ) -> tuple[TrainState, dict[str, Any], dict[str, Any]]:
        """Restores the state, the data position and the metadata of `step`.

        Args:
          step: a checkpoint's step.
          target: `train_state.abstract_state`, which says where the arrays go.

        Raises:
          UserError: the checkpoint is of another model or optimizer, or of parameters alone.
          Damaged: it cannot be read, or is not what was saved.
        """
        directory = self._directory / str(step)
        require_training_state(directory)
        metadata = read_metadata(directory)
        found = base.check_pieces(directory, metadata, target.params)
        targets = {"optimizer": _named(target.opt_state)}
        if target.carry is not None:
            targets["carry"] = _named(target.carry)
        for item, wanted in targets.items():
            check_parameters(wanted, directory, item=item)
        data = read_json(directory, "data", metadata)
        restored = {
            item: read_arrays(directory, item, wanted, metadata) for item, wanted in targets.items()
        }
        opt_state, carry = (
            jax.tree_util.tree_map_with_path(
                lambda path, _, item=item: restored[item][_flat_name(path)], tree
            )
            for item, tree in (("optimizer", target.opt_state), ("carry", target.carry))
        )
        count = jax.device_put(jax.numpy.int32(step), target.step.sharding)
        state = TrainState(count, base.read_pieces(found), opt_state, carry=carry)
        return state, data, metadata

    def wait(self) -> None:
        """Waits until every save is on disk."""
        with disk_space.explained(self._directory):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the saves, and ends the background threads."""
        with disk_space.explained(self._directory):
            self._manager.close()


@dataclasses.dataclass
class _Links(preservation.PreservationPolicy):
    """Keeps checkpoints that are links: what they lead to is not this run's to delete."""

    directory: epath.Path

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Whether each of them is a link."""
        return [_is_link(self.directory / str(found.step)) for found in checkpoints]


def _is_link(path: epath.Path) -> bool:
    return not files.is_remote(path) and os.path.islink(path)


def _handlers() -> dict[str, ocp.CheckpointHandler]:
    """Handlers that write each item without files of the arrays' shardings.

    The reader decides where an array is placed. Those files would bind it to the devices that wrote
    it, and cost a third of the time of a save of small arrays.
    """
    arrays = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, ocp.type_handlers.ArrayHandler(enable_write_sharding_file=False))
    )
    return {
        "params": ocp.PyTreeCheckpointHandler(type_handler_registry=arrays),
        "optimizer": ocp.PyTreeCheckpointHandler(type_handler_registry=arrays),
        "carry": ocp.PyTreeCheckpointHandler(type_handler_registry=arrays),
        "data": ocp.JsonCheckpointHandler(),
        "metadata": ocp.JsonCheckpointHandler(),
    }


def _named(opt_state: Any) -> dict[str, Any]:
    """Names the optimizer's arrays; a plain dictionary survives changes of optax's classes."""
    return {_flat_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(opt_state)}


def _flat_name(path: Any) -> str:
    return path_name(path).replace("/", ".")


def _bytes_here(items: Mapping[str, Any]) -> int:
    """Bytes of arrays that this process writes; compression saves little of them."""
    return sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(dict(items))
        for shard in leaf.addressable_shards
        if shard.replica_id == 0
    )
