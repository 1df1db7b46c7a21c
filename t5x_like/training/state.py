"""What training changes: the step, the parameters and the optimizer's state."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from t5x_like import protocols
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner, split_boxes, subtree
from t5x_like.protocols import Carry, Model, Params


class TrainState(flax.struct.PyTreeNode):
    """A pytree.

    Attributes:
      step: updates made, int32 scalar.
      params: the model's parameters, float32; those that training leaves as they are may be of
        fewer bits.
      opt_state: the optimizer's state.
      guard: what notices anomalies, `anomalies.Guard`, where something does.
      carry: what passes from one batch to the next, row by row, where the model carries anything;
        it is saved with the position in the data.
      frozen: parameters of other models that the loss reads, by name, never differentiated and in
        no checkpoint.
    """

    step: Any
    params: Params
    opt_state: Any
    guard: Any = None
    carry: Carry = None
    frozen: Mapping[str, Params] | None = None


def transformation(model: Model, optimizer: Optimizer) -> optax.GradientTransformation:
    """The optimizer built for those of this model's parameters that training changes."""
    _, axes = split_boxes(model.abstract_params())
    return optimizer.build(trained_part(model, axes))


def trained_part(model: Model, params: Params) -> Params:
    """Of a tree of parameters, or of what is said of each, that which training changes."""
    tuning = protocols.tuning(model)
    return params if tuning is None else subtree(params, tuning.trains)


def abstract_state(model: Model, optimizer: Optimizer, partitioner: Partitioner) -> TrainState:
    """The state as `ShapeDtypeStruct`s that carry their shardings; allocates nothing."""
    params, _ = split_boxes(model.abstract_params())
    trained = trained_part(model, params)
    opt_state = jax.eval_shape(transformation(model, optimizer).init, trained)

    def place(leaf: Any, sharding: jax.sharding.NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=partitioner.replicated)
    return TrainState(
        step=step,
        params=placed_params(model, partitioner),
        opt_state=jax.tree.map(place, opt_state, partitioner.state_shardings(opt_state, model)),
    )


def abstract_carry(model: Model, partitioner: Partitioner, rows: int) -> Carry:
    """What a model carries, as `ShapeDtypeStruct`s divided like a batch; None if nothing.

    Args:
      model: any.
      partitioner: the mesh.
      rows: of the global batch.
    """
    if not protocols.carries(model):
        return None
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=partitioner.batch_sharding
        ),
        jax.eval_shape(lambda: model.initial_carry(rows)),  # type: ignore[attr-defined]
    )


def initial_carry(model: Model, partitioner: Partitioner, rows: int) -> Carry:
    """What the first batch begins with, where it will live; None if nothing."""
    abstract = abstract_carry(model, partitioner, rows)
    if abstract is None:
        return None
    placed = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    with partitioner.activate():
        return jax.jit(lambda: model.initial_carry(rows), out_shardings=placed)()  # type: ignore[attr-defined]


def abstract_frozen(model: Model, partitioner: Partitioner) -> Mapping[str, Params] | None:
    """The frozen parameters as `ShapeDtypeStruct`s that carry their shardings; None if none."""
    found = {
        name: placed_params(other, partitioner)
        for name, other in protocols.frozen_models(model).items()
    }
    return found or None


def placed_params(model: Model, partitioner: Partitioner) -> Params:
    """A model's parameters as `ShapeDtypeStruct`s that carry their shardings."""
    params, _ = split_boxes(model.abstract_params())
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        params,
        partitioner.param_shardings(model),
    )


def shardings(state: TrainState) -> TrainState:
    """The shardings of `abstract_state`'s result, as `jax.jit` takes them."""
    return jax.tree.map(lambda leaf: leaf.sharding, state)


def create_state(
    model: Model, optimizer: Optimizer, partitioner: Partitioner, seed: int
) -> TrainState:
    """A fresh state, created where it will live: no device ever holds more than its part."""
    return state_maker(model, optimizer, partitioner)(seed)


def state_maker(
    model: Model, optimizer: Optimizer, partitioner: Partitioner
) -> Callable[[int], TrainState]:
    """`create_state` for many seeds, compiled once."""
    update_rule = transformation(model, optimizer)

    def init(key: jax.Array) -> TrainState:
        params = model.init(key, {})["params"]
        opt_state = update_rule.init(trained_part(model, params))
        return TrainState(jnp.zeros((), jnp.int32), params, opt_state)

    jitted = jax.jit(init, out_shardings=shardings(abstract_state(model, optimizer, partitioner)))

    def create(seed: int) -> TrainState:
        with partitioner.activate():
            return jitted(jax.random.key(seed))

    return create


def state_from_params(
    params: Params, model: Model, optimizer: Optimizer, partitioner: Partitioner
) -> TrainState:
    """A state at step 0 with these parameters, for fine-tuning; `params` are donated."""
    update_rule = transformation(model, optimizer)

    def begin(params: Params) -> TrainState:
        opt_state = update_rule.init(trained_part(model, params))
        return TrainState(jnp.zeros((), jnp.int32), params, opt_state)

    target = shardings(abstract_state(model, optimizer, partitioner))
    with partitioner.activate():
        return jax.jit(begin, out_shardings=target, donate_argnums=0)(params)
