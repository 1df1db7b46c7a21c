"""What training changes: the step, the parameters and the optimizer's state."""

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
    """

    step: Any
    params: Params
    opt_state: Any


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
    update_rule = transformation(model, optimizer)

    def init(key: jax.Array) -> TrainState:
        params = model.init(key, {})["params"]
        return TrainState(jnp.zeros((), jnp.int32), params, update_rule.init(params))

    target = shardings(abstract_state(model, optimizer, partitioner))
    with partitioner.activate():
        return jax.jit(init, out_shardings=target)(jax.random.key(seed))


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
