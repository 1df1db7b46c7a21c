"""When checkpoints are written, and which of them are kept."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

from t5x_like.errors import UserError


@dataclasses.dataclass(frozen=True)
class CheckpointPolicy:
    """When checkpoints are written and which are kept.

    Attributes:
      period: updates between two checkpoints; the last update always has one.
      keep: how many of the newest stay; None for all.
      keep_period: checkpoints whose step is a multiple of this stay for good.
      steps: updates after which there is a checkpoint too, which stays for good.
      best_metric: the checkpoints at which this was best stay too, such as `validation/loss`;
        only those of steps at which it was measured, and was finite, compete.
      keep_best: how many of them.
      best_is_highest: whether the best is the highest, and not the lowest.
    """

    period: int = 1000
    keep: int | None = 3
    keep_period: int | None = None
    steps: Sequence[int] = ()
    best_metric: str | None = None
    keep_best: int = 1
    best_is_highest: bool = False

    def __post_init__(self) -> None:
        if self.period < 1 or (self.keep is not None and self.keep < 1):
            raise UserError(
                f"checkpoints every {self.period} steps keeping {self.keep}: both are 1 or more."
            )
        for name in ("keep_period", "keep_best"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"CheckpointPolicy.{name} is {value}: 1 or more is needed.")

    def due(self, step: int) -> bool:
        """Whether a checkpoint is written after this update."""
        return step % self.period == 0 or step in self.steps

    def kept(self) -> preservation.PreservationPolicy:
        """Translates the policy into Orbax's preservation policy."""
        policies: list[preservation.PreservationPolicy] = [
            preservation.LatestN(self.keep),
            preservation.CustomSteps(self.steps),
        ]
        if self.keep_period:
            policies.append(preservation.EveryNSteps(self.keep_period))
        if self.best_metric:
            best = preservation.BestN(
                get_metric_fn=self._value,
                reverse=not self.best_is_highest,
                n=self.keep_best,
                keep_checkpoints_without_metrics=False,
            )
            policies.append(best)
        return preservation.AnyPreservationPolicy(policies)

    def competing(self, measured: Mapping[str, float]) -> dict[str, float] | None:
        """Selects `best_metric` from the metrics of a step.

        None if it was not measured, or is not finite: a diverged model is never the best.

        Raises:
          UserError: something was measured, but nothing of this name.
        """
        if self.best_metric is None or not measured:
            return None
        if self.best_metric not in measured:
            raise UserError(
                f"CheckpointPolicy.best_metric is '{self.best_metric}': measured are "
                f"{', '.join(sorted(measured))}."
            )
        value = measured[self.best_metric]
        return {self.best_metric: value} if math.isfinite(value) else None

    def _value(self, measured: Mapping[str, float]) -> float:
        value = measured[str(self.best_metric)]
        # Earlier versions wrote those too, and NaN has no place in an order.
        worst = -math.inf if self.best_is_highest else math.inf
        return value if math.isfinite(value) else worst
