"""What functions and objects of a user's own are, the same in every process, for fingerprints."""

import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any

from tasks.errors import TaskError

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def without_gin(value: Any) -> Any:
    """A function that a gin file names, with what it binds as a `functools.partial`'s arguments.

    `t5x_like/config/gin_internals.py` gives such functions `without_gin`. Other values stay.
    """
    return getattr(value, "without_gin", lambda: value)()


def described(value: Any, within: tuple[int, ...] = ()) -> Any:
    """What a value is and is given.

    Functions are told apart by their source, what they are bound to and what they close over;
    objects by what they say, or else by their fields, and those that are called by the source of
    their class too.

    Args:
      value: of a user's own.
      within: the ids of what it is a part of.

    Raises:
      TaskError: nothing is known of it but its place in memory.
    """
    if isinstance(value, str | bytes):
        return repr(value)
    if id(value) in within:
        return type(value).__qualname__
    within = (*within, id(value))
    value = without_gin(value)
    if isinstance(value, functools.partial):
        given = [described(argument, within) for argument in value.args]
        named = {name: described(x, within) for name, x in sorted(value.keywords.items())}
        return described(value.func, within), given, named
    if isinstance(value, Mapping):
        return [(described(key, within), described(x, within)) for key, x in value.items()]
    if isinstance(value, list | tuple):
        return [described(item, within) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(repr(described(item, within)) for item in value)
    if hasattr(value, "__qualname__"):
        return _function(value, within)
    return _object(value, within)


def _function(value: Any, within: tuple[int, ...]) -> Any:
    """The name and source of a function or class, and what it is bound to or closes over."""
    module = getattr(value, "__module__", "") or ""
    name = f"{module}.{value.__qualname__}"
    if module.startswith("seqio."):
        return name, ""
    known = name, _source(value)
    function = inspect.unwrap(value)
    if inspect.isfunction(function) and not known[1]:
        raise TaskError(f"the source of '{name}' cannot be read: define it in a module's file.")
    further = {}
    owner = getattr(value, "__self__", None)
    if owner is not None and not inspect.ismodule(owner) and not inspect.isclass(owner):
        further["self"] = owner
    if inspect.isfunction(function):
        further |= inspect.getclosurevars(function).nonlocals
    return (*known, {k: described(x, within) for k, x in further.items()}) if further else known


def _object(value: Any, within: tuple[int, ...]) -> Any:
    """What an object says it is, or its class and fields."""
    kind, said = type(value), repr(value)
    ours = kind.__module__.partition(".")[0] in ("seqio", "tasks")
    source = _source(kind) if callable(value) and not ours else ""
    if not _ADDRESS.search(said):
        return (said, source) if source else said
    slots = (name for each in kind.__mro__ for name in getattr(each, "__slots__", ()))
    fields = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    fields |= getattr(value, "__dict__", {})
    shown = {name: repr(field) for name, field in sorted(fields.items())}
    if ours:  # what else these have is what they read, or where they keep it
        return kind.__qualname__, {k: v for k, v in shown.items() if not _ADDRESS.search(v)}
    if not fields and not hasattr(value, "__dict__"):
        raise TaskError(
            f"of an object of {kind.__module__}.{kind.__qualname__} nothing is known but where it "
            "is in memory, so that nothing made with it would be found again: give its class a "
            "__repr__ that says what it is, such as a dataclass has."
        )
    shown |= {k: described(fields[k], within) for k, v in shown.items() if _ADDRESS.search(v)}
    return (kind.__qualname__, shown, source) if source else (kind.__qualname__, shown)


def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""
