"""Type checks of a model's fields, for values that come from a gin file or a command line."""

import numbers
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

# NumPy's numbers are numbers too.
_KINDS: Mapping[Any, Callable[[Any], bool]] = {
    bool: lambda value: isinstance(value, bool),
    int: lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool),
    float: lambda value: isinstance(value, numbers.Real) and not isinstance(value, bool),
    str: lambda value: isinstance(value, str),
    type(None): lambda value: value is None,
}


def is_of(value: Any, annotation: Any) -> bool:
    """Whether a value has a plain type, or one of several; True for any other annotation."""
    kinds = _kinds(annotation)
    if not all(isinstance(kind, type) and kind in _KINDS for kind in kinds):
        return True
    return any(_KINDS[kind](value) for kind in kinds)


def named(annotation: Any) -> str:
    """The name of a plain type, or the names of several."""
    return " or ".join("None" if k is type(None) else k.__name__ for k in _kinds(annotation))


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
