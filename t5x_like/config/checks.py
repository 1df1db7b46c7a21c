"""Whether everything that a program will be called with is bound, and to a value of its type.

Told before anything is built, so that a run does not end in an error after minutes of work.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from t5x_like.config import binding_types, mistakes
from t5x_like.config.gin_internals import (
    CONFIG,
    CONSTANT,
    MACRO,
    inverse_lookup,
    iterate_references,
)
from t5x_like.config.references import bindings_of, macro_name, settled
from t5x_like.errors import UserError


def check(program: Callable[..., Any], example: str = "runs/pretrain.gin") -> None:
    """Verifies that everything `program` will be called with is bound, and to what it can take.

    Follows references and macros from the program's own bindings; what it cannot reach
    may stay unbound.

    Args:
      program: what will be called.
      example: a packaged file that configures it, for the error.

    Raises:
      UserError: the first missing macro or argument, with its purpose; or the first value of
        the wrong type.
    """
    configurable = inverse_lookup(program)
    # A name that gin knows from an earlier configuration in this process has no bindings now.
    if configurable is None or all(key[1] != configurable.selector for key in CONFIG):
        raise UserError(
            f"no gin file configures {program.__module__}.{program.__name__}: "
            f"add a file that does, such as --gin_file={example}."
        )
    _check_reachable(configurable, (), set())


def check_macro(name: str) -> None:
    """Verifies that a macro, and everything that its value needs, is bound.

    Raises:
      UserError: what is not bound, with its purpose; or a value of the wrong type.
    """
    bound = CONFIG.get((name, MACRO))
    if bound is None:
        raise _missing_macro(name)
    for reference in iterate_references(bound["value"]):
        _check_reachable(reference.configurable, tuple(reference.scopes), set(), reference.evaluate)


def _missing_macro(name: str, needed_by: str = "") -> UserError:
    known = [scope for scope, selector in CONFIG if selector == MACRO]
    return mistakes.missing_macro(name, needed_by, known)


def _check_reachable(
    configurable: Any, scopes: tuple[str, ...], seen: set[Any], called: bool = True
) -> None:
    """Walks what a call of `configurable` in `scopes` would evaluate.

    Not `called` means that the function itself is passed on: its caller may give the
    arguments that are not bound.
    """
    if (configurable.selector, scopes, called) in seen:
        return
    seen.add((configurable.selector, scopes, called))
    bound = bindings_of(configurable, scopes)
    shown = "/".join([*scopes, configurable.selector])
    if called:
        _check_required(configurable, bound, shown)
    for parameter, value in bound.items():
        for reference in iterate_references(value):
            inner = tuple(reference.scopes) or scopes
            name, selector = "/".join(inner), reference.configurable.selector
            if selector == MACRO and (name, selector) not in CONFIG:
                raise _missing_macro(name, f"{shown}.{parameter}")
            if selector == CONSTANT and name == "gin.REQUIRED":
                if configurable.selector == MACRO:
                    raise _missing_macro("/".join(scopes))
                raise UserError(f"{shown}.{parameter} is required and not set.")
            _check_reachable(reference.configurable, inner, seen, reference.evaluate)
    if not configurable.selector.startswith("gin."):
        _check_types(configurable, bound, shown)


def _check_types(configurable: Any, bound: Mapping[str, Any], shown: str) -> None:
    """Raises for a value that its parameter cannot take."""
    parameters = inspect.signature(configurable.wrapped).parameters
    for name, value in bound.items():
        found = settled(value)
        if name not in parameters or binding_types.fits(found, parameters[name].annotation):
            continue
        macro = macro_name(value)
        taker = f"{shown}.{name}" if macro else "it"
        annotation = parameters[name].annotation
        raise mistakes.wrong_type(macro or f"{shown}.{name}", found, taker, annotation)


def _check_required(configurable: Any, bound: dict[str, Any], shown: str) -> None:
    """Raises for an argument without default that no binding gives."""
    if configurable.selector.startswith("gin."):
        return
    for name, parameter in inspect.signature(configurable.wrapped).parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and name not in bound:
            raise UserError(
                f"{shown}.{name} is required and not set: give --gin.{shown}.{name}=VALUE."
            )
