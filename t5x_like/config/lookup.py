"""What is bound: the values of macros, and everything that a program would be called with."""

import copy
from collections.abc import Callable
from typing import Any

from t5x_like.config import checks, provenance
from t5x_like.config.gin_internals import CONFIG, MACRO, inverse_lookup, iterate_references
from t5x_like.config.provenance import Place
from t5x_like.config.references import bindings_of, settled


def macro(name: str) -> Any:
    """The value of a macro, built.

    Raises:
      UserError: the macro, or something that its value needs, is not bound, or is of the wrong
        type.
    """
    checks.check_macro(name)
    return copy.deepcopy(CONFIG[name, MACRO]["value"])


def has_macro(name: str) -> bool:
    """Whether a macro of this name is bound."""
    return (name, MACRO) in CONFIG


def bound_in(name: str) -> Place | None:
    """Where the value of a macro was bound; None where it is not."""
    return next(reversed(provenance.places((name, MACRO), "value")), None)


def argument(program: Callable[..., Any], name: str) -> Any:
    """The value that is bound for an argument of a program, built; None where none is.

    Raises:
      UserError: see `macro`.
    """
    return copy.deepcopy(bindings_of(inverse_lookup(program), ()).get(name))


def is_bound_to(selector: str, parameter: str, wanted: Any) -> bool:
    """Whether a parameter of a class is bound to a value, in any scope.

    Args:
      selector: the end of the class's name, such as `DatasetConfig`.
      parameter: of the class.
      wanted: the value.
    """
    return any(
        settled(values[parameter]) == wanted
        for (_, name), values in CONFIG.items()
        if name.rpartition(".")[2] == selector and parameter in values
    )


def reached(program: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """What each bound argument of `program` is made of: binding or macro to value, unbuilt."""
    found: dict[str, dict[str, Any]] = {}
    for argument, value in bindings_of(inverse_lookup(program), ()).items():
        found[argument] = {f"{program.__name__}.{argument}": value}
        for reference in iterate_references(value):
            _collect(reference.configurable, tuple(reference.scopes), found[argument])
    return found


def _collect(configurable: Any, scopes: tuple[str, ...], found: dict[str, Any]) -> None:
    for parameter, value in bindings_of(configurable, scopes).items():
        is_macro = configurable.selector == MACRO
        name = "/".join(scopes if is_macro else (*scopes, f"{configurable.selector}.{parameter}"))
        if name not in found:
            found[name] = value
            for reference in iterate_references(value):
                _collect(reference.configurable, tuple(reference.scopes) or scopes, found)
