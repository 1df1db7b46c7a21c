"""The private names of gin that this package stands on; no other module uses any.

gin offers no public way to list what is bound, to know the line of a binding, or to parse one
statement with a file's imports. Written for gin-config 0.5.0; `setup.py` asks for 0.5.
"""

import inspect
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
make_wrapper = _gin._make_gin_wrapper
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
        """A reference to a function or class."""
        check_no_module(scoped_selector.rpartition("/")[2])
        return super().configurable_reference(scoped_selector, evaluate)


DYNAMIC_REGISTRATION = from_import("__gin__.dynamic_registration")
MACRO, CONSTANT = "gin.macro", "gin.constant"


def imports() -> list[Any]:
    """The import statements of all files parsed so far, in a stable order."""
    found = [statement for statement in IMPORTS if not statement.module.startswith("__gin__")]
    return sorted(found, key=lambda statement: statement.format())
