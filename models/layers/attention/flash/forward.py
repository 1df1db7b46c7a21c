"""The forward kernel: attention, and each query's log-normaliser (Dao et al. 2022)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from models.layers.attention.flash.cost import forward_cost
from models.layers.attention.flash.operands import LEAST, Block, Operands, Specs, product, when
from models.layers.attention.flash.plan import Plan


def forward(
    operands: Operands, plan: Plan, *, interpret: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Attention.

    Returns:
      `[b, h, d, t]` of the values' units and the queries' dtype, 0 for a query that sees nothing;
      and the log of each query's sum of exponentials, float32 `[b, h, 1, t]`.
    """
    b, h, _, t = operands.queries.shape
    units = operands.values.shape[2]
    specs = Specs(operands, plan, queries_outside=True)
    return pl.pallas_call(
        functools.partial(_kernel, plan=plan),
        out_shape=(
            jax.ShapeDtypeStruct((b, h, units, t), operands.queries.dtype),
            jax.ShapeDtypeStruct((b, h, 1, t), jnp.float32),
        ),
        grid=(h, b, plan.query_blocks, plan.key_blocks),
        in_specs=[specs.of_operands()],
        out_specs=(specs.of_queries(units), specs.of_queries(1)),
        scratch_shapes=[
            pltpu.VMEM((units, plan.query_block), jnp.float32),
            pltpu.VMEM((1, plan.query_block), jnp.float32),
            pltpu.VMEM((1, plan.query_block), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "parallel", "arbitrary")
        ),
        cost_estimate=forward_cost(operands, plan),
        interpret=interpret,
        name="flash_attention_forward",
    )(operands)


def _kernel(
    refs: Operands, y_ref: Any, log_z_ref: Any, sums: Any, top: Any, total: Any, *, plan: Plan
) -> None:
    i, j = pl.program_id(2), pl.program_id(3)
    block = Block(refs, plan, i, j)

    @pl.when(j == 0)
    def _() -> None:
        sums[...] = jnp.zeros_like(sums)
        top[...] = jnp.full_like(top, LEAST)
        total[...] = jnp.zeros_like(total)

    def add() -> None:
        scores = block.scores()
        new_top = jnp.maximum(top[...], jnp.max(scores, axis=0, keepdims=True))
        weights = jnp.exp(scores - new_top)
        shrunk = jnp.exp(top[...] - new_top)
        total[...] = total[...] * shrunk + jnp.sum(weights, axis=0, keepdims=True)
        values = block.of_keys(refs.values)
        dropped = block.dropped(weights).astype(values.dtype)
        sums[...] = sums[...] * shrunk + product(values, dropped)
        top[...] = new_top

    when(block.is_seen, add)

    @pl.when(j == plan.key_blocks - 1)
    def _() -> None:
        # 0 of a query that sees nothing.
        divisor = jnp.where(total[...] == 0.0, 1.0, total[...])
        y_ref[...] = (sums[...] / divisor).astype(y_ref.dtype)
        log_z_ref[...] = top[...] + jnp.log(divisor)
