"""Counting the multiplications of a model from its trace, whatever the family."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

# `layers.attention_kernels.attend` appears in a trace under this name. Linen's scan also leaves
# a trace of that part of it, the mask, which depends on no layer; it has fewer arguments.
ATTENTION = "attend"


def matmul_flops(function: Callable[..., Any], *args: Any) -> float:
    """FLOPs of the matrix products in `function`, two for each multiplication.

    Traces and allocates nothing. Attention is counted as if every query met every key,
    whichever implementation was chosen, as papers and MFU figures count it.

    Args:
      function: what is traced.
      *args: its arguments, arrays or `ShapeDtypeStruct`s.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Any) -> float:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> float:
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        inner = math.prod(left[axis] for axis in contracted)
        return 2.0 * inner * math.prod(equation.outvars[0].aval.shape)
    if name == "ragged_dot_general":
        # Every row of the left meets one of the matrices on the right.
        return 2.0 * math.prod(equation.invars[0].aval.shape) * equation.outvars[0].aval.shape[-1]
    if equation.params.get("name") == ATTENTION and len(equation.invars) > 2:
        b, h, t, d = equation.invars[0].aval.shape
        s = equation.invars[1].aval.shape[2]
        return 4.0 * b * h * t * s * d
    inner = [_count(jaxpr) for jaxpr in _inner_jaxprs(equation.params)]
    if name == "scan":
        return equation.params["length"] * sum(inner)
    return max(inner, default=0.0) if name == "cond" else sum(inner)


def _inner_jaxprs(params: Mapping[str, Any]) -> Iterator[Any]:
    """The programs inside an equation: bodies, branches, called functions."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            # Some come with their constants, as ClosedJaxpr, and some without.
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part
