"""Learning rates as functions of the step.

A schedule takes the number of steps already made (0 at the first) and works under `jax.jit`. Steps
whose update was skipped count, so that a decay ends with the run. A schedule knows the last step
that it is defined for, so that a longer run is refused at its start.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp

from t5x_like.errors import UserError
from t5x_like.protocols import Model

# The peak rate of AdamW for C FLOPs, 0.3118 C^-0.125: Bi et al. 2024 (DeepSeek LLM), section 3.1,
# equation 1, fitted to runs of 1e17 to 2e19 FLOPs.
RATE_COEFFICIENT = 0.3118
RATE_EXPONENT = -0.1250


class Schedule(Protocol):
    """A learning rate after `step` steps, a float32 scalar."""

    @property
    def last_step(self) -> int | None:
        """The number of updates that the schedule is made for; None for any number."""

    def __call__(self, step: jax.Array | int) -> jax.Array:
        """The learning rate."""


@dataclasses.dataclass(frozen=True)
class Constant:
    """A constant `peak`, after a linear warm-up over `warmup_steps`."""

    peak: float
    warmup_steps: int = 0
    last_step: int | None = None

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup_steps, self.last_step)

    def __call__(self, step: jax.Array | int) -> jax.Array:
        """The learning rate."""
        return self.peak * _rise(step, self.warmup_steps)


@dataclasses.dataclass(frozen=True)
class RSqrt:
    """An inverse square root decay from `warmup_steps` on.

    With `ramp`, after the linear warm-up of Vaswani et al. 2017, equation 3 (its peak is `(d_model
    * warmup_steps) ** -0.5`); without, after T5's constant `peak` (Raffel et al. 2020, section
    3.1.2: `1 / sqrt(max(n, k))`, so `peak = k ** -0.5`, which is 0.01 for k = 10,000).
    """

    peak: float
    warmup_steps: int = 10_000
    ramp: bool = False
    last_step: int | None = None

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup_steps, self.last_step)

    def __call__(self, step: jax.Array | int) -> jax.Array:
        """The learning rate."""
        warmup = max(self.warmup_steps, 1)
        decay = jnp.sqrt(warmup / jnp.maximum(jnp.asarray(step, jnp.float32) + 1, warmup))
        return self.peak * decay * (_rise(step, warmup) if self.ramp else 1.0)


@dataclasses.dataclass(frozen=True)
class Cosine:
    """A linear warm-up, then half a cosine down to `final_fraction * peak` at `total_steps`."""

    peak: float
    total_steps: int
    warmup_steps: int = 0
    final_fraction: float = 0.1

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup_steps, self.total_steps, self.final_fraction)

    @property
    def last_step(self) -> int:
        """`total_steps`."""
        return self.total_steps

    def __call__(self, step: jax.Array | int) -> jax.Array:
        """The learning rate."""
        done = _progress(step, self.warmup_steps, self.total_steps)
        shape = 0.5 * (1 + jnp.cos(jnp.pi * done))
        fraction = self.final_fraction + (1 - self.final_fraction) * shape
        return self.peak * _rise(step, self.warmup_steps) * fraction


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear warm-up, then a linear decay to `final_fraction * peak` at `total_steps`.

    The decay begins from `peak` where the warm-up ends. With `from_start` it is counted from step
    0, and the warm-up takes the place of its beginning, as in the released code of BERT: after
    10,000 steps of 1,000,000 the rate is 0.99 of `peak`. With `multiplied` too, the warm-up
    multiplies the beginning instead, as in the released code of ELECTRA.
    """

    peak: float
    total_steps: int
    warmup_steps: int = 0
    final_fraction: float = 0.0
    from_start: bool = False
    multiplied: bool = False

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup_steps, self.total_steps, self.final_fraction)
        if self.multiplied and not self.from_start:
            raise UserError(
                "Linear.multiplied is True without from_start, whose beginning it is of: set both."
            )

    @property
    def last_step(self) -> int:
        """`total_steps`."""
        return self.total_steps

    def __call__(self, step: jax.Array | int) -> jax.Array:
        """The learning rate."""
        done = _progress(step, 0 if self.from_start else self.warmup_steps, self.total_steps)
        fraction = 1 - (1 - self.final_fraction) * done
        if self.from_start and not self.multiplied:
            rising = jnp.asarray(step) < self.warmup_steps
            return self.peak * jnp.where(rising, _rise(step, self.warmup_steps), fraction)
        return self.peak * _rise(step, self.warmup_steps) * fraction


@dataclasses.dataclass(frozen=True)
class WarmupStableDecay:
    """A linear warm-up, a plateau, and a linear decay over the last `decay_steps`.

    Source: Hu et al. 2024 (MiniCPM), section 4.2; with the linear decay of Hägele et al. 2024.
    """

    peak: float
    total_steps: int
    decay_steps: int
    warmup_steps: int = 0
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup_steps, self.total_steps, self.final_fraction)
        if self.decay_steps < 0:
            raise UserError(f"DECAY_STEPS is {self.decay_steps}: it must be 0 or more.")
        _check(self.peak, self.warmup_steps + self.decay_steps, self.total_steps)

    @property
    def last_step(self) -> int:
        """`total_steps`."""
        return self.total_steps

    def __call__(self, step: jax.Array | int) -> jax.Array:
        """The learning rate."""
        fallen = _progress(step, self.total_steps - self.decay_steps, self.total_steps)
        fraction = 1 - (1 - self.final_fraction) * fallen
        return self.peak * _rise(step, self.warmup_steps) * fraction


@dataclasses.dataclass(frozen=True)
class SlantedTriangular:
    """A steep line up to `peak` over `cut_fraction` of the steps, then a long one down.

    It begins and ends at `peak / ratio`. Source: ULMFiT (Howard and Ruder 2018, equation 3).
    """

    peak: float
    total_steps: int
    cut_fraction: float = 0.1
    ratio: float = 32.0

    def __post_init__(self) -> None:
        _check(self.peak, 0, self.total_steps)
        if not 0 < self.cut_fraction < 1:
            raise UserError(
                f"SlantedTriangular.cut_fraction is {self.cut_fraction}: between 0 and 1 is needed."
            )
        if self.ratio < 1:
            raise UserError(f"SlantedTriangular.ratio is {self.ratio}: 1 or more is needed.")

    @property
    def last_step(self) -> int:
        """`total_steps`."""
        return self.total_steps

    def __call__(self, step: jax.Array | int) -> jax.Array:
        """The learning rate."""
        cut = max(math.floor(self.total_steps * self.cut_fraction), 1)
        done = jnp.asarray(step, jnp.float32)
        fallen = (done - cut) / (cut * (1 / self.cut_fraction - 1))
        share = jnp.clip(jnp.where(done < cut, done / cut, 1 - fallen), 0.0, 1.0)
        return self.peak * (1 + share * (self.ratio - 1)) / self.ratio


@dataclasses.dataclass(frozen=True)
class StepDecay:
    """A constant `peak` for some epochs, and from then on divided once for each epoch.

    Source: Zaremba et al. 2014, section 4.1. Where a recipe divides once the validation loss does
    not fall, the epoch at which that is so has to be known.

    Attributes:
      peak: of the first `constant_periods`.
      period: updates of an epoch.
      constant_periods: epochs before the rate is divided for the first time.
      divisor: what each epoch after these divides by.
    """

    peak: float
    period: int
    constant_periods: int = 6
    divisor: float = 1.2
    last_step: int | None = None

    def __post_init__(self) -> None:
        _check(self.peak, 0, self.last_step)
        for name, least in (("period", 1), ("constant_periods", 0)):
            if getattr(self, name) < least:
                raise UserError(
                    f"StepDecay.{name} is {getattr(self, name)}: {least} or more is needed."
                )
        if not 1 <= self.divisor < math.inf:
            raise UserError(
                f"StepDecay.divisor is {self.divisor}: a number of 1 or more is needed."
            )

    def __call__(self, step: jax.Array | int) -> jax.Array:
        """The learning rate."""
        epochs = jnp.asarray(step) // self.period + 1
        divided = jnp.maximum(epochs - self.constant_periods, 0).astype(jnp.float32)
        return self.peak * jnp.asarray(1 / self.divisor, jnp.float32) ** divided


@dataclasses.dataclass(frozen=True)
class Squared:
    """The square of another schedule: PaLM's weight decay (Chowdhery et al. 2022, section 5)."""

    schedule: Schedule

    @property
    def last_step(self) -> int | None:
        """That of `schedule`."""
        return self.schedule.last_step

    def __call__(self, step: jax.Array | int) -> jax.Array:
        """The square of the learning rate."""
        return jnp.square(self.schedule(step))


def planned_rate(
    model: Model,
    feature_lengths: Mapping[str, int] | None,
    batch_size: int,
    train_steps: int,
    factor: float = 1.0,
    maximum: float = 0.02,
) -> float:
    """A peak learning rate for AdamW by the compute of a run, C = 6 N D FLOPs.

    `RATE_COEFFICIENT * C ** RATE_EXPONENT`. N is the number of parameters that a token uses, D the
    target tokens of all rows in full.

    Args:
      model: counts its parameters; nothing is allocated.
      feature_lengths: of the task's features; D counts `targets`, or all where there are none.
        None where no task is known, as in `inspect` and `compile`, whose numbers the rate does not
        change: the rate is `maximum`.
      batch_size: rows.
      train_steps: updates.
      factor: multiplies the law, for other optimizers.
      maximum: upper limit of the rate.

    Returns:
      The rate, rounded to three digits.

    Raises:
      UserError: a length or number is not above 0.
    """
    parameters = getattr(model, "active_parameter_count", model.parameter_count)()
    if feature_lengths is None:
        return maximum
    for name, value in {
        **{f"TASK_FEATURE_LENGTHS['{name}']": length for name, length in feature_lengths.items()},
        "BATCH_SIZE": batch_size,
        "TRAIN_STEPS": train_steps,
    }.items():
        if value < 1:
            raise UserError(f"{name} is {value}: it must be 1 or more.")
    row = feature_lengths.get("targets") or sum(feature_lengths.values())
    flops = 6.0 * parameters * row * batch_size * train_steps
    return min(float(f"{factor * RATE_COEFFICIENT * flops**RATE_EXPONENT:.3g}"), maximum)


def planned_warmup(train_steps: int, fraction: float = 0.05, maximum: int = 2000) -> int:
    """A `fraction` of a run's updates, at most `maximum`, to warm up in."""
    return max(1, min(round(fraction * train_steps), maximum))


def _rise(step: jax.Array | int, warmup_steps: int) -> jax.Array:
    """The warm-up factor: 1 / warmup at the first update, 1 from the last one of the warm-up on."""
    return jnp.minimum(1.0, (jnp.asarray(step, jnp.float32) + 1) / max(warmup_steps, 1))


def _progress(step: jax.Array | int, start: int, end: int) -> jax.Array:
    """The share of the updates from `start` to `end` that has been made, between 0 and 1."""
    done = (jnp.asarray(step, jnp.float32) - start) / max(end - start, 1)
    return jnp.clip(done, 0.0, 1.0)


def _check(
    peak: float, warmup_steps: int, total_steps: int | None, final_fraction: float = 0.0
) -> None:
    if not 0 < peak < math.inf:
        raise UserError(f"learning rate {peak}: it must be above 0 and finite.")
    if warmup_steps < 0:
        raise UserError(f"WARMUP_STEPS is {warmup_steps}: it must be 0 or more.")
    if not 0 <= final_fraction <= 1:
        raise UserError(f"final_fraction is {final_fraction}: it must be from 0 to 1.")
    if total_steps is not None and warmup_steps > total_steps:
        raise UserError(
            f"a schedule of {total_steps} steps cannot hold {warmup_steps} steps of warm-up and "
            f"decay: lower WARMUP_STEPS (and DECAY_STEPS, if there are any), or raise TRAIN_STEPS "
            f"to {warmup_steps}."
        )
