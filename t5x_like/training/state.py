"""What training changes: the step, the parameters and the optimizer's state."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner, split_boxes
from t5x_like.protocols import LanguageModel, Params


@flax.struct.dataclass
class TrainState:
    """A pytree.

    Attributes:
      step: updates made, int32 scalar.
      params: the model's parameters, float32.
      opt_state: the optimizer's state.
      guard: what notices anomalies, `anomalies.Guard`, where something does.
    """

    step: Any
    params: Params
    opt_state: Any
    guard: Any = None

    def with_guard(self, guard: Any) -> "TrainState":
        """The same state with this guard."""
        return TrainState(self.step, self.params, self.opt_state, guard)


def transformation(model: LanguageModel, optimizer: Optimizer) -> optax.GradientTransformation:
    """The optimizer built for this model's parameters."""
    _, axes = split_boxes(model.abstract_params())
    return optimizer.build(axes)


def abstract_state(
    model: LanguageModel, optimizer: Optimizer, partitioner: Partitioner
) -> TrainState:
    """The state as `ShapeDtypeStruct`s that carry their shardings; allocates nothing."""
    params, _ = split_boxes(model.abstract_params())
    opt_state = jax.eval_shape(transformation(model, optimizer).init, params)

    def place(leaf: Any, sharding: jax.sharding.NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=partitioner.replicated)
    return TrainState(
        step=step,
        params=jax.tree.map(place, params, partitioner.param_shardings(model)),
        opt_state=jax.tree.map(place, opt_state, partitioner.state_shardings(opt_state, model)),
    )


def shardings(state: TrainState) -> TrainState:
    """The shardings of `abstract_state`'s result, as `jax.jit` takes them."""
    return jax.tree.map(lambda leaf: leaf.sharding, state)


def create_state(
    model: LanguageModel, optimizer: Optimizer, partitioner: Partitioner, seed: int
) -> TrainState:
    """A fresh state, created where it will live: no device ever holds more than its part."""
    return state_maker(model, optimizer, partitioner)(seed)


def state_maker(
    model: LanguageModel, optimizer: Optimizer, partitioner: Partitioner
) -> Callable[[int], TrainState]:
    """`create_state` for many seeds, compiled once."""
    update_rule = transformation(model, optimizer)

    def init(key: jax.Array) -> TrainState:
        params = model.init(key, {})["params"]
        return TrainState(jnp.zeros((), jnp.int32), params, update_rule.init(params))

    jitted = jax.jit(init, out_shardings=shardings(abstract_state(model, optimizer, partitioner)))

    def create(seed: int) -> TrainState:
        with partitioner.activate():
            return jitted(jax.random.key(seed))

    return create


def state_from_params(
    params: Params, model: LanguageModel, optimizer: Optimizer, partitioner: Partitioner
) -> TrainState:
    """A state at step 0 with these parameters, for fine-tuning; `params` are donated."""
    update_rule = transformation(model, optimizer)

    def begin(params: Params) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, update_rule.init(params))

    target = shardings(abstract_state(model, optimizer, partitioner))
    with partitioner.activate():
        return jax.jit(begin, out_shardings=target, donate_argnums=0)(params)
