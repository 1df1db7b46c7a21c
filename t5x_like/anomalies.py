"""What a run does when a step goes wrong: a loss or gradient that is no number, a loss spike.

Whether a step is anomalous is decided on the devices, in the step itself, before its update
counts: the parameters and the optimizer's state are then what they were, bit for bit. What
happens next is the policy's reaction: the batch is passed over, the run stops with all that is
needed to look into it, or it goes back to its last checkpoint and passes over the data since.
"""

import dataclasses
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from t5x_like.errors import UserError
from t5x_like.protocols import Metrics
from t5x_like.train_state import TrainState

FLAG, LOSS, GRADIENT_NORM = "anomaly", "anomalous_loss", "anomalous_gradient_norm"


@dataclasses.dataclass(frozen=True)
class Skip:
    """The update is left out and counted; training goes on with the next batch.

    Attributes:
      most_in_a_row: of so many one after the other the run stops, as with `Stop`.
    """

    most_in_a_row: int = 10
    halts: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class Stop:
    """The run ends; the state before the step and its batch are written for a notebook."""

    halts: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class Restore:
    """Back to the last checkpoint; the data since then, and some more, are passed over.

    PaLM went back about 100 steps and passed over 200 to 500 batches (Chowdhery et al. 2022,
    section 5.1).

    Attributes:
      pass_over: batches after the anomalous one that are passed over too.
      most: of so many returns in one start of the run the next anomaly stops it, as with `Stop`.
    """

    pass_over: int = 0
    most: int = 5
    halts: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class LossSpike:
    """A loss far above those of the steps before it.

    Attributes:
      window: steps that the mean and the standard deviation are taken of; nothing is a spike
        before there are so many.
      deviations: a loss is a spike above the mean and so many standard deviations.
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
    """What counts as an anomaly beside a loss or gradient that is no number, and what is done.

    Attributes:
      reaction: what is done.
      spike: what is a loss spike; None to look for none.
    """

    reaction: Skip | Stop | Restore = Stop()
    spike: LossSpike | None = None

    def guard(self, recent_losses: Any = ()) -> "Guard":
        """What the step carries along.

        Args:
          recent_losses: of the last steps, from `Guard.known`; of another window, the newest.
        """
        window = self.spike.window if self.spike else 0
        losses = np.full(window, np.nan, np.float32)
        known = np.asarray(recent_losses, np.float32)[-window or len(recent_losses) :]
        losses[window - len(known) :] = known
        return Guard(halted=np.zeros((), np.bool_), losses=losses)


@flax.struct.dataclass
class Guard:
    """What the steps before tell the next one; a pytree.

    Attributes:
      halted: whether an anomaly has been met that ends the run or takes it back, bool scalar.
      losses: of the last steps, the newest last, NaN before there were any, float32 `[window]`.
    """

    halted: Any
    losses: Any

    def known(self) -> list[float]:
        """The losses that there are."""
        losses = np.asarray(self.losses)
        return [float(loss) for loss in losses[np.isfinite(losses)]]


class Anomaly(Exception):
    """A step went wrong, and the policy does not just pass over it.

    Attributes:
      step: which.
      loss: its loss.
      gradient_norm: of its gradient.
    """

    def __init__(self, step: int, loss: float, gradient_norm: float) -> None:
        super().__init__(f"the loss is {loss:.4g} and the gradient norm {gradient_norm:.4g}")
        self.step, self.loss, self.gradient_norm = step, loss, gradient_norm


def settle(
    policy: AnomalyPolicy, before: TrainState, after: TrainState, metrics: Metrics
) -> tuple[TrainState, Metrics]:
    """The state after a step: `after`, or where the step was anomalous what `before` holds.

    Args:
      policy: what is an anomaly.
      before: the state that the step began with, with its guard.
      after: the state that it would end with.
      metrics: of the step, with `loss` and `gradient_norm`.

    Returns:
      The state; the metrics, without weight where the step does not count, with those named by
      `FLAG`, `LOSS` and `GRADIENT_NORM`.
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
        (before.params, before.opt_state, guard.losses),
        (after.params, after.opt_state, losses),
    )
    counted = {
        name: (jnp.where(unmoved, 0, value), jnp.where(unmoved, 0, weight))
        for name, (value, weight) in metrics.items()
    }
    one = jnp.float32(1)
    flag = jnp.float32(anomalous & ~guard.halted)
    state = TrainState(
        after.step,
        held[0],
        held[1],
        Guard(halted=guard.halted | (anomalous & policy.reaction.halts), losses=held[2]),
    )
    return state, {**counted, FLAG: (flag, one), LOSS: (loss, one), GRADIENT_NORM: (norm, one)}
