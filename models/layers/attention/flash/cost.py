"""What a call of the kernels computes and moves, which XLA cannot see inside them."""

import math
from typing import Any

from jax.experimental import pallas as pl

from models.layers.attention.flash.operands import Operands
from models.layers.attention.flash.plan import Plan


def forward_cost(operands: Operands, plan: Plan) -> pl.CostEstimate:
    """Products of queries and keys, of weights and values, and of queries and distances."""
    units, value_units = operands.keys.shape[2], operands.values.shape[2]
    queries, keys = _of_queries(operands), _of_keys(operands)
    of_result = operands.queries.size // units * (value_units * _size(operands.queries) + 4)
    return _cost(
        operands,
        plan,
        products=units + value_units,
        products_of_distances=units,
        num_bytes=queries + of_result + _turns(plan) * keys,
    )


def backward_cost(operands: Operands, plan: Plan) -> pl.CostEstimate:
    """The scores again, and two products more for each of the forward's."""
    units, value_units = operands.keys.shape[2], operands.values.shape[2]
    queries, keys = _of_queries(operands), _of_keys(operands)
    # The result's gradient, normalisers and shifts are read as the queries are.
    read = queries + operands.queries.size // units * (value_units * _size(operands.queries) + 8)
    is_shared = operands.keys.shape[1] < operands.queries.shape[1]
    of_gradients = keys // _size(operands.keys) * (4 if is_shared else _size(operands.keys))
    of_distances = sum(4 * x.size for x in (operands.windows, operands.vectors) if x is not None)
    return _cost(
        operands,
        plan,
        products=3 * units + 2 * value_units,
        products_of_distances=3 * units,
        num_bytes=_turns(plan) * read + keys + queries + of_gradients + of_distances,
    )


def _cost(
    operands: Operands, plan: Plan, *, products: int, products_of_distances: int, num_bytes: int
) -> pl.CostEstimate:
    """Of the pairs of blocks that are visited; products are counted by their units of a pair."""
    b, h, *_ = operands.queries.shape
    blocks = b * h * plan.visited()
    pairs = blocks * plan.query_block * plan.key_block
    flops = 2 * pairs * products
    if operands.vectors is not None:
        flops += 2 * 2 * pairs * products_of_distances
    windows = h if plan.num_windows == 1 else blocks
    for x in (operands.windows, operands.vectors):
        if x is not None:
            num_bytes += windows * math.prod(x.shape[2:]) * _size(x)
    if operands.key_marks is not None:
        marks = operands.key_marks.shape[1]
        num_bytes += 4 * marks * blocks * (plan.query_block + plan.key_block)
    return pl.CostEstimate(flops=flops, transcendentals=pairs, bytes_accessed=num_bytes)


def _turns(plan: Plan) -> int:
    """How often the inner side of the grid is read, which turns through its blocks."""
    return max(round(plan.visited() / max(plan.query_blocks, plan.key_blocks)), 1)


def _of_queries(operands: Operands) -> int:
    """Bytes of what is read for each query."""
    arrays = 1 if operands.scorers is None else 2
    return arrays * operands.queries.size * _size(operands.queries)


def _of_keys(operands: Operands) -> int:
    """Bytes of keys and values, once for each head of the queries."""
    shared = operands.queries.shape[1] // operands.keys.shape[1]
    return shared * (operands.keys.size + operands.values.size) * _size(operands.keys)


def _size(x: Any) -> int:
    return x.dtype.itemsize
