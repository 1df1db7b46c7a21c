"""Walking from a binding to what its value refers to."""

from collections.abc import Mapping
from typing import Any

from t5x_like.config import binding_types
from t5x_like.config.gin_internals import CONFIG, MACRO, Reference
from t5x_like.errors import UserError


def bindings_of(configurable: Any, scopes: tuple[str, ...]) -> dict[str, Any]:
    """Parameter to value, as a call in these scopes would find them."""
    bound: dict[str, Any] = {}
    for depth in range(len(scopes) + 1):
        key = ("/".join(scopes[:depth]), configurable.selector)
        bound.update(CONFIG.get(key, {}))
    return bound


def macro_name(value: Any) -> str:
    """The macro that a value stands for; "" where it is none."""
    is_macro = isinstance(value, Reference) and value.configurable.selector == MACRO
    return "/".join(value.scopes) if is_macro else ""


def settled(value: Any, within: tuple[str, ...] = ()) -> Any:
    """A bound value with macros replaced by theirs, and with what is yet to be built marked.

    Args:
      value: as gin keeps it.
      within: macros that this value is a part of.

    Raises:
      UserError: a macro that stands for itself.
    """
    if isinstance(value, Mapping):
        return {key: settled(item, within) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(settled(item, within) for item in value)
    if not isinstance(value, Reference):
        return value
    if name := macro_name(value):
        if name in within:
            raise UserError(f"{name} stands for itself: {' = %'.join([*within, name])}.")
        return settled(CONFIG[name, MACRO]["value"], (*within, name))
    return binding_types.Reference(value.configurable.wrapped, value.evaluate)
