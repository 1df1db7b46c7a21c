"""Parts of a model, as modules and functions declare them: what they spend is counted by part.

A module declares its part by a class attribute `part`, a function by the decorator of that name;
equations stay as they are. Any string will do: these are the names that the layers here use.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import jax
from flax import linen as nn

ATTENTION_PROJECTIONS = "attention_projections"
ATTENTION_SCORES = "attention_scores"
CHARACTERS = "characters"
EMBEDDING = "embedding"
EXPERTS = "experts"
HEAD = "head"
MLP = "mlp"
NORM = "norm"
RECURRENCE = "recurrence"
RELATIVE_POSITIONS = "relative_positions"
ROUTER = "router"

# How a scope in a trace begins that says something about the products inside.
PART, FULL, NEEDED = "part=", "full=", "needed="

Share = tuple[int, int]
"""(some, of all)"""

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def part(
    name: str,
    *,
    full: Callable[..., float] | None = None,
    needed: Callable[..., Share] | None = None,
) -> Callable[[Callable[_Args, _Result]], Callable[_Args, _Result]]:
    """Declares the part of a model that a function belongs to.

    Args:
      name: of the part; without a slash.
      full: from the function's arguments to its FLOPs, for a jitted function whose own products
        do not tell: it chooses among implementations, or calls a kernel.
      needed: from the function's arguments to (some, of all): so many of the products that are
        computed have an effect.
    """

    def decorate(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
        @functools.wraps(function)
        def scoped(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
            with contextlib.ExitStack() as scopes:
                scopes.enter_context(jax.named_scope(f"{PART}{name}"))
                if needed is not None:
                    some, of_all = needed(*args, **kwargs)
                    scopes.enter_context(jax.named_scope(f"{NEEDED}{some}:{of_all}"))
                if full is not None:
                    scopes.enter_context(jax.named_scope(f"{FULL}{full(*args, **kwargs)}"))
                return function(*args, **kwargs)

        return scoped

    return decorate


def scope_of_module(
    method: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    """Calls a module's method in the scope of the module's part; for `nn.intercept_methods`."""
    name = getattr(type(context.module), "part", None)
    if not isinstance(name, str):
        return method(*args, **kwargs)
    return part(name)(method)(*args, **kwargs)
