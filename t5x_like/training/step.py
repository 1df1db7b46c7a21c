"""One optimizer step, and one evaluation step, as jitted functions."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from t5x_like import anomalies
from t5x_like.anomalies import AnomalyPolicy
from t5x_like.errors import UserError
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Batch, LanguageModel, Metrics, Params
from t5x_like.training import state as train_state
from t5x_like.training.state import TrainState

TrainStep = Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, Metrics]]


def make_train_step(
    model: LanguageModel,
    optimizer: Optimizer,
    partitioner: Partitioner,
    *,
    seed: int = 0,
    num_microbatches: int = 1,
    anomaly_policy: AnomalyPolicy | None = None,
) -> TrainStep:
    """A compiled function from a state and a global batch to the next state and metrics.

    The state is donated. The loss is divided by the loss weights of the whole global
    batch, so that microbatches and shards change nothing beyond rounding. Dropout in step
    n draws from `fold_in(key(seed), n)`.

    The metrics are `(sum, weight)` pairs: the model's, and `gradient_norm` (before
    clipping), `parameter_norm` (after the update) and `learning_rate`, of weight 1. With a
    policy the state has its guard, and the metrics are those of `anomalies.settle`.

    Args:
      model: whose `loss` is minimized.
      optimizer: as in `t5x_like.optimizers`.
      partitioner: where state and batch lie.
      seed: of dropout.
      num_microbatches: pieces that the batch is computed in, one after the other.
      anomaly_policy: what makes an update count for nothing; None lets all count.

    Raises:
      UserError: when first called, if the pieces do not divide the batch.
    """
    compiled = _jitted(model, optimizer, partitioner, seed, num_microbatches, anomaly_policy)

    def run(state: TrainState, batch: Mapping[str, jax.Array]) -> tuple[TrainState, Metrics]:
        with partitioner.activate():
            return compiled(state, dict(batch))

    return run


def lower_train_step(
    model: LanguageModel,
    optimizer: Optimizer,
    partitioner: Partitioner,
    batch_shapes: Mapping[str, tuple[int, ...]],
    *,
    seed: int = 0,
    num_microbatches: int = 1,
) -> jax.stages.Lowered:
    """The program that `train` runs for batches of these shapes, ready to be compiled.

    Allocates nothing, so the partitioner's devices need not exist.

    Args:
      model: see `make_train_step`.
      optimizer: see `make_train_step`.
      partitioner: see `make_train_step`.
      batch_shapes: of each feature, int32, the rows of all devices together.
      seed: see `make_train_step`.
      num_microbatches: see `make_train_step`.

    Raises:
      UserError: the pieces do not divide the batch.
    """
    policy = AnomalyPolicy()
    guard = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=partitioner.replicated),
        policy.guard(),
    )
    state = train_state.abstract_state(model, optimizer, partitioner).with_guard(guard)
    sharding = partitioner.batch_sharding
    batch = {
        name: jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding)
        for name, shape in batch_shapes.items()
    }
    jitted = _jitted(model, optimizer, partitioner, seed, num_microbatches, policy)
    with partitioner.activate():
        return jitted.lower(state, batch)


def _jitted(
    model: LanguageModel,
    optimizer: Optimizer,
    partitioner: Partitioner,
    seed: int,
    num_microbatches: int,
    anomaly_policy: AnomalyPolicy | None,
) -> jax.stages.Wrapped:
    gradient = mean_gradient(model, num_microbatches)
    update = state_update(model, optimizer)

    def step(state: TrainState, batch: Mapping[str, jax.Array]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        gradients, metrics = gradient(state.params, batch, key)
        after, own_metrics = update(state, gradients)
        metrics = {**metrics, **own_metrics}
        if anomaly_policy is None:
            return after, metrics
        return anomalies.settle(anomaly_policy, state, after, metrics)

    placed = train_state.shardings(train_state.abstract_state(model, optimizer, partitioner))
    if anomaly_policy is not None:
        guard = jax.tree.map(lambda _: partitioner.replicated, anomaly_policy.guard())
        placed = placed.with_guard(guard)
    return jax.jit(
        step,
        in_shardings=(placed, partitioner.batch_sharding),
        out_shardings=(placed, partitioner.replicated),
        donate_argnums=0,
    )


def mean_gradient(
    model: LanguageModel, num_microbatches: int = 1
) -> Callable[[Params, Batch, jax.Array], tuple[Params, Metrics]]:
    """From parameters, a batch and a key to the gradient of the mean loss, and summed metrics.

    Args:
      model: whose `loss` is minimized.
      num_microbatches: see `make_train_step`.
    """

    def sum_loss(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        return model.loss(params, batch, key)

    gradient = jax.grad(sum_loss, has_aux=True)

    def accumulate(params: Params, batch: Batch, key: jax.Array) -> tuple[Params, Metrics]:
        if num_microbatches == 1:
            return gradient(params, batch, key)
        pieces = split_microbatches(batch, num_microbatches)
        keys = jax.random.split(key, num_microbatches)
        shapes = jax.eval_shape(gradient, params, jax.tree.map(lambda x: x[0], pieces), key)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def add(total: tuple[Params, Metrics], piece: tuple[Batch, jax.Array]):
            return jax.tree.map(jnp.add, total, gradient(params, *piece)), None

        return jax.lax.scan(add, zeros, (pieces, keys))[0]

    def mean(params: Params, batch: Batch, key: jax.Array) -> tuple[Params, Metrics]:
        gradients, metrics = accumulate(params, batch, key)
        # A batch without a single target has no gradient; 0 / 0 would poison the parameters.
        weight = jnp.maximum(metrics["loss"][1], 1e-9)
        return jax.tree.map(lambda g: g / weight, gradients), metrics

    return mean


def state_update(
    model: LanguageModel, optimizer: Optimizer
) -> Callable[[TrainState, Params], tuple[TrainState, Metrics]]:
    """From a state and a gradient to the next state, and the metrics of the update."""
    update_rule = train_state.transformation(model, optimizer)

    def update(state: TrainState, gradients: Params) -> tuple[TrainState, Metrics]:
        updates, opt_state = update_rule.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        one = jnp.float32(1)
        metrics = {
            "gradient_norm": (optax.tree.norm(gradients), one),
            "parameter_norm": (optax.tree.norm(params), one),
            "learning_rate": (jnp.float32(optimizer.schedule(state.step)), one),
        }
        return TrainState(state.step + 1, params, opt_state), metrics

    return update


def split_microbatches(batch: Batch, pieces: int) -> dict[str, jax.Array]:
    """`[b, ...]` features as `[pieces, b / pieces, ...]`.

    Every piece takes rows from all over the batch, so that each device has its share of it.

    Raises:
      UserError: `pieces` does not divide the batch.
    """
    rows = next(iter(batch.values())).shape[0]
    if pieces < 1 or rows % pieces:
        raise UserError(
            f"NUM_MICROBATCHES {pieces} does not divide BATCH_SIZE {rows}: choose a divisor."
        )
    return {
        name: jnp.swapaxes(value.reshape(rows // pieces, pieces, *value.shape[1:]), 0, 1)
        for name, value in batch.items()
    }
