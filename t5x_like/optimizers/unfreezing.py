"""Parameters that are trained from a later step on: layers are unfrozen one after the other."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from t5x_like.errors import UserError
from t5x_like.optimizers.depths import check_layers, distances
from t5x_like.optimizers.optimizer import Optimizer, check_no_average


class UnfreezingState(NamedTuple):
    """What gradual unfreezing keeps.

    Attributes:
      steps: made so far, skipped updates included.
      ages: int32 `[groups]`, the updates that each group has had.
      rule: the optimizer's own state.
    """

    steps: optax.ScaleByScheduleState
    ages: jax.Array
    rule: Any


def gradual_unfreezing(
    optimizer: Optimizer,
    steps_per_layer: int,
    first_layers: int = 0,
    embeddings: str = "embed",
    embeddings_train: bool = False,
) -> Optimizer:
    """Another optimizer, under which layers begin to be trained one by one, the last one first.

    What lies above the layers is trained from the beginning, and with it the last `first_layers`.
    After every `steps_per_layer` steps the next layer below joins them, and below the first layer
    the embeddings. Until then a parameter neither moves nor decays: its gradient is taken as 0,
    also in the norm that gradients are clipped by. Adam corrects the bias of its moments by the
    updates that a parameter has had since it was unfrozen. Each stack of layers counts its own.

    Sources: ULMFiT (Howard and Ruder 2018, section 3.3), an epoch a layer, which begins with the
    head alone; T5's (Raffel et al. 2020, section 3.5.1), which begins with the last layer, and
    trains the embeddings throughout.

    Args:
      optimizer: what updates those that are trained.
      steps_per_layer: steps from one layer to the next.
      first_layers: how many of the last layers are trained from the beginning.
      embeddings: regular expression that is found in the paths of parameters below the first layer.
      embeddings_train: whether these are trained from the beginning.

    Raises:
      UserError: no steps, a negative number of layers; when built, no layers.
    """
    check_no_average(optimizer, "gradual_unfreezing")
    if steps_per_layer < 1:
        raise UserError(
            f"gradual_unfreezing.steps_per_layer is {steps_per_layer}: 1 or more is needed."
        )
    if first_layers < 0:
        raise UserError(f"gradual_unfreezing.first_layers is {first_layers}: 0 or more is needed.")

    def build(axes: Any) -> optax.GradientTransformation:
        check_layers(axes, "gradual_unfreezing", optimizer.name)
        rule = optimizer.build(axes)
        # What is not below the layers counts as above them.
        below = re.compile(r"(?!)" if embeddings_train else embeddings)

        def groups_of(tree: Any) -> Any:
            """The number of each parameter's group: group g thaws after g times the steps."""
            return jax.tree.map(
                lambda distance: np.maximum(distance - first_layers, 0),
                distances(tree, axes, below),
            )

        def init(params: optax.Params) -> UnfreezingState:
            groups = groups_of(params)
            count = 1 + max(int(np.max(group)) for group in jax.tree.leaves(groups))
            steps = optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))
            return UnfreezingState(steps, jnp.zeros(count, jnp.int32), rule.init(params))

        def update(
            gradients: optax.Updates, state: UnfreezingState, params: optax.Params | None = None
        ) -> tuple[optax.Updates, UnfreezingState]:
            groups = groups_of(gradients)
            thawed = state.steps.count >= steps_per_layer * jnp.arange(state.ages.size)

            def kept(value: jax.Array, group: np.ndarray) -> jax.Array:
                return jnp.where(thawed[group], value, jnp.zeros((), value.dtype))

            gradients = jax.tree.map(kept, gradients, groups)
            # One pass for each age; all but what the age changes is computed once, as XLA sees.
            passes = [
                rule.update(gradients, _of_age(state.rule, age), params) for age in state.ages
            ]

            def chosen(group: np.ndarray, *updates: jax.Array) -> jax.Array:
                found = updates[0]
                for number, other in enumerate(updates[1:], 1):
                    if (group == number).any():
                        found = jnp.where(group == number, other, found)
                return kept(found, group)

            updates = jax.tree.map(chosen, groups, *(made for made, _ in passes))
            steps = optax.ScaleByScheduleState(state.steps.count + 1)
            ages = state.ages + thawed.astype(jnp.int32)
            return updates, UnfreezingState(steps, ages, passes[0][1])

        return optax.GradientTransformation(init, update)

    return Optimizer(f"{optimizer.name} with gradual unfreezing", optimizer.schedule, build)


def _of_age(state: Any, age: jax.Array) -> Any:
    """An optimizer's state in which Adam's moments are of so many updates."""

    def is_adam(node: Any) -> bool:
        return isinstance(node, optax.ScaleByAdamState)

    return jax.tree.map(
        lambda node: node._replace(count=age) if is_adam(node) else node, state, is_leaf=is_adam
    )
