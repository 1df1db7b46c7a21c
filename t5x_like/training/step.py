"""One optimizer step as a jitted function."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5x_like import anomalies
from t5x_like.anomalies import AnomalyPolicy
from t5x_like.errors import UserError
from t5x_like.optimizers import Optimizer, schedules_at
from t5x_like.partitioning import Partitioner, with_subtree
from t5x_like.protocols import Batch, Carry, Metrics, Model, Params, UsesStep
from t5x_like.training import loss
from t5x_like.training import state as train_state
from t5x_like.training.state import TrainState, trained_part
from t5x_like.training.watching.noise_scale import NAME as NOISE_SCALE
from t5x_like.training.watching.noise_scale import noise_and_signal

TrainStep = Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, Metrics]]


def make_train_step(
    model: Model,
    optimizer: Optimizer,
    partitioner: Partitioner,
    *,
    seed: int = 0,
    num_microbatches: int = 1,
    anomaly_policy: AnomalyPolicy | None = None,
    noise_scale: bool = False,
) -> TrainStep:
    """A compiled function from a state and a global batch to the next state and metrics.

    The state is donated. Each term of the loss is divided by its weight in the whole global
    batch, so that microbatches and shards change nothing beyond rounding; but for what is drawn
    in them, and of models that mix rows, whose experts have room for a microbatch's tokens. Dropout
    in step n draws from `fold_in(key(seed), n)`.

    The metrics are `(sum, weight)` pairs: the model's, and `gradient_norm` (before
    clipping), `parameter_norm` (after the update, of what is trained) and `learning_rate` (that of
    the update), of weight 1. Schedules count steps, whether their updates were applied or not. With
    a policy the state has its guard, and the metrics are those of `anomalies.settle`.

    Args:
      model: whose `loss` is minimized.
      optimizer: as in `t5x_like.optimizers`.
      partitioner: where state and batch lie.
      seed: of dropout.
      num_microbatches: pieces that the batch is computed in, one after the other.
      anomaly_policy: what makes an update count for nothing; None lets all count.
      noise_scale: whether the metrics have the gradient noise scale, of the pieces' gradients.

    Raises:
      UserError: when first called, if the pieces do not divide the batch.
    """
    gradient = mean_gradient(model, num_microbatches, noise_scale=noise_scale)
    compiled = _jitted(model, optimizer, partitioner, seed, gradient, anomaly_policy)

    def run(state: TrainState, batch: Mapping[str, jax.Array]) -> tuple[TrainState, Metrics]:
        with partitioner.activate():
            return compiled(state, dict(batch))

    return run


def lower_train_step(
    model: Model,
    optimizer: Optimizer,
    partitioner: Partitioner,
    batch: Mapping[str, Any],
    *,
    seed: int = 0,
    num_microbatches: int = 1,
) -> jax.stages.Lowered:
    """The program that `train` runs for batches like this one, ready to be compiled.

    Allocates nothing, so the partitioner's devices need not exist.

    Args:
      model: see `make_train_step`.
      optimizer: see `make_train_step`.
      partitioner: see `make_train_step`.
      batch: shape and dtype of each feature, the rows of all devices together.
      seed: see `make_train_step`.
      num_microbatches: see `make_train_step`.

    Raises:
      UserError: the pieces do not divide the batch.
    """
    policy = AnomalyPolicy()
    state = abstract_step_state(model, optimizer, partitioner, batch, policy)
    sharding = partitioner.batch_sharding
    batch = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)
        for name, value in batch.items()
    }
    gradient = mean_gradient(model, num_microbatches)
    jitted = _jitted(model, optimizer, partitioner, seed, gradient, policy)
    with partitioner.activate():
        return jitted.lower(state, batch)


def abstract_step_state(
    model: Model,
    optimizer: Optimizer,
    partitioner: Partitioner,
    batch: Mapping[str, Any],
    anomaly_policy: AnomalyPolicy,
) -> TrainState:
    """All of a state that a step takes, as `ShapeDtypeStruct`s with shardings; allocates nothing.

    Args:
      model: see `make_train_step`.
      optimizer: see `make_train_step`.
      partitioner: see `make_train_step`.
      batch: shape and dtype of each feature, the rows of all devices together.
      anomaly_policy: see `make_train_step`.
    """
    guard = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=partitioner.replicated),
        anomaly_policy.guard(),
    )
    rows = next(iter(batch.values())).shape[0]
    return train_state.abstract_state(model, optimizer, partitioner).replace(
        guard=guard,
        carry=train_state.abstract_carry(model, partitioner, rows),
        frozen=train_state.abstract_frozen(model, partitioner),
    )


def _jitted(
    model: Model,
    optimizer: Optimizer,
    partitioner: Partitioner,
    seed: int,
    gradient: "Gradient",
    anomaly_policy: AnomalyPolicy | None,
) -> jax.stages.Wrapped:
    update = state_update(model, optimizer)

    def step(state: TrainState, batch: Mapping[str, jax.Array]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        # Names that a profile shows beside the layers' own.
        with jax.named_scope("gradient"):
            gradients, metrics, carry = gradient(state, batch, key)
        with jax.named_scope("update"):
            after, own_metrics = update(state, gradients)
        after = after.replace(carry=carry)
        metrics = {**metrics, **own_metrics}
        if anomaly_policy is None:
            return after, metrics
        return anomalies.settle(anomaly_policy, state, after, metrics)

    placed = placed_state(model, optimizer, partitioner, anomaly_policy)
    return jax.jit(
        step,
        in_shardings=(placed, partitioner.batch_sharding),
        out_shardings=(placed, partitioner.replicated),
        donate_argnums=0,
    )


def placed_state(
    model: Model,
    optimizer: Optimizer,
    partitioner: Partitioner,
    anomaly_policy: AnomalyPolicy | None,
) -> TrainState:
    """Where all of a state lies: a tree of shardings, as `jax.jit` takes it.

    Args:
      model: see `make_train_step`.
      optimizer: see `make_train_step`.
      partitioner: see `make_train_step`.
      anomaly_policy: see `make_train_step`.
    """
    placed = train_state.shardings(train_state.abstract_state(model, optimizer, partitioner))
    if anomaly_policy is not None:
        guard = jax.tree.map(lambda _: partitioner.replicated, anomaly_policy.guard())
        placed = placed.replace(guard=guard)
    extra = TrainState(
        None,
        None,
        None,
        carry=train_state.abstract_carry(model, partitioner, rows=1),
        frozen=train_state.abstract_frozen(model, partitioner),
    )
    extra = train_state.shardings(extra)
    return placed.replace(carry=extra.carry, frozen=extra.frozen)


Gradient = Callable[[TrainState, Batch, jax.Array], tuple[Params, Metrics, Carry]]


def mean_gradient(
    model: Model, num_microbatches: int = 1, *, noise_scale: bool = False
) -> Gradient:
    """From a state, a batch and a key to the gradient of the loss, summed metrics, and the carry.

    Args:
      model: whose `loss` is minimized.
      num_microbatches: see `make_train_step`.
      noise_scale: whether the metrics have the gradient noise scale, whose small batches are the
        pieces, by the weights of the first of the model's loss terms.
    """

    def minimized(
        trained: Params,
        params: Params,
        scale: Mapping[str, jax.Array],
        frozen: Mapping[str, Params] | None,
        batch: Batch,
        carry: Carry,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[Metrics, Carry]]:
        params = with_subtree(params, trained)
        sums, metrics, carry = loss.summed_loss(
            model, params, batch, key, carry=carry, frozen=frozen
        )
        return loss.total(sums, scale), (metrics, carry)

    gradient_of = jax.grad(minimized, has_aux=True)

    def gradient(state: TrainState, batch: Batch, key: jax.Array) -> tuple[Params, Metrics, Carry]:
        if isinstance(model, UsesStep) and model.uses_step:
            rows = next(iter(batch.values())).shape[0]
            batch = {**batch, "row_step": jnp.full((rows,), state.step, jnp.int32)}
        # Counted before the gradient, over the batch that all microbatches and devices make.
        scale = loss.scales(model, model.loss_weights(batch))
        trained = trained_part(model, state.params)
        one_piece = functools.partial(gradient_of, trained, state.params, scale, state.frozen)
        if num_microbatches == 1:
            gradients, (metrics, carry) = one_piece(batch, state.carry, key)
            return gradients, loss.with_total(metrics, scale), carry
        pieces = split_microbatches(batch, num_microbatches)
        carries = split_microbatches(state.carry, num_microbatches)
        keys = jax.random.split(key, num_microbatches)
        first = jax.tree.map(lambda x: x[0], (pieces, carries, keys))
        shapes = jax.eval_shape(one_piece, *first)
        zeros = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (shapes[0], shapes[1][0])
        )

        def weight_of(piece: Batch) -> jax.Array:
            return jnp.float32(model.loss_weights(piece)[next(iter(model.loss_terms))])

        def add(sofar: tuple[Params, Metrics], piece: tuple[Batch, Carry, jax.Array]):
            gradients, (metrics, carry) = one_piece(*piece)
            told: tuple[jax.Array, ...] = ()
            if noise_scale:
                # The gradient is the piece's part of the whole batch's mean.
                told = optax.tree.norm(gradients, squared=True), weight_of(piece[0])
            return jax.tree.map(jnp.add, sofar, (gradients, metrics)), (carry, told)

        (gradients, metrics), (carries, told) = jax.lax.scan(add, zeros, (pieces, carries, keys))
        if noise_scale:
            parts, weights = told
            shares = weights / jnp.maximum(weights.sum(), 1e-9)
            own = parts / jnp.where(shares > 0, shares, 1.0) ** 2
            whole = optax.tree.norm(gradients, squared=True)
            metrics = {**metrics, NOISE_SCALE: noise_and_signal(own, weights, whole)}
        return gradients, loss.with_total(metrics, scale), joined_microbatches(carries)

    return gradient


def state_update(
    model: Model, optimizer: Optimizer
) -> Callable[[TrainState, Params], tuple[TrainState, Metrics]]:
    """From a state and a gradient to the next state, and the metrics of the update."""
    update_rule = train_state.transformation(model, optimizer)

    def update(state: TrainState, gradients: Params) -> tuple[TrainState, Metrics]:
        opt_state = schedules_at(state.opt_state, state.step)
        before = trained_part(model, state.params)
        updates, opt_state = update_rule.update(gradients, opt_state, before)
        trained = optax.apply_updates(before, updates)
        params = with_subtree(state.params, trained)
        one = jnp.float32(1)
        metrics = {
            "gradient_norm": (optax.tree.norm(gradients), one),
            "parameter_norm": (optax.tree.norm(trained), one),
            "learning_rate": (jnp.float32(optimizer.schedule(state.step)), one),
        }
        return state.replace(step=state.step + 1, params=params, opt_state=opt_state), metrics

    return update


def split_microbatches(batch: Any, pieces: int) -> Any:
    """A tree of `[b, ...]` arrays as one of `[pieces, b / pieces, ...]`.

    Every piece takes rows from all over the batch, so that each device has its share of it.

    Raises:
      UserError: `pieces` does not divide the batch.
    """

    def split(value: jax.Array) -> jax.Array:
        rows = value.shape[0]
        if pieces < 1 or rows % pieces:
            raise UserError(
                f"NUM_MICROBATCHES {pieces} does not divide BATCH_SIZE {rows}: choose a divisor."
            )
        return jnp.swapaxes(value.reshape(rows // pieces, pieces, *value.shape[1:]), 0, 1)

    return jax.tree.map(split, batch)


def joined_microbatches(pieces: Any) -> Any:
    """What `split_microbatches` has split, together again."""

    def join(value: jax.Array) -> jax.Array:
        return jnp.swapaxes(value, 0, 1).reshape(-1, *value.shape[2:])

    return jax.tree.map(join, pieces)
