"""Anomalous steps: a non-finite loss or gradient, or a loss spike, and the reaction to them.

The step itself decides on the devices whether it is anomalous, before its update is applied: then
parameters and optimizer state stay as they were, bit for bit. The policy's reaction decides what
follows: the batch is skipped, the run stops and keeps all that is needed to look into it, or it
returns to its last checkpoint and skips the data since.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from t5x_like.checkpoints import Checkpointer
from t5x_like.data import merge_states
from t5x_like.distributed.startup import gather_json
from t5x_like.errors import UserError
from t5x_like.host import disk_space, files
from t5x_like.protocols import Metrics
from t5x_like.training.state import TrainState

# Below MODEL_DIR: directories with an anomalous batch and the state before it.
DIRECTORY = "anomalies"
_BATCHES = "batch-*.npz"

IN_A_ROW, LOSS, GRADIENT_NORM = (
    "anomalies_in_a_row",
    "anomalous_loss",
    "anomalous_gradient_norm",
)


@dataclasses.dataclass(frozen=True)
class Skip:
    """The update is not applied, but counted; training continues with the next batch.

    Attributes:
      most_in_a_row: after so many consecutive anomalies the next stops the run, as with `Stop`.
    """

    most_in_a_row: int = 10


@dataclasses.dataclass(frozen=True)
class Stop:
    """The run ends, and saves the state before the step and its batch for `load_run`."""

    most_in_a_row: ClassVar[int] = 0


@dataclasses.dataclass(frozen=True)
class Restore:
    """The run returns to its last checkpoint, and skips the data since then and some more.

    PaLM went back about 100 steps and skipped 200 to 500 batches (Chowdhery et al. 2022, section
    5.1).

    Attributes:
      pass_over: batches after the anomalous one that are skipped too.
      most: returns in one start of the run; the next anomaly stops it, as with `Stop`.
    """

    pass_over: int = 0
    most: int = 5
    most_in_a_row: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.pass_over < 0 or self.most < 0:
            raise UserError(
                f"Restore.pass_over is {self.pass_over} and most {self.most}: both are 0 or more."
            )


@dataclasses.dataclass(frozen=True)
class LossSpike:
    """A loss far above those of the steps before it.

    Attributes:
      window: steps over which the mean and the standard deviation are taken; until there are so
        many, no loss is a spike.
      deviations: a loss is a spike if it exceeds the mean by so many standard deviations.
    """

    window: int = 128
    deviations: float = 6.0

    def __post_init__(self) -> None:
        if self.window < 2 or self.deviations <= 0:
            raise UserError(
                f"a loss spike of {self.deviations} deviations over {self.window} steps: the "
                "window is 2 or more, the deviations are above 0."
            )


@dataclasses.dataclass(frozen=True)
class AnomalyPolicy:
    """What counts as an anomaly besides a non-finite loss or gradient, and the reaction.

    Attributes:
      reaction: what happens at an anomaly.
      spike: the definition of a loss spike; None to detect none.
    """

    reaction: Skip | Stop | Restore = Stop()
    spike: LossSpike | None = None

    def guard(self, known: Mapping[str, Any] | None = None) -> "Guard":
        """Makes the detector's state, which the train step carries along.

        Args:
          known: from `Guard.known`, if steps were made before; of a longer window of losses,
            the newest count.
        """
        known = known or {"losses": [], "in_a_row": 0}
        window = self.spike.window if self.spike else 0
        losses = np.full(window, np.nan, np.float32)
        newest = np.asarray(known["losses"], np.float32)[-window or len(known["losses"]) :]
        losses[window - len(newest) :] = newest
        return Guard(np.zeros((), np.bool_), losses, np.int32(known["in_a_row"]))


@flax.struct.dataclass
class Guard:
    """The detector's state between two steps; a pytree.

    Attributes:
      halted: whether an anomaly has been met that stops or rewinds the run, bool scalar.
      losses: of the last steps, the newest last, NaN before there were any, float32 `[window]`.
      in_a_row: consecutive anomalous steps up to the last one, int32 scalar.
    """

    halted: Any
    losses: Any
    in_a_row: Any

    def known(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON: the losses so far, and `in_a_row`."""
        losses = np.asarray(self.losses)
        known = [float(loss) for loss in losses[np.isfinite(losses)]]
        return {"losses": known, "in_a_row": int(self.in_a_row)}


class Anomaly(Exception):
    """A step was anomalous, and the policy does not merely skip it.

    Attributes:
      step: its number.
      loss: its loss.
      gradient_norm: the norm of its gradient.
    """

    def __init__(self, step: int, loss: float, gradient_norm: float) -> None:
        super().__init__(f"the loss is {loss:.4g} and the gradient norm {gradient_norm:.4g}")
        self.step, self.loss, self.gradient_norm = step, loss, gradient_norm


def settle(
    policy: AnomalyPolicy, before: TrainState, after: TrainState, metrics: Metrics
) -> tuple[TrainState, Metrics]:
    """Returns the state after a step: `after`, or `before` where the step was anomalous.

    Args:
      policy: defines anomalies.
      before: the state that the step began with, with its guard.
      after: the state that it would end with.
      metrics: of the step, with `loss` and `gradient_norm`.

    Returns:
      The state; the metrics, without weight where the step does not count, with those named by
      `IN_A_ROW` (0 where the step is none or comes after the end), `LOSS` and `GRADIENT_NORM`.
    """
    guard = before.guard
    loss = metrics["loss"][0] / jnp.maximum(metrics["loss"][1], 1e-9)
    norm = metrics["gradient_norm"][0]
    anomalous = ~(jnp.isfinite(loss) & jnp.isfinite(norm))
    if policy.spike:
        # NaN, and so never exceeded, until the window is full.
        limit = guard.losses.mean() + policy.spike.deviations * guard.losses.std()
        anomalous |= loss > limit
    unmoved = anomalous | guard.halted
    losses = jnp.concatenate([guard.losses, loss[None].astype(jnp.float32)])[1:]
    held = jax.tree.map(
        lambda old, new: jnp.where(unmoved, old, new),
        (before.params, before.opt_state, before.carry, guard.losses),
        (after.params, after.opt_state, after.carry, losses),
    )
    counted = {
        name: (jnp.where(unmoved, 0, value), jnp.where(unmoved, 0, weight))
        for name, (value, weight) in metrics.items()
    }
    in_a_row = jnp.where(anomalous, guard.in_a_row + 1, 0)
    halted = guard.halted | (in_a_row > policy.reaction.most_in_a_row)
    params, opt_state, carry, losses = held
    state = after.replace(
        params=params, opt_state=opt_state, carry=carry, guard=Guard(halted, losses, in_a_row)
    )
    one, told = jnp.float32(1), jnp.where(guard.halted, 0, in_a_row).astype(jnp.float32)
    return state, {**counted, IN_A_ROW: (told, one), LOSS: (loss, one), GRADIENT_NORM: (norm, one)}


def keep_batch(
    run_directory: epath.Path,
    step: int,
    batch: Mapping[str, np.ndarray],
    position: Mapping[str, Any],
    state: TrainState,
    metadata: Mapping[str, Any],
) -> epath.Path:
    """Saves an anomalous step in a directory below MODEL_DIR that `load_run` opens.

    Args:
      run_directory: MODEL_DIR.
      step: the anomalous step.
      batch: this process's rows of its batch.
      position: the data position after the batch.
      state: the state before the step.
      metadata: as in a checkpoint.

    Returns:
      The directory.

    Raises:
      CannotWrite: it cannot be written.
    """
    directory = run_directory / DIRECTORY / str(step)
    with disk_space.explained(directory):
        _write_batch(run_directory, directory, batch)
    checkpointer = Checkpointer(str(directory))
    checkpointer.drop_after(-1)  # of an earlier start that ended at this step
    checkpointer.save(state, step - 1, merge_states(gather_json(position)), metadata)
    checkpointer.close()
    return directory


def _write_batch(
    run_directory: epath.Path, directory: epath.Path, batch: Mapping[str, np.ndarray]
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    name = _BATCHES.replace("*", f"{jax.process_index():05d}")
    with files.replacing(directory / name) as file:
        arrays = {feature: np.asarray(value) for feature, value in batch.items()}
        np.savez(file, **arrays)  # type: ignore[arg-type]
    config = run_directory / "config.gin"
    if jax.process_index() == 0 and config.exists():
        files.write_whole(directory / "config.gin", config.read_text())


def read_batch(directory: epath.Path) -> dict[str, np.ndarray]:
    """Reads the anomalous batch of all processes, int32 `[rows, length]` for each feature.

    Raises:
      UserError: the directory holds no anomalous batch.
    """
    parts = []
    for path in sorted(directory.glob(_BATCHES)):
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            parts.append({name: stored[name] for name in stored.files})
    if not parts:
        raise UserError(
            f"'{directory}' keeps no batch: give a directory below a run's '{DIRECTORY}'."
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
