"""Whether a bound value can be of the type that a parameter is annotated with, without building it.

Only certain mismatches count: where there is no annotation, or a function does not say what it
returns, every value fits.
"""

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

_PLAIN = (bool, int, float, complex, str, bytes, list, tuple, dict, set, type(None))
_WORDS = {
    int: "an integer",
    float: "a number",
    str: "a string",
    bool: "True or False",
    type(None): "None",
}


@dataclasses.dataclass(frozen=True)
class Reference:
    """Stands for a bound value that is not built yet.

    Attributes:
      target: the class or function.
      called: whether the value is what it returns, rather than itself.
    """

    target: Callable[..., Any]
    called: bool

    def __repr__(self) -> str:
        name = f"{self.target.__module__.rpartition('.')[2]}.{self.target.__qualname__}"
        return f"@{name}()" if self.called else f"@{name}"


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value can be of an annotated type; True where that is not certain.

    Args:
      value: plain, a `Reference`, or a container of these.
      annotation: as `inspect.signature` gives it.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is typing.Annotated:
        return fits(value, arguments[0])
    if origin is typing.Literal:
        return isinstance(value, Reference) or value in arguments
    kind = type(None) if annotation is None else origin or annotation
    if not isinstance(kind, type) or kind in (Any, object, inspect.Parameter.empty):
        return True  # a string, a type variable or nothing
    if isinstance(value, Reference):
        return _reference_fits(value, kind)
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, int | float)
    if isinstance(value, str) and _is_sequence(kind):
        return False  # its characters would be taken as the items
    if _is_protocol(kind):
        return not isinstance(value, _PLAIN)
    if kind in (list, tuple):
        return isinstance(value, list | tuple) and _contents_fit(value, kind, arguments)
    return isinstance(value, kind) and _contents_fit(value, kind, arguments)


def described(annotation: Any) -> str:
    """An annotation in words: "an integer or None"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        kinds = dict.fromkeys(described(argument) for argument in arguments)
        # "a list, each a string, or None": it is the list that may be None.
        return (", or " if any(", each" in one for one in kinds) else " or ").join(kinds)
    if origin is typing.Annotated:
        return described(arguments[0])
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    kind = type(None) if annotation is None else origin or annotation
    if kind in _WORDS:
        return _WORDS[kind]
    if kind in (collections.abc.Callable, type):
        return "a function or class (@module.name)"
    if isinstance(kind, type) and issubclass(kind, Mapping):
        inner = f" of {described(arguments[-1])} for each name" if arguments else ""
        return f"a mapping{inner}"
    if isinstance(kind, type) and _is_sequence(kind):
        return "a list" + (f", each {described(arguments[0])}" if arguments else "")
    name = getattr(kind, "__name__", str(kind))
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name} (@module.name())"


def _reference_fits(reference: Reference, kind: type) -> bool:
    target = reference.target
    if not reference.called:
        # `type` has the method too, and every class as an instance of it.
        return any("__call__" in vars(base) for base in kind.__mro__)
    given = [target] if inspect.isclass(target) else _returned(target)
    return any(_class_fits(one, kind) for one in given)


def _class_fits(given: type | None, kind: type) -> bool:
    if given is None or _is_protocol(kind) or _is_protocol(given):
        return True
    if kind is float and issubclass(given, int):
        return True
    return issubclass(given, kind) or issubclass(kind, given)


def _returned(function: Callable[..., Any]) -> list[type | None]:
    """The classes that a function is annotated to return; None for what may be of any."""
    try:
        annotation = inspect.signature(function).return_annotation
    except (TypeError, ValueError):
        return [None]
    origin = typing.get_origin(annotation)
    union = origin in (typing.Union, types.UnionType)
    found = []
    for one in typing.get_args(annotation) if union else (annotation,):
        one = type(None) if one is None else typing.get_origin(one) or one
        unknown = one in (Any, object, inspect.Signature.empty)
        found.append(one if isinstance(one, type) and not unknown else None)
    return found


def _contents_fit(value: Any, kind: type, arguments: tuple[Any, ...]) -> bool:
    if not arguments:
        return True
    if issubclass(kind, Mapping):
        of_names, of_values = arguments
        return all(fits(k, of_names) and fits(v, of_values) for k, v in value.items())
    if kind is tuple and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if _is_sequence(kind):
        return all(fits(item, arguments[0]) for item in value)
    return True


def _is_sequence(kind: type) -> bool:
    return issubclass(kind, collections.abc.Iterable) and not issubclass(kind, Mapping | str)


def _is_protocol(kind: type) -> bool:
    return bool(getattr(kind, "_is_protocol", False))
