"""Dispatch of tokens to the experts that a router chose, and the combination of results.

Tokens are sorted by expert: what is moved are rows, in both directions by gathering, also in the
backward pass. Memory grows with the tokens, not with the experts.

| letter | axis |
|---|---|
| `p` | groups of tokens, each with a capacity of its own |
| `m` | tokens of a group |
| `k` | experts that a token chooses, the best first |
| `q` | choices of a group in the order of their priority, `q = k m` |
| `x` | experts |
| `c` | slots of an expert: its capacity |
| `s` | slots of a group, `s = x c` |
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.ad_checkpoint import checkpoint_name

from models.errors import ModelError
from models.layers import parts, quantization
from models.layers.experts.grouped_matmul import batched_dot, grouped_dot
from models.layers.linear import STORED_PRODUCT

# Left to the compiler: the groups stay divided as the batch is, except along the experts' axis.
GROUPS = jax.sharding.PartitionSpec.UNCONSTRAINED

Product = Callable[[jax.Array, jax.Array], jax.Array]
"""Rows and an expert's matrix each, `[x, e, f]`, to rows."""

Experts = Callable[[jax.Array, Product], jax.Array]
"""Rows, laid out as the product wants them, to rows of the same layout."""


@struct.dataclass
class Choices:
    """The experts that a router chose for each token, and their gates.

    Attributes:
      experts_btk: int32, the experts of each token, the best first.
      gates_btk: float32, by which their results are multiplied.
      num_experts: among how many.
    """

    experts_btk: jax.Array
    gates_btk: jax.Array
    num_experts: int = struct.field(pytree_node=False)


class Dispatch(Protocol):
    """How tokens are sent to their experts."""

    def __call__(
        self, x_bte: jax.Array, choices: Choices, experts: Experts, *, training: bool
    ) -> tuple[jax.Array, jax.Array]:
        """The gated sum of the experts' results, `[b, t, e]`, and which choices were served.

        The second is bool `[b, t, k]`. A choice that was not served adds 0.
        """


@dataclasses.dataclass(frozen=True)
class Dropless:
    """Every choice is served (Gale et al. 2022, MegaBlocks)."""

    def __call__(
        self, x_bte: jax.Array, choices: Choices, experts: Experts, *, training: bool
    ) -> tuple[jax.Array, jax.Array]:
        """See `Dispatch`."""
        b, t, e = x_bte.shape
        k = choices.experts_btk.shape[-1]
        expert_q = choices.experts_btk.reshape(-1)
        order_q = jnp.argsort(expert_q)
        routes = RoutingDecision(
            tokens_ps=order_q[None] // k,
            choices_ps=order_q[None],
            slots_pmk=jnp.argsort(order_q).reshape(1, b * t, k),
        )
        routes = jax.tree.map(lambda x: checkpoint_name(x, STORED_PRODUCT), routes)
        sizes_x = _load(expert_q, choices.num_experts)
        rows_se = gather_rows(x_bte.reshape(1, b * t, e), routes)[0]
        rows_se = experts(rows_se, functools.partial(_product_of_parts, sizes_x=sizes_x))
        gates_pmk = choices.gates_btk.reshape(1, b * t, k)
        y_bte = combine_rows(rows_se[None], gates_pmk, routes).reshape(b, t, e)
        return y_bte, jnp.ones(choices.experts_btk.shape, bool)


class DispatchSlots:
    """Experts with a capacity; a subclass says how large it is, and what a group of tokens is.

    The tokens of a group are served by position: the first tokens of its rows, then the second
    ones. All first choices come before all second ones (Lepikhin et al. 2020, algorithm 1), so
    with two choices what a decoder drops may depend on later tokens. Padding has a position and
    takes its turn like any token, as in the authors' code; at the end of rows, it comes last.

    A single position is a step of decoding; then every token is served, so that a row's text does
    not depend on its neighbours'. For the same reason a subclass may serve all in evaluation.
    """

    def __call__(
        self, x_bte: jax.Array, choices: Choices, experts: Experts, *, training: bool
    ) -> tuple[jax.Array, jax.Array]:
        """See `Dispatch`."""
        b, t, e = x_bte.shape
        if t == 1 or not (training or self.drops_in_evaluation):
            return Dropless()(x_bte, choices, experts, training=training)
        k, num_experts = choices.experts_btk.shape[-1], choices.num_experts
        rows = self.rows_of_a_group(b, t)
        groups, tokens = b // rows, rows * t
        capacity = self.slots_of_an_expert(tokens * k, num_experts, training=training)
        capacity = min(capacity, tokens)
        routes, served_pmk = routes_within_capacity(
            choices.experts_btk.reshape(groups, rows, t, k), num_experts, capacity
        )
        routes = jax.tree.map(lambda x: checkpoint_name(x, STORED_PRODUCT), routes)
        x_pme = x_bte.reshape(groups, tokens, e)
        rows_pse = nn.with_logical_constraint(gather_rows(x_pme, routes), ("batch", None, None))
        # Groups are divided among devices, then experts are: here is the all-to-all.
        rows_xpce = rows_pse.reshape(groups, num_experts, capacity, e).swapaxes(0, 1)
        rows_xpce = nn.with_logical_constraint(rows_xpce, ("expert", GROUPS, None, None))
        rows_xne = rows_xpce.reshape(num_experts, groups * capacity, e)
        rows_xne = _run_slots(experts, rows_xne, choices)
        rows_xpce = rows_xne.reshape(num_experts, groups, capacity, e)
        rows_xpce = nn.with_logical_constraint(rows_xpce, ("expert", GROUPS, None, None))
        rows_pse = rows_xpce.swapaxes(0, 1).reshape(groups, num_experts * capacity, e)
        rows_pse = nn.with_logical_constraint(rows_pse, ("batch", None, None))
        gates_pmk = choices.gates_btk.reshape(groups, tokens, k)
        y_bte = combine_rows(rows_pse, gates_pmk, routes).reshape(b, t, e)
        return y_bte, served_pmk.reshape(b, t, k)

    @property
    def drops_in_evaluation(self) -> bool:
        """Whether experts have a capacity outside of training too."""
        return True

    def rows_of_a_group(self, b: int, t: int) -> int:
        """How many of `b` rows of `t` tokens are routed together."""
        raise NotImplementedError

    def slots_of_an_expert(self, choices: int, num_experts: int, *, training: bool) -> int:
        """How many of a group's choices an expert takes."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Capacity(DispatchSlots):
    """An expert takes a part of a group's tokens: Switch and GShard.

    The number is tokens / experts × factor, times the choices of a token, rounded up (Fedus et
    al. 2021, eq. 3).

    A group is as many whole rows as make `group_size` tokens or fewer, and divide the batch: so
    groups depend on the shape of the batch and not on the devices. Where devices share the
    batch, a group should not be larger than a device's part of it.

    Attributes:
      train_factor: the factor in training.
      eval_factor: elsewhere; None serves every token there, so that what a model says of a row
        does not depend on the rows beside it. The paper's programs have 2.0.
      group_size: most tokens of a group; a longer row is a group of its own.
    """

    train_factor: float = 1.25
    eval_factor: float | None = None
    group_size: int = 4096

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
          ModelError: a factor that is not above 0, or no tokens in a group.
        """
        for name in ("train_factor", "eval_factor"):
            factor = getattr(self, name)
            if factor is not None and not 0 < factor < math.inf:
                raise ModelError(f"Capacity.{name} is {factor}: a number above 0 is needed.")
        if self.group_size < 1:
            raise ModelError(f"Capacity.group_size is {self.group_size}: 1 or more is needed.")

    @property
    def drops_in_evaluation(self) -> bool:
        """Whether that was asked for."""
        return self.eval_factor is not None

    def rows_of_a_group(self, b: int, t: int) -> int:
        """How many of `b` rows of `t` tokens are routed together."""
        return max(
            n for n in range(1, b + 1) if b % n == 0 and (n == 1 or n * t <= self.group_size)
        )

    def slots_of_an_expert(self, choices: int, num_experts: int, *, training: bool) -> int:
        """How many of a group's choices an expert takes."""
        factor = self.train_factor if training else self.eval_factor
        assert factor is not None  # then nothing is dropped
        # Rounded before, lest 1.1 × 10 / 1 become 12.
        return math.ceil(round(choices * factor / num_experts, 6))


@dataclasses.dataclass(frozen=True)
class RowCapacity(DispatchSlots):
    """An expert takes the same number of tokens of each row, however long the row is.

    This is how `transformers` has it (`expert_capacity`).

    Attributes:
      slots: the number.
    """

    slots: int

    def __post_init__(self) -> None:
        """Checks the number.

        Raises:
          ModelError: it is below 1.
        """
        if self.slots < 1:
            raise ModelError(f"RowCapacity.slots is {self.slots}: 1 or more is needed.")

    def rows_of_a_group(self, b: int, t: int) -> int:
        """One."""
        return 1

    def slots_of_an_expert(self, choices: int, num_experts: int, *, training: bool) -> int:
        """The same for every length."""
        return self.slots


@struct.dataclass
class RoutingDecision:
    """Indices from slots to tokens and from choices to slots; out of range means none.

    Attributes:
      tokens_ps: the token in each slot, int32; `m` in an empty one.
      choices_ps: the token's choice that led there, `token · k + choice`; `m k` if none did.
      slots_pmk: the slot of each choice; `s` for one that is not served.
    """

    tokens_ps: jax.Array
    choices_ps: jax.Array
    slots_pmk: jax.Array


def routes_within_capacity(
    experts_prtk: jax.Array, num_experts: int, capacity: int
) -> tuple[RoutingDecision, jax.Array]:
    """Assigns tokens to the experts' slots, in the order of their positions.

    Args:
      experts_prtk: int `[groups, rows, positions, k]`.
      num_experts: how many experts there are.
      capacity: slots of each.

    Returns:
      The routes, and bool `[p, m, k]`, whether a choice got a slot; `m` counts positions
      within rows.
    """
    p, r, t, k = experts_prtk.shape
    m, s = r * t, num_experts * capacity
    expert_pq = experts_prtk.transpose(0, 3, 2, 1).reshape(p, k * m)
    order_pq = jnp.argsort(expert_pq, axis=1)
    load_px = _load(expert_pq, num_experts)
    first_px = jnp.cumsum(load_px, axis=1) - load_px

    # From a slot to what stands there in the sorted order.
    place_c = jnp.arange(capacity)
    sorted_pxc = jnp.minimum(first_px[:, :, None] + place_c, k * m - 1)
    priority_ps = jnp.take_along_axis(order_pq, sorted_pxc.reshape(p, s), axis=1)
    taken_ps = (place_c < load_px[:, :, None]).reshape(p, s)
    choice_ps, turn_ps = priority_ps // m, priority_ps % m
    token_ps = turn_ps % r * t + turn_ps // r

    # From a choice to its place among those of its expert.
    place_pq = jnp.argsort(order_pq, axis=1) - jnp.take_along_axis(first_px, expert_pq, axis=1)
    slot_pq = jnp.where(place_pq < capacity, expert_pq * capacity + place_pq, s)
    slots_pmk = slot_pq.reshape(p, k, t, r).transpose(0, 3, 2, 1).reshape(p, m, k)
    routes = RoutingDecision(
        tokens_ps=jnp.where(taken_ps, token_ps, m),
        choices_ps=jnp.where(taken_ps, token_ps * k + choice_ps, m * k),
        slots_pmk=slots_pmk,
    )
    return routes, slots_pmk < s


@jax.custom_vjp
def gather_rows(x_pme: jax.Array, routes: RoutingDecision) -> jax.Array:
    """Every slot's token, `[p, s, e]`; zeros in an empty slot."""
    return _rows(x_pme, routes.tokens_ps)


def _gather_forward(x_pme, routes):
    return gather_rows(x_pme, routes), routes


def _gather_backward(routes, dy_pse):
    k = routes.slots_pmk.shape[-1]
    dx_pme = sum(_rows(dy_pse, routes.slots_pmk[..., i]).astype(jnp.float32) for i in range(k))
    return dx_pme.astype(dy_pse.dtype), None


gather_rows.defvjp(_gather_forward, _gather_backward)


@jax.custom_vjp
def combine_rows(y_pse: jax.Array, gates_pmk: jax.Array, routes: RoutingDecision) -> jax.Array:
    """The sum of each token's slots times its gates, `[p, m, e]`; summed in float32."""
    total_pme: Any = sum(
        _rows(y_pse, routes.slots_pmk[..., i]) * gates_pmk[..., i, None]
        for i in range(gates_pmk.shape[-1])
    )
    return total_pme.astype(y_pse.dtype)


def _combine_forward(y_pse, gates_pmk, routes):
    return combine_rows(y_pse, gates_pmk, routes), (y_pse, gates_pmk, routes)


def _combine_backward(residuals, dtotal_pme):
    y_pse, gates_pmk, routes = residuals
    p, _, k = gates_pmk.shape
    gate_ps = _rows(gates_pmk.reshape(p, -1), routes.choices_ps)
    dy_pse = _rows(dtotal_pme, routes.tokens_ps) * gate_ps[..., None]
    wide_pme = dtotal_pme.astype(jnp.float32)
    dgates_pmk = jnp.stack(
        [
            (_rows(y_pse, routes.slots_pmk[..., i]).astype(jnp.float32) * wide_pme).sum(-1)
            for i in range(k)
        ],
        axis=-1,
    )
    return dy_pse.astype(y_pse.dtype), dgates_pmk, None


combine_rows.defvjp(_combine_forward, _combine_backward)


def _rows(x: Any, index_ps: jax.Array) -> jax.Array:
    """`x[p, index]` for each group; zeros where the index is out of range."""
    return jax.vmap(lambda x, index: x.at[index].get(mode="fill", fill_value=0))(x, index_ps)


def _full_slots(experts: Experts, rows_xne: jax.Array, choices: Choices) -> parts.Share:
    slots = rows_xne.shape[0] * rows_xne.shape[1]
    return min(choices.experts_btk.size, slots), slots


@parts.part(parts.EXPERTS, needed=_full_slots)
def _run_slots(experts: Experts, rows_xne: jax.Array, choices: Choices) -> jax.Array:
    return experts(rows_xne, _batched_product)


def _load(expert: jax.Array, num_experts: int) -> jax.Array:
    """How many of the last axis went to each expert, int32 `[..., x]`."""
    return (expert[..., None] == jnp.arange(num_experts)).sum(-2, dtype=jnp.int32)


def _batched_product(x_xne: jax.Array, kernel_xef: jax.Array) -> jax.Array:
    how = quantization.in_use()
    product = batched_dot if how is None else how.product
    y_xnf = product(x_xne, kernel_xef)
    return nn.with_logical_constraint(y_xnf, ("expert", GROUPS, "mlp"))


def _product_of_parts(x_ne: jax.Array, kernel_xef: jax.Array, *, sizes_x: jax.Array) -> jax.Array:
    return grouped_dot(x_ne, kernel_xef, sizes_x)
