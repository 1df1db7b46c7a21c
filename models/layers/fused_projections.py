"""Projections of the same input fused into one product: a layout of parameters for decoding.

A decoding step multiplies a few rows by every matrix of the model, so its time is that of
reading the matrices. One wide matrix is read faster than several narrow ones. The training
layout keeps them apart, which is what initial values, optimizers and checkpoints want.

Kernels `[e, f]` that are joined make one `[e, n, f]`: not side by side, so that `f` can still be
divided among devices without any communication.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

JOINED = "joined"


def join(params: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """`params` with the `Linear`s of each group joined.

    Args:
      params: a tree of parameters.
      groups: name of a submodule to the names of its `Linear`s that are given the same input.
        Where their shapes differ (grouped-query attention), they stay apart.
    """
    return {
        name: _joined(join(subtree, groups), groups.get(name, ()))
        if isinstance(subtree, Mapping)
        else subtree
        for name, subtree in params.items()
    }


def _joined(params: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    members = [params.get(name) for name in names]
    if not members or None in members:
        return params
    if len({str(jax.tree.map(jnp.shape, member)) for member in members}) > 1:
        return params
    rest = {name: subtree for name, subtree in params.items() if name not in names}
    return rest | {JOINED: jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=-2), *members)}


def part_of_joined(module: nn.Module, x: jax.Array, index: int, dtype: str) -> jax.Array | None:
    """The result of one of the joined products, or None where `module`'s are apart.

    Every part states the whole product; the compiler makes equal ones one.

    Args:
      module: whose parameters were given to `join`.
      x: `[..., e]`, the input of all parts.
      index: which part, in the order of the group.
      dtype: of the computation.

    Returns:
      `[..., f]`.
    """
    params = module.variables.get("params", {})
    if JOINED not in params:
        return None
    kernel_enf = params[JOINED]["kernel"].astype(dtype)
    y = jax.lax.dot_general(x.astype(dtype), kernel_enf, (((x.ndim - 1,), (0,)), ((), ())))
    y = y[..., index, :]
    if "bias" in params[JOINED]:
        y += params[JOINED]["bias"][index].astype(dtype)
    return y
