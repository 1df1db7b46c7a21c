"""FLOPs of a model's matrix products, counted in its trace.

The trace keeps what modules and functions say of themselves (`layers.parts`). No module is known
here by name.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend.core import Literal

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
    return _by_part((product, 1) for product in _traced(function, args, lambda name: False))


def gradient_flops(
    trained: Callable[[str], bool], function: Callable[..., Any], params: Any, *args: Any
) -> dict[str, Flops]:
    """FLOPs of the products by which the gradient of some parameters is computed, by part.

    Beside the forward pass. Each product of it has one more for each factor that depends on a
    trained parameter: none below the first of them, one above it where the matrix is frozen, two
    where it is trained.

    Args:
      trained: whether a parameter is, by its name, `decoder/layers/mlp/wi/kernel`.
      function: as in `matmul_flops`.
      params: the function's first argument.
      *args: the others.
    """
    products = _traced(function, (params, *args), trained)
    return _by_part((product, product.moving) for product in products)


def in_full(*passes: Mapping[str, Flops]) -> float:
    """The FLOPs of passes in full, all parts together."""
    return sum(part.full for one in passes for part in one.values())


def together(passes: Iterable[Mapping[str, Flops]]) -> dict[str, Flops]:
    """The FLOPs of several models' passes, by part."""
    found: dict[str, Flops] = {}
    for one in passes:
        for name, part in one.items():
            own = found.get(name, Flops())
            found[name] = Flops(own.full + part.full, own.needed + part.needed)
    return found


class _Product(NamedTuple):
    """A product: the scopes around it, outermost first, and how many of its factors are trained."""

    scopes: tuple[str, ...]
    flops: float
    moving: int


def _traced(
    function: Callable[..., Any], args: tuple[Any, ...], trained: Callable[[str], bool]
) -> list[_Product]:
    with nn.intercept_methods(parts.scope_of_module):
        jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    params = jax.tree_util.tree_leaves_with_path(args[0])
    moves = [trained(jax.tree_util.keystr(p, simple=True, separator="/")) for p, _ in params]
    moves += [False] * (len(jaxpr.invars) - len(moves))
    return _products(jaxpr, (), moves)[0]


def _by_part(products: Iterable[tuple[_Product, int]]) -> dict[str, Flops]:
    total: dict[str, Flops] = {}
    for product, times in products:
        name = next(_said(parts.PART, reversed(product.scopes)), OTHER)
        full, needed = total.get(name, Flops())
        flops = times * product.flops
        total[name] = Flops(full + flops, needed + flops * _needed_share(product.scopes))
    return total


def _said(prefix: str, scopes: Iterator[str]) -> Iterator[str]:
    """The rest of the scopes that begin with a prefix."""
    return (scope.removeprefix(prefix) for scope in scopes if scope.startswith(prefix))


def _needed_share(scopes: tuple[str, ...]) -> float:
    shares = (share.split(":") for share in _said(parts.NEEDED, iter(scopes)))
    return math.prod(int(some) / int(of_all) for some, of_all in shares)


def _products(
    jaxpr: Any, scopes: tuple[str, ...], moves: Sequence[bool]
) -> tuple[list[_Product], list[bool]]:
    """The products of a program, and which of its results depend on a trained parameter.

    Args:
      jaxpr: the program.
      scopes: around it.
      moves: which of its arguments depend on a trained parameter.
    """
    known = dict(zip(jaxpr.invars, moves, strict=True))
    products: list[_Product] = []
    for equation in jaxpr.eqns:
        stack = str(equation.source_info.name_stack)
        given = [not isinstance(v, Literal) and known.get(v, False) for v in equation.invars]
        found, results = _of_equation(equation, (*scopes, *stack.split("/")), given)
        products += found
        for variable, result in zip(equation.outvars, results, strict=True):
            known[variable] = result and jnp.issubdtype(variable.aval.dtype, jnp.inexact)
    return products, [not isinstance(v, Literal) and known.get(v, False) for v in jaxpr.outvars]


def _of_equation(
    equation: Any, scopes: tuple[str, ...], given: list[bool]
) -> tuple[list[_Product], list[bool]]:
    """As `_products`, of one equation."""
    name = equation.primitive.name
    results = [any(given) and name != "stop_gradient"] * len(equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        inner = math.prod(left[axis] for axis in contracted)
        flops = 2.0 * inner * math.prod(equation.outvars[0].aval.shape)
        return [_Product(scopes, flops, sum(given))], results
    if name == "ragged_dot_general":
        # Every row of the left meets one of the matrices on the right.
        left, columns = equation.invars[0].aval.shape, equation.outvars[0].aval.shape[-1]
        return [_Product(scopes, 2.0 * math.prod(left) * columns, sum(given))], results
    if name.startswith(_KERNELS):
        # How much it computes is for the function around it to say; that it computes is known.
        return [_Product(scopes, 0.0, 0)], results
    programs = [_inside(equation, jaxpr, scopes, given) for jaxpr in _inner_jaxprs(equation.params)]
    inner = [products for products, _ in programs]
    if of_all := [found for _, found in programs if len(found) == len(results)]:
        results = [any(each) for each in zip(*of_all, strict=True)]
    if name == "cond":
        # Of implementations for several platforms, the one that hides nothing in a loop.
        inner = [max(inner, key=lambda branch: sum(product.flops for product in branch))]
    stated = next(_said(parts.FULL, iter(scopes[-1:])), None)
    if stated is not None:
        # Linen's scan leaves the part of a function that depends on no layer, a mask, as a call of
        # its own in the same scope: it has no product.
        moving = 2 if any(given) else 0
        return [_Product(scopes, float(stated), moving)] if any(inner) else [], results
    turns = equation.params["length"] if name == "scan" else 1
    return [each._replace(flops=turns * each.flops) for found in inner for each in found], results


def _inside(
    equation: Any, jaxpr: Any, scopes: tuple[str, ...], given: list[bool]
) -> tuple[list[_Product], list[bool]]:
    """As `_products`, of a program inside an equation."""
    count = len(jaxpr.invars)
    if count > len(given) or equation.primitive.name == "while":
        return _products(jaxpr, scopes, [any(given)] * count)
    moves = given[len(given) - count :]  # a choice of branches stands before their arguments
    products, results = _products(jaxpr, scopes, moves)
    if equation.primitive.name == "scan":
        first = equation.params["num_consts"]
        for carried in range(equation.params["num_carry"]):
            if results[carried] and not moves[first + carried]:
                # What one turn hands on depends on a trained parameter: so it does in the next.
                moves[first + carried] = True
                return _inside(equation, jaxpr, scopes, moves)
    return products, results


def _inner_jaxprs(params: Mapping[str, Any]) -> Iterator[Any]:
    """The programs inside an equation: bodies, branches, called functions."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            # Some come with their constants, as ClosedJaxpr, and some without.
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part
