"""The backward kernel: gradients of queries, keys, values and relative positions, in one pass."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from models.layers.attention.flash import tiles
from models.layers.attention.flash.cost import backward_cost
from models.layers.attention.flash.operands import (
    OF_LANES,
    OF_UNITS,
    Block,
    Operands,
    Specs,
    product,
    when,
)
from models.layers.attention.flash.plan import Plan


def backward(
    operands: Operands,
    dy_bhdt: jax.Array,
    log_z_bh1t: jax.Array,
    shift_bh1t: jax.Array,
    plan: Plan,
    *,
    interpret: bool = False,
) -> Operands:
    """Gradients of the operands; None of those that are no numbers.

    Those of keys and values have a head for each of the queries', float32 where heads share them.

    Args:
      operands: as of `forward`.
      dy_bhdt: gradient of what `forward` returns first.
      log_z_bh1t: what it returns second.
      shift_bh1t: for each query the sum of the products of its result and its gradient, float32.
      plan: as of `forward`.
      interpret: runs the program without a TPU.
    """
    b, h, units, t = operands.queries.shape
    s, value_units = operands.keys.shape[3], operands.values.shape[2]
    specs = Specs(operands, plan, queries_outside=False)
    all_queries = plan.query_blocks * plan.query_block
    whole = specs.at((None, None, units, all_queries), lambda head, row, *_: (row, head, 0, 0))
    dtype = operands.queries.dtype if operands.keys.shape[1] == h else jnp.float32

    def rows(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    outputs = Operands(
        queries=(rows((b, h, units, t), operands.queries.dtype), whole),
        keys=(rows((b, h, units, s), dtype), specs.of_keys(units, sharing=1)),
        values=(rows((b, h, value_units, s), dtype), specs.of_keys(value_units, sharing=1)),
    )
    of_all_queries = pltpu.VMEM((plan.query_blocks, units, plan.query_block), jnp.float32)
    scratch = Operands(
        queries=of_all_queries,
        keys=pltpu.VMEM((units, plan.key_block), jnp.float32),
        values=pltpu.VMEM((value_units, plan.key_block), jnp.float32),
    )
    if operands.windows is not None:
        shape = rows(operands.windows.shape, jnp.float32)
        outputs = outputs._replace(windows=(shape, specs.of_all_distances(1)))
    if operands.vectors is not None:
        shape = rows(operands.vectors.shape, jnp.float32)
        outputs = outputs._replace(
            vectors=(shape, specs.of_all_distances(units)), scorers=outputs.queries
        )
        scratch = scratch._replace(scorers=of_all_queries)
    is_relative = operands.windows is not None or operands.vectors is not None
    of_rows: Literal["arbitrary", "parallel"] = "arbitrary" if is_relative else "parallel"
    gradients = pl.pallas_call(
        functools.partial(_kernel, plan=plan),
        out_shape=[Operands(*(None if x is None else x[0] for x in outputs))],
        grid=(h, b, plan.key_blocks, plan.query_blocks),
        in_specs=[
            specs.of_operands(),
            specs.of_queries(value_units),
            specs.of_queries(1),
            specs.of_queries(1),
        ],
        out_specs=[Operands(*(None if x is None else x[1] for x in outputs))],
        scratch_shapes=[scratch],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", of_rows, "arbitrary", "arbitrary")
        ),
        cost_estimate=backward_cost(operands, plan),
        interpret=interpret,
        name="flash_attention_backward",
    )(operands, dy_bhdt, log_z_bh1t, shift_bh1t)
    return gradients[0]


def _kernel(
    refs: Operands,
    dy_ref: Any,
    log_z_ref: Any,
    shift_ref: Any,
    outputs: Operands,
    scratch: Operands,
    *,
    plan: Plan,
) -> None:
    row, j, i = pl.program_id(1), pl.program_id(2), pl.program_id(3)
    block = Block(refs, plan, i, j)
    is_first = (i == 0) & (j == 0)
    window = i - j + plan.key_blocks - 1

    @pl.when(is_first & (row == 0))
    def _() -> None:
        for ref in (outputs.windows, outputs.vectors):
            if ref is not None:
                ref[...] = jnp.zeros_like(ref)

    @pl.when(is_first)
    def _() -> None:
        for ref in (scratch.queries, scratch.scorers):
            if ref is not None:
                ref[...] = jnp.zeros_like(ref)

    @pl.when(i == 0)
    def _() -> None:
        scratch.keys[...] = jnp.zeros_like(scratch.keys)
        scratch.values[...] = jnp.zeros_like(scratch.values)

    def add() -> None:
        queries, keys = block.of_queries(refs.queries), block.of_keys(refs.keys)
        dy = block.of_queries(dy_ref)
        weights = jnp.exp(block.scores() - block.of_queries(log_z_ref))
        dropped = block.dropped(weights).astype(dy.dtype)
        scratch.values[...] += product(dy, dropped, OF_LANES)
        dweights = block.dropped(product(block.of_keys(refs.values), dy, OF_UNITS))
        dscores = weights * (dweights - block.of_queries(shift_ref))
        if refs.windows is not None:
            padded = jnp.concatenate([jnp.zeros_like(dscores), dscores], axis=1)
            outputs.windows[window] += tiles.gathered(padded)
        if refs.vectors is not None:
            n = plan.key_block
            raised = tiles.raised(jnp.concatenate([dscores, jnp.zeros_like(dscores)]))
            of_distances = jnp.concatenate([raised[n:], raised[:n]]).astype(queries.dtype)
            scratch.scorers[i] += product(refs.vectors[...], of_distances)
            scorers = block.of_queries(refs.scorers)
            outputs.vectors[window] += product(scorers, of_distances, OF_LANES)
        dscores = dscores.astype(queries.dtype)
        scratch.keys[...] += product(queries, dscores, OF_LANES)
        scratch.queries[i] += product(keys, dscores)

    when(block.is_seen, add)

    @pl.when(i == plan.query_blocks - 1)
    def _() -> None:
        outputs.keys[...] = scratch.keys[...].astype(outputs.keys.dtype)
        outputs.values[...] = scratch.values[...].astype(outputs.values.dtype)

    @pl.when((i == plan.query_blocks - 1) & (j == plan.key_blocks - 1))
    def _() -> None:
        for block_index in range(plan.query_blocks):
            first = block_index * plan.query_block
            columns = slice(first, first + plan.query_block)
            outputs.queries[:, columns] = scratch.queries[block_index].astype(outputs.queries.dtype)
            if outputs.scorers is not None:
                of_block = scratch.scorers[block_index]
                outputs.scorers[:, columns] = of_block.astype(outputs.scorers.dtype)
