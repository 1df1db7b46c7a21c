"""The private names of gin that this package stands on; no other module uses any.

gin offers no public way to list what is bound, to know the line of a binding, or to parse one
statement with a file's imports. Written for gin-config 0.5.0; `setup.py` asks for 0.5.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from gin import config as _gin
from gin import config_parser

from t5x_like.errors import UserError

_USED = (
    "ConfigurableReference",
    "ImportManager",
    "ParsedBindingKey",
    "ParserDelegate",
    "_CONFIG",
    "_IMPORTS",
    "_OPERATIVE_CONFIG",
    "_OPERATIVE_CONFIG_LOCK",
    "_REGISTRY",
    "_inverse_lookup",
    "_is_literally_representable",
    "_make_gin_wrapper",
    "_parse_context",
    "_parse_scope",
    "iterate_references",
)


def check_version(module: Any) -> None:
    """Raises `UserError` where gin's module `config` lacks a name that is used here."""
    missing = [name for name in _USED if not hasattr(module, name)]
    if missing:
        raise UserError(
            f"the installed gin-config has no {', '.join(missing)}, which t5x_like needs: "
            "install gin-config 0.5.0."
        )


check_version(_gin)

Key = tuple[str, str]
"""Scope and selector: `("train", "t5x_like.data.DatasetConfig")`, `("SEED", "gin.macro")`."""

# (scope, selector) -> parameter -> value: as bound, and as used so far, defaults included.
CONFIG: dict[Key, dict[str, Any]] = _gin._CONFIG
OPERATIVE_CONFIG: dict[Key, dict[str, Any]] = _gin._OPERATIVE_CONFIG
OPERATIVE_CONFIG_LOCK = _gin._OPERATIVE_CONFIG_LOCK
# The import statements of everything parsed.
IMPORTS: set[Any] = _gin._IMPORTS
# Selector -> what is configured; it stays when the configuration is cleared.
REGISTRY = _gin._REGISTRY

Reference = _gin.ConfigurableReference
ImportManager = _gin.ImportManager
ParsedBindingKey = _gin.ParsedBindingKey
iterate_references = _gin.iterate_references
inverse_lookup = _gin._inverse_lookup
is_literal = _gin._is_literally_representable
parse_scope = _gin._parse_scope


def from_import(module: str) -> Any:
    """The statement `from package import module`, for a module's dotted name."""
    return config_parser.ImportStatement(module, is_from=True, alias=None, location=None)


def check_no_module(selector: str) -> None:
    """Raises `ValueError` for a module, of which gin would say that values are missing."""
    try:
        _, values = _gin._parse_context()._resolve_selector(selector)
    except (NameError, AttributeError):
        return  # which gin says itself
    if inspect.ismodule(values[-1]):
        raise ValueError(f"'{selector}' is the module {values[-1].__name__}")


class ParserDelegate(_gin.ParserDelegate):  # type: ignore[misc]  # gin has no types
    """gin's, after a look at what references name."""

    def configurable_reference(self, scoped_selector: str, evaluate: bool) -> Any:
        """A reference to a function or class; a function has `without_gin`."""
        check_no_module(scoped_selector.rpartition("/")[2])
        reference = super().configurable_reference(scoped_selector, evaluate)
        function = reference.scoped_configurable_fn
        if inspect.isfunction(function):
            function.without_gin = functools.partial(  # type: ignore[attr-defined]
                _without_gin, reference.configurable, list(reference.scopes)
            )
        return reference


def call_with_bindings(configurable: Any, make: Callable[..., Any]) -> Any:
    """What `make` returns for the arguments that are bound for a configurable, which is not called.

    The arguments are noted in the operative configuration as the configurable's.
    """

    def made(**arguments: Any) -> Any:
        return make(**arguments)

    program = configurable.wrapped
    made.__signature__ = inspect.signature(program)  # type: ignore[attr-defined]
    lists = configurable.allowlist, configurable.denylist
    return _gin._make_gin_wrapper(made, program, configurable.name, configurable.selector, *lists)()


def _without_gin(configurable: Any, scopes: list[str]) -> Any:
    """The function itself, with what is bound for it in these scopes as a partial's arguments."""
    with _gin.config_scope(scopes):
        bound = call_with_bindings(configurable, dict)
    return functools.partial(configurable.wrapped, **bound) if bound else configurable.wrapped


DYNAMIC_REGISTRATION = from_import("__gin__.dynamic_registration")
MACRO, CONSTANT = "gin.macro", "gin.constant"


def imports() -> list[Any]:
    """The import statements of all files parsed so far, in a stable order."""
    found = [statement for statement in IMPORTS if not statement.module.startswith("__gin__")]
    return sorted(found, key=lambda statement: statement.format())
