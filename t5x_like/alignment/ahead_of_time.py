"""The programs of an iteration for devices that are not here, as `compile` asks for them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from t5x_like.alignment.advantages import FixedKL, KLCoefficient
from t5x_like.alignment.algorithms import PPO, Algorithm
from t5x_like.alignment.learning import jitted_update
from t5x_like.alignment.rollouts import Rollout, jitted_rollout
from t5x_like.anomalies import AnomalyPolicy
from t5x_like.errors import UserError
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import LearnsFromRewards, Model
from t5x_like.training.step import abstract_step_state

Program = Literal["rollout", "update"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignmentPrograms:
    """One of the two programs of `align`'s iterations; fulfils what `aot.compile_step` asks for.

    Attributes:
      max_new_tokens: most tokens of an answer.
      program: "update", all updates of an iteration; or "rollout", which draws its answers.
      algorithm: as for `align`.
      kl: as for `align`.
    """

    max_new_tokens: int
    program: Program = "update"
    algorithm: Algorithm = dataclasses.field(default_factory=PPO)
    kl: KLCoefficient = dataclasses.field(default_factory=FixedKL)

    def __post_init__(self) -> None:
        if self.program not in get_args(Program):
            raise UserError(f"PROGRAM is {self.program!r}: 'update' or 'rollout'.")

    def lower(
        self,
        model: Model,
        optimizer: Optimizer,
        partitioner: Partitioner,
        batch: Mapping[str, Any],
        *,
        num_microbatches: int = 1,
    ) -> jax.stages.Lowered:
        """The program for prompts like this batch, ready to be compiled; see `lower_train_step`.

        Raises:
          UserError: the model does not learn from rewards.
        """
        if not isinstance(model, LearnsFromRewards):
            raise UserError(
                f"a {type(model).__name__} does not learn from rewards: give "
                "@actor_critic.ActorCritic(), as runs/compile_align.gin does."
            )
        policy = AnomalyPolicy()
        state = abstract_step_state(model, optimizer, partitioner, batch, policy)
        rows, columns = batch["decoder_input_tokens"].shape

        # Shapes stand for arrays here.
        def divided(*shape: int, dtype: Any = jnp.int32) -> Any:
            return jax.ShapeDtypeStruct(shape, dtype, sharding=partitioner.batch_sharding)

        if self.program == "rollout":
            drawing = jitted_rollout(
                model, partitioner, max_new_tokens=self.max_new_tokens, eos_id=(1,), seed=0
            )
            prompts = {name: divided(rows, columns) for name in batch}
            with partitioner.activate():
                return drawing.lower(state.params, state.frozen, prompts, state.step)
        learning = jitted_update(
            model,
            optimizer,
            partitioner,
            algorithm=self.algorithm,
            kl=self.kl,
            num_microbatches=num_microbatches,
            anomaly_policy=policy,
        )
        rollout = Rollout(
            {name: divided(rows, columns + self.max_new_tokens) for name in batch},
            divided(rows, self.max_new_tokens, dtype=jnp.float32),
            divided(rows, dtype=jnp.bool_),
            None if model.reward is None else divided(rows, dtype=jnp.float32),
        )
        with partitioner.activate():
            return learning.lower(state, rollout, divided(rows, dtype=jnp.float32), {})

    def model_flops(self, model: Model, shapes: Mapping[str, tuple[int, ...]]) -> float:
        """FLOPs of the program: a forward pass to draw; two, and the updates, to learn."""
        rows, columns = shapes["decoder_input_tokens"]
        row = {"decoder_input_tokens": (rows, columns + self.max_new_tokens - 1)}
        once = model.step_flops(row)
        return once / 3 if self.program == "rollout" else once * (2 / 3 + self.algorithm.epochs)
