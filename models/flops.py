"""FLOPs of a model's matrix products, counted in its trace.

The trace keeps what modules and functions say of themselves (`layers.parts`). No module is known
here by name.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from models.layers import parts

# The part of products that no module or function claims.
OTHER = "other"
# Programs of their own, which a trace does not see into.
_KERNELS = ("pallas_call", "ffi_call", "dot_product_attention")


class Flops(NamedTuple):
    """FLOPs of matrix products, two for each multiplication.

    Attributes:
      full: every query meets every key, every slot of an expert is filled.
      needed: less the pairs that causal and windowed masks hide, and less empty slots.
    """

    full: float = 0.0
    needed: float = 0.0


def matmul_flops(function: Callable[..., Any], *args: Any) -> dict[str, Flops]:
    """FLOPs of the matrix products in `function`, by part.

    Traces and allocates nothing. The body of a scan, over layers or over time, counts as often as
    it runs. A product inside several parts belongs to the innermost. Attention counts the same
    whichever implementation was chosen.

    Args:
      function: what is traced.
      *args: its arguments, arrays or `ShapeDtypeStruct`s.

    Returns:
      The name of a part (see `layers.parts`), or `OTHER`, to its FLOPs.
    """
    with nn.intercept_methods(parts.scope_of_module):
        jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    total: dict[str, Flops] = {}
    for scopes, flops in _products(jaxpr, ()):
        name = next(_said(parts.PART, reversed(scopes)), OTHER)
        full, needed = total.get(name, Flops())
        total[name] = Flops(full + flops, needed + flops * _needed_share(scopes))
    return total


def _said(prefix: str, scopes: Iterator[str]) -> Iterator[str]:
    """The rest of the scopes that begin with a prefix."""
    return (scope.removeprefix(prefix) for scope in scopes if scope.startswith(prefix))


def _needed_share(scopes: tuple[str, ...]) -> float:
    shares = (share.split(":") for share in _said(parts.NEEDED, iter(scopes)))
    return math.prod(int(some) / int(of_all) for some, of_all in shares)


def _products(jaxpr: Any, scopes: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    """The scopes around each product, outermost first, and its FLOPs."""
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
    if name.startswith(_KERNELS):
        # How much it computes is for the function around it to say; that it computes is known.
        yield scopes, 0.0
        return
    inner = [list(_products(jaxpr, scopes)) for jaxpr in _inner_jaxprs(equation.params)]
    if name == "cond":
        # Of implementations for several platforms, the one that hides nothing in a loop.
        inner = [max(inner, key=lambda branch: sum(flops for _, flops in branch))]
    stated = next(_said(parts.FULL, iter(scopes[-1:])), None)
    if stated is not None:
        # Linen's scan leaves the part of a function that depends on no layer, a mask, as a call of
        # its own in the same scope: it has no product.
        if any(inner):
            yield scopes, float(stated)
        return
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
