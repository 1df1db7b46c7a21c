"""What the kernels read, block by block, and the scores and weights that they make of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from models.layers.attention.flash import tiles
from models.layers.attention.flash.plan import Plan

# What a hidden score is, and where the largest score of a query begins: so far below any real score
# and so far apart that a hidden key's weight is 0, whatever else the query sees.
HIDDEN, LEAST = -2e38, -1e30
# Axes of a product: both sides' units, or both sides' last.
OF_UNITS = (((0,), (0,)), ((), ()))
OF_LANES = (((1,), (1,)), ((), ()))

IndexMap = Callable[..., tuple[Any, ...]]


class Operands(NamedTuple):
    """Arrays, or references to a block of each; None is what a model does not have.

    Slots are the last axis, that of a TPU's lanes, so that heads of fewer than 128 units take no
    more memory than they need.

    Attributes:
      queries: scaled, `[b, h, d, t]`.
      keys: `[b, g, d, s]`, where `g` divides `h`.
      values: the same shape, but for the units where a family has others.
      windows: biases of a pair's distance, float32 `[h, windows, 1, 2 block]`: element x of window
        `i - j + key_blocks - 1` is of pairs in blocks i and j where the query's place in its block
        is `x - block` more than the key's.
      scorers: queries that meet `vectors`, `[b, h, d, t]`.
      vectors: vectors of the distances, `[h, windows, d, 2 block]`, where element x is of pairs in
        which the key's place in its block is `x - block` more than the query's.
      query_marks: int32 `[b, marks, t]`: a number for each text, and whether of a prefix.
      key_marks: int32 `[b, marks, s]`; a pair of other numbers is hidden.
      seeds: of dropout, int32 `[b, h, 1, 1]`.
      first: slot of the first query, int32 `[1]`.
    """

    queries: Any
    keys: Any
    values: Any
    windows: Any = None
    scorers: Any = None
    vectors: Any = None
    query_marks: Any = None
    key_marks: Any = None
    seeds: Any = None
    first: Any = None


class Specs:
    """Blocks of arrays in a grid of heads, rows, and blocks of queries and of keys."""

    def __init__(self, operands: Operands, plan: Plan, *, queries_outside: bool) -> None:
        """Of a grid whose third axis are blocks of queries, or else of keys."""
        self._plan, self._operands = plan, operands
        self._queries_outside = queries_outside
        self._sharing = operands.queries.shape[1] // operands.keys.shape[1]

    def at(self, block: tuple[int | None, ...], index: IndexMap) -> pl.BlockSpec:
        """A block whose place is `index(head, row, block of queries, block of keys)`."""

        def index_map(head: Any, row: Any, outside: Any, inside: Any) -> tuple[Any, ...]:
            if self._queries_outside:
                keys = self._plan.nearest_keys(outside, inside)
                return index(head, row, outside, keys)
            return index(head, row, self._plan.nearest_queries(outside, inside), outside)

        return pl.BlockSpec(block, index_map)

    def of_queries(self, units: int) -> pl.BlockSpec:
        """Of `[b, h, units, t]`."""
        block = (None, None, units, self._plan.query_block)
        return self.at(block, lambda head, row, i, j: (row, head, 0, i))

    def of_keys(self, units: int, sharing: int | None = None) -> pl.BlockSpec:
        """Of `[b, h or g, units, s]`."""
        n = self._sharing if sharing is None else sharing
        block = (None, None, units, self._plan.key_block)
        return self.at(block, lambda head, row, i, j: (row, head // n, 0, j))

    def of_distances(self, units: int) -> pl.BlockSpec:
        """Of `[h, windows, units, 2 block]`."""
        block = (None, None, units, 2 * self._plan.key_block)
        before = self._plan.key_blocks - 1
        return self.at(block, lambda head, row, i, j: (head, i - j + before, 0, 0))

    def of_all_distances(self, units: int) -> pl.BlockSpec:
        """Of `[h, windows, units, 2 block]`, all windows of a head."""
        block = (None, self._plan.num_windows, units, 2 * self._plan.key_block)
        return self.at(block, lambda head, *_: (head, 0, 0, 0))

    def of_operands(self) -> Operands:
        """Of each operand."""
        operands, plan = self._operands, self._plan
        units = operands.keys.shape[2]
        marks = 0 if operands.key_marks is None else operands.key_marks.shape[1]
        of_query_marks = self.at(
            (None, marks, plan.query_block), lambda head, row, i, j: (row, 0, i)
        )
        of_key_marks = self.at((None, marks, plan.key_block), lambda head, row, i, j: (row, 0, j))
        specs = Operands(
            queries=self.of_queries(units),
            keys=self.of_keys(units),
            values=self.of_keys(operands.values.shape[2]),
            windows=self.of_distances(1),
            scorers=self.of_queries(units),
            vectors=self.of_distances(units),
            query_marks=of_query_marks,
            key_marks=of_key_marks,
            seeds=self.at((None, None, 1, 1), lambda head, row, i, j: (row, head, 0, 0)),
            first=pl.BlockSpec(memory_space=pltpu.SMEM),
        )
        return Operands(
            *(None if x is None else spec for x, spec in zip(operands, specs, strict=True))
        )


class Block:
    """Block i of queries and block j of keys, inside a kernel.

    What lies beyond a row's end in its last block is undefined in memory, and 0 here.
    """

    def __init__(self, refs: Operands, plan: Plan, i: jax.Array, j: jax.Array) -> None:
        """From references to the block's operands."""
        self._refs, self._plan = refs, plan
        self._first = 0 if refs.first is None else refs.first[0]
        self.is_seen = plan.sees(i, j, self._first) if plan.is_skipping else None
        self._queries = i * plan.query_block + _along((1, plan.query_block), 1)
        self._keys = j * plan.key_block + _along((1, plan.key_block), 1)
        self._keys_column = j * plan.key_block + _along((plan.key_block, 1), 0)
        self._partial_queries = plan.num_queries % plan.query_block != 0
        self._partial_keys = plan.num_keys % plan.key_block != 0

    def of_queries(self, ref: Any) -> jax.Array:
        """`[units, queries]` of a reference."""
        within = self._queries < self._plan.num_queries if self._partial_queries else None
        return _within(ref[...], within)

    def of_keys(self, ref: Any) -> jax.Array:
        """`[units, keys]` of a reference."""
        within = self._keys < self._plan.num_keys if self._partial_keys else None
        return _within(ref[...], within)

    def scores(self) -> jax.Array:
        """Scores, float32 `[keys, queries]`; `HIDDEN` where a query must not see a key."""
        refs, n = self._refs, self._plan.key_block
        scores = product(self.of_keys(refs.keys), self.of_queries(refs.queries), OF_UNITS)
        if refs.windows is not None:
            scores += tiles.spread(refs.windows[...], n)[:, n:]
        if refs.vectors is not None:
            of_distances = product(refs.vectors[...], self.of_queries(refs.scorers), OF_UNITS)
            scores += tiles.lowered(jnp.concatenate([of_distances[n:], of_distances[:n]]))[:n]
        allowed = self._allowed()
        return scores if allowed is None else jnp.where(allowed, scores, HIDDEN)

    def dropped(self, weights: jax.Array) -> jax.Array:
        """Weights, or their gradients, some of which are dropped and the others scaled up."""
        plan = self._plan
        if not plan.threshold:
            return weights
        shared = [axis % 4 for axis in plan.shared_axes]
        queries = self._queries * (2 not in shared)
        keys = self._keys_column * (3 not in shared)
        kept = tiles.kept(self._refs.seeds[...], keys, queries, plan.threshold)
        return jnp.where(kept, weights * (65536 / (65536 - plan.threshold)), 0.0)

    def _allowed(self) -> jax.Array | None:
        plan, marks = self._plan, self._refs.query_marks
        conditions = []
        if plan.causal:
            queries = self._queries + self._first
            seen = self._keys_column <= queries
            if plan.window is not None:
                seen &= self._keys_column > queries - plan.window
            if plan.has_prefix:
                of_keys = tiles.column(self._refs.key_marks[1:2, :])
                seen |= (of_keys * marks[1:2, :]) != 0
            conditions.append(seen)
        if marks is not None:
            of_keys = tiles.column(self._refs.key_marks[0:1, :])
            conditions.append(of_keys == marks[0:1, :])
        if self._partial_keys:
            conditions.append(self._keys_column < plan.num_keys)
        if self._partial_queries:
            conditions.append(self._queries < plan.num_queries)
        allowed = None
        for condition in conditions:
            allowed = condition if allowed is None else allowed & condition
        return allowed


def product(x: jax.Array, y: jax.Array, axes: Any = (((1,), (0,)), ((), ()))) -> jax.Array:
    """A matrix product, accumulated in float32."""
    return jax.lax.dot_general(x, y, axes, preferred_element_type=jnp.float32)


def when(condition: jax.Array | None, do: Callable[[], None]) -> None:
    """Calls a part of a kernel where a condition holds; None always does."""
    if condition is None:
        do()
    else:
        pl.when(condition)(do)


def _along(shape: tuple[int, ...], axis: int) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, shape, axis)


def _within(x: jax.Array, within_1n: jax.Array | None) -> jax.Array:
    if within_1n is None:
        return x
    # A TPU selects among 32-bit elements.
    return jnp.where(within_1n, x.astype(jnp.float32), 0.0).astype(x.dtype)
