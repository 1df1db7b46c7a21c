"""Counting the multiplications of a model from its trace, whatever the family.

Parts of a model are told apart by the names of its modules, which a trace keeps. What no name
tells, a layer says with `needed`: how much of what it computes no one asked for.
"""

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

# `layers.attention_kernels.attend` appears in a trace under this name. Linen's scan also leaves
# a trace of that part of it, the mask, which depends on no layer; it has fewer arguments.
ATTENTION = "attend"
ATTENTION_SCORES = "attention_scores"
# The scope in which logits are computed; everything else is named by its module.
HEAD = "head"
OTHER = "other"
# Name in the trace to part; of a product within several of them, the first counts.
PARTS = {
    ATTENTION: ATTENTION_SCORES,
    "relative": "relative_positions",
    "router": "router",
    "experts": "experts",
    "self_attention": "attention_projections",
    "cross_attention": "attention_projections",
    "mlp": "mlp",
    HEAD: HEAD,
}

_NEEDED = re.compile(r"needed_(\d+)_of_(\d+)")


class Flops(NamedTuple):
    """FLOPs of matrix products, two for each multiplication.

    Attributes:
      full: every query meets every key, every slot of an expert is filled.
      needed: less the pairs that causal and windowed masks hide, and less empty slots.
    """

    full: float = 0.0
    needed: float = 0.0


def needed(some: int, of_all: int) -> contextlib.AbstractContextManager[None]:
    """Says that only `some` of the `of_all` products computed inside have an effect."""
    return jax.named_scope(f"needed_{some}_of_{of_all}")


def matmul_flops(function: Callable[..., Any], *args: Any) -> dict[str, Flops]:
    """FLOPs of the matrix products in `function`, by part (the values of `PARTS`, and `OTHER`).

    Traces and allocates nothing. Attention counts the same whichever implementation was chosen.

    Args:
      function: what is traced.
      *args: its arguments, arrays or `ShapeDtypeStruct`s.
    """
    total: dict[str, Flops] = {}
    for scopes, flops in _products(jax.make_jaxpr(function)(*args).jaxpr, ()):
        # A module's methods stand in a trace as `module.method`.
        modules = {scope.partition(".")[0] for scope in scopes}
        part = next((part for name, part in PARTS.items() if name in modules), OTHER)
        full, useful = total.get(part, Flops())
        total[part] = Flops(full + flops, useful + flops * _needed_share(scopes))
    return total


def _needed_share(scopes: tuple[str, ...]) -> float:
    matches = [match for scope in scopes if (match := _NEEDED.fullmatch(scope))]
    return math.prod(int(match[1]) / int(match[2]) for match in matches)


def _products(jaxpr: Any, scopes: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    """The names around each product, outermost first, and its FLOPs."""
    for equation in jaxpr.eqns:
        stack = str(equation.source_info.name_stack)
        yield from _of_equation(equation, (*scopes, *stack.split("/")))


def _of_equation(equation: Any, scopes: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        inner = math.prod(left[axis] for axis in contracted)
        yield scopes, 2.0 * inner * math.prod(equation.outvars[0].aval.shape)
        return
    if name == "ragged_dot_general":
        # Every row of the left meets one of the matrices on the right.
        left, columns = equation.invars[0].aval.shape, equation.outvars[0].aval.shape[-1]
        yield scopes, 2.0 * math.prod(left) * columns
        return
    if equation.params.get("name") == ATTENTION and len(equation.invars) > 2:
        b, h, t, d = equation.invars[0].aval.shape
        s = equation.invars[1].aval.shape[2]
        yield (*scopes, ATTENTION), 4.0 * b * h * t * s * d
        return
    inner = [list(_products(jaxpr, scopes)) for jaxpr in _inner_jaxprs(equation.params)]
    if name == "cond":
        # Of implementations for several platforms, the one that hides nothing in a loop.
        inner = [max(inner, key=lambda branch: sum(flops for _, flops in branch))]
    turns = equation.params["length"] if name == "scan" else 1
    for products in inner:
        for inner_scopes, flops in products:
            yield inner_scopes, turns * flops


def _inner_jaxprs(params: Mapping[str, Any]) -> Iterator[Any]:
    """The programs inside an equation: bodies, branches, called functions."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            # Some come with their constants, as ClosedJaxpr, and some without.
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part
