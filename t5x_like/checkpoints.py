"""Checkpoints: written by Orbax in the background, found and restored by themselves.

`MODEL_DIR/checkpoints/STEP/` holds four items: `params` and `optimizer` (arrays), `data` (the
position in the data, JSON that does not depend on the number of processes) and `metadata`
(step, seed, tokens and seconds so far, versions); those of a model that was imported, `params`
and `metadata` alone. A directory is renamed into place only when
it is whole; in an object store, `commit_success.txt` is written into it last.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

from t5x_like import storage, train_state
from t5x_like.errors import UserError
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner, path_name, split_boxes
from t5x_like.protocols import LanguageModel, Params
from t5x_like.subtrees import matching, subtree
from t5x_like.train_state import TrainState

DIRECTORY = "checkpoints"


@dataclasses.dataclass(frozen=True)
class CheckpointPolicy:
    """When checkpoints are written and which are kept.

    Attributes:
      period: updates between two checkpoints; the last update always has one.
      keep: how many of the newest stay; None for all.
      keep_period: checkpoints whose step is a multiple of this stay for good.
      steps: updates after which there is a checkpoint too, which stays for good.
    """

    period: int = 1000
    keep: int | None = 3
    keep_period: int | None = None
    steps: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.period < 1 or (self.keep is not None and self.keep < 1):
            raise UserError(
                f"checkpoints every {self.period} steps keeping {self.keep}: both are 1 or more."
            )

    def due(self, step: int) -> bool:
        """Whether there is a checkpoint after this update."""
        return step % self.period == 0 or step in self.steps

    def kept(self) -> preservation.PreservationPolicy:
        """What is not deleted, as Orbax has it."""
        policies: list[preservation.PreservationPolicy] = [
            preservation.LatestN(self.keep),
            preservation.CustomSteps(self.steps),
        ]
        if self.keep_period:
            policies.append(preservation.EveryNSteps(self.keep_period))
        return preservation.AnyPreservationPolicy(policies)


@dataclasses.dataclass(frozen=True)
class Branch:
    """The step of another run from which a run goes on: its state and its place in the data.

    The loss of one long run with a constant rate, and short decays from several of its steps,
    cost less than as many runs (Hägele et al. 2024).

    Attributes:
      model_dir: of the other run.
      step: of one of its checkpoints.
    """

    model_dir: str
    step: int


@dataclasses.dataclass(frozen=True)
class InitialCheckpoint:
    """Where fine-tuning takes its parameters from.

    Attributes:
      path: a MODEL_DIR (its newest checkpoint) or one checkpoint directory.
      include: regular expressions, searched in names such as `decoder/layers/mlp/wi`; the
        parameters that match one are taken, the others start fresh. None takes all.
    """

    path: str
    include: Sequence[str] | None = None


class Checkpointer:
    """Saves and restores the states of one run."""

    def __init__(
        self, model_dir: str, policy: CheckpointPolicy | None = None, *, read_only: bool = False
    ) -> None:
        policy = policy or CheckpointPolicy()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy.kept(),
            enable_async_checkpointing=True,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        directory = storage.location(model_dir) / DIRECTORY
        self._manager = ocp.CheckpointManager(directory, options=options)

    def latest_step(self) -> int | None:
        """The newest whole checkpoint's step."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """The steps of all whole checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def drop_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps."""
        for later in self.steps():
            if later > step:
                self._manager.delete(later)

    def save(
        self, state: TrainState, step: int, data: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        """Starts to write; returns when the arrays have been copied off the device."""
        if step == self._manager.latest_step():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                optimizer=ocp.args.StandardSave(_named(state.opt_state)),
                data=ocp.args.JsonSave(dict(data)),
                metadata=ocp.args.JsonSave({"step": step, **metadata}),
            ),
            force=True,
        )

    def restore(
        self, step: int, target: TrainState
    ) -> tuple[TrainState, dict[str, Any], dict[str, Any]]:
        """The state, the data position and the metadata of `step`.

        Args:
          step: a checkpoint's step.
          target: `train_state.abstract_state`, which says where the arrays go.

        Raises:
          UserError: the checkpoint is of another architecture or optimizer.
        """
        directory = epath.Path(self._manager.directory) / str(step)
        if not (directory / "optimizer").is_dir():
            raise UserError(
                f"checkpoint '{directory}' holds parameters alone: start from it with "
                "INITIAL_CHECKPOINT_PATH and another MODEL_DIR."
            )
        check_parameters(target.params, directory)
        check_parameters(_named(target.opt_state), directory, item="optimizer")
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(target.params),
                optimizer=ocp.args.StandardRestore(_named(target.opt_state)),
                data=ocp.args.JsonRestore(),
                metadata=ocp.args.JsonRestore(),
            ),
        )
        opt_state = jax.tree_util.tree_map_with_path(
            lambda path, _: restored["optimizer"][_flat_name(path)], target.opt_state
        )
        count = jax.device_put(jax.numpy.int32(step), target.step.sharding)
        state = TrainState(count, restored["params"], opt_state)
        return state, restored["data"], restored["metadata"]

    def wait(self) -> None:
        """Returns when everything saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends the background threads."""
        self._manager.close()


def checkpoint_steps(model_dir: str) -> list[int]:
    """The steps of the whole checkpoints below MODEL_DIR, rising."""
    directory = storage.location(model_dir) / DIRECTORY
    if not directory.is_dir():
        return []
    found = [path for path in directory.iterdir() if path.name.isdecimal()]
    # An object store cannot rename; there one last file says that all is written.
    return sorted(int(path.name) for path in found if ocp.utils.is_checkpoint_finalized(path))


def find_checkpoint(path: str, step: int | None = None) -> epath.Path:
    """The checkpoint directory that `path` means.

    Args:
      path: a MODEL_DIR or one of the directories below its `checkpoints`.
      step: which checkpoint of a MODEL_DIR; None for the newest.

    Raises:
      UserError: there is none.
    """
    directory = storage.location(path)
    if (directory / "params").is_dir():
        return directory
    steps = checkpoint_steps(path)
    if not steps:
        raise UserError(
            f"no checkpoint in '{path}': give a MODEL_DIR that was trained, or one directory "
            f"below its '{DIRECTORY}'."
        )
    if step is not None and step not in steps:
        raise UserError(
            f"'{path}' has no checkpoint of step {step}; it has {', '.join(map(str, steps))}."
        )
    return directory / DIRECTORY / str(steps[-1] if step is None else step)


def load_params(
    path: str,
    model: LanguageModel,
    partitioner: Partitioner | None = None,
    step: int | None = None,
) -> tuple[Params, int]:
    """The parameters of a checkpoint, and its step.

    Args:
      path: as for `find_checkpoint`.
      model: whose parameters these are.
      partitioner: where they go; the default lays them out for all devices.
      step: as for `find_checkpoint`.

    Raises:
      UserError: no checkpoint, or one of another architecture.
    """
    directory = find_checkpoint(path, step)
    target = _placed_params(model, partitioner or Partitioner())
    check_parameters(target, directory)
    params = _restore_arrays(directory, target)
    return params, int(load_metadata(str(directory)).get("step", 0))


def load_metadata(path: str, step: int | None = None) -> dict[str, Any]:
    """The metadata of a checkpoint: `step`, `seed`, `tokens`, `seconds`, versions."""
    directory = find_checkpoint(path, step) / "metadata"
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return reader.restore(directory) if directory.is_dir() else {}


def branch_state(
    branch: Branch, target: TrainState
) -> tuple[TrainState, dict[str, Any], dict[str, Any]]:
    """As `Checkpointer.restore`, from another run.

    Raises:
      UserError: the other run has no such checkpoint, or is of another architecture.
    """
    find_checkpoint(branch.model_dir, branch.step)
    other = Checkpointer(branch.model_dir, read_only=True)
    try:
        return other.restore(branch.step, target)
    finally:
        other.close()


def initial_state(
    source: InitialCheckpoint,
    model: LanguageModel,
    optimizer: Optimizer,
    partitioner: Partitioner,
    seed: int,
) -> TrainState:
    """A state at step 0 whose parameters come, in whole or in part, from `source`.

    Raises:
      UserError: no checkpoint, another architecture, or a regular expression that is wrong
        or matches nothing.
    """
    if source.include is None:
        params, _ = load_params(source.path, model, partitioner)
        return train_state.state_from_params(params, model, optimizer, partitioner)
    directory = find_checkpoint(source.path)
    target = _placed_params(model, partitioner)
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(target)]
    taken = matching(names, source.include)
    wanted = subtree(target, taken)
    check_parameters(wanted, directory, whole=False)
    loaded = {
        path_name(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(_restore_arrays(directory, wanted))
    }
    fresh = train_state.create_state(model, optimizer, partitioner, seed).params
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: loaded.get(path_name(path), leaf), fresh
    )
    return train_state.state_from_params(params, model, optimizer, partitioner)


def check_parameters(
    target: Any, directory: epath.Path, *, item: str = "params", whole: bool = True
) -> None:
    """Compares shapes with what a checkpoint holds, before any array is read.

    Args:
      target: a tree of anything with a shape.
      directory: the checkpoint.
      item: which part of it.
      whole: whether what the checkpoint has beside `target` is a mismatch too.

    Raises:
      UserError: the first array that is missing, extra or of another shape.
    """
    stored = _stored_shapes(directory / item)
    wanted = {
        path_name(path): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(target)
    }
    what = "parameter" if item == "params" else f"{item} array"
    for name, shape in wanted.items():
        if name not in stored:
            raise UserError(
                f"checkpoint '{directory}' has no {what} '{name}', which is {shape} here: it is "
                "of another architecture or optimizer."
            )
        if stored[name] != shape:
            raise UserError(
                f"checkpoint '{directory}' is of another architecture: {what} '{name}' is "
                f"{stored[name]} there and {shape} here."
            )
    if extra := sorted(set(stored) - set(wanted)) if whole else []:
        raise UserError(
            f"checkpoint '{directory}' has a {what} '{extra[0]}' {stored[extra[0]]} that "
            "this run lacks: it is of another architecture or optimizer."
        )


def _stored_shapes(item: epath.Path) -> dict[str, tuple[int, ...]]:
    metadata = ocp.PyTreeCheckpointHandler().metadata(item)
    return {
        path_name(path): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(metadata.tree)
    }


def _restore_arrays(directory: epath.Path, target: Any) -> Any:
    """The arrays of `target`, a subtree of the checkpoint's `params`, placed as it says."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        return reader.restore(
            directory / "params",
            args=ocp.args.PyTreeRestore(
                item=target,
                restore_args=ocp.checkpoint_utils.construct_restore_args(target),
                partial_restore=True,
            ),
        )


def _placed_params(model: LanguageModel, partitioner: Partitioner) -> Any:
    shapes, _ = split_boxes(model.abstract_params())
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        partitioner.param_shardings(model),
    )


def _named(opt_state: Any) -> dict[str, Any]:
    """The optimizer's arrays by name: a plain dictionary survives changes of optax's classes."""
    return {_flat_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(opt_state)}


def _flat_name(path: Any) -> str:
    return path_name(path).replace("/", ".")
