"""Bindings that nothing reads: misspelt macros and scopes, settings of what is not used.

What a program reads is found by walking from it through references and macros, as a call would.
A name from the command line that is not met on the way is a mistake; one in a file is warned of,
since files are written for more than one run. The packaged files and the `config.gin` of earlier
runs bind more than any one command reads, on purpose: of those, only a macro that no binding at
all refers to is told.
"""

import dataclasses
import inspect
from collections.abc import Collection, Iterator
from typing import Any

from t5x_like.config import provenance
from t5x_like.config.gin_files import nearest
from t5x_like.config.gin_internals import (
    CONFIG,
    CONSTANT,
    MACRO,
    REGISTRY,
    Key,
    iterate_references,
)
from t5x_like.config.macro_help import PURPOSES, REPLACING, T5X_NAMES
from t5x_like.config.provenance import Place
from t5x_like.config.references import bindings_of

_Name = tuple[Key, str]  # a key and the parameter that it binds


@dataclasses.dataclass(frozen=True)
class Unread:
    """A binding that nothing reads.

    Attributes:
      place: where it was bound.
      message: one line: the place, the name, and what would be read.
      unused: the function or class that nothing uses, if that is the reason.
    """

    place: Place
    message: str
    unused: str = ""


def unread(
    programs: Collection[str], macros: Collection[str], *, whole: bool = True
) -> list[Unread]:
    """The bindings that hold and that nothing reads, in the order of their places.

    Args:
      programs: the functions that are called, each `MODULE.NAME`. Where none of them is
        configured, nothing is known of what is read.
      macros: those that the command itself reads.
      whole: whether nothing else is read. Not so of a command that shows or prepares a part of
        what another one will run: then only macros are told that no binding refers to and that
        no packaged file knows, and scopes that no reference has.
    """
    walk = _Walk()
    for name in macros:
        walk.macro(name)
    configured = list(_configured(programs))
    for configurable in configured:
        walk.call(configurable, ())
    whole = whole and bool(configured if programs else walk.used)
    entered = _scopes_of_references()
    known = entered | set(macros) | set(PURPOSES)
    if not whole:
        walk.offered |= known
    found = []
    for key, parameter in _bound():
        place = provenance.places(key, parameter)[-1]
        overruled = (key, parameter) in walk.overruled
        if place.base or ((key, parameter) in walk.read and not overruled):
            continue
        # The name of a macro is a scope to gin.
        scopes = known if key[1] == MACRO else entered | {""}
        if (whole and not place.general) or key[0] not in scopes:
            unused = "" if _whole(key) in walk.used or key[1] == MACRO else _whole(key)
            found.append(Unread(place, walk.message(key, parameter, place), unused))
    found.sort(key=lambda one: (one.place.source, one.place.line or 0))
    return _once_for_each_object(found)


def _once_for_each_object(found: list[Unread]) -> list[Unread]:
    """Of the parameters that one file binds of an object that is not used, the first alone."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for one in found:
        group = one.place.source, one.unused
        if not one.unused or group not in seen:
            kept.append(one)
        seen.add(group)
    return kept


def _configured(programs: Collection[str]) -> Iterator[Any]:
    for scope, selector in CONFIG:
        configurable = REGISTRY[selector]
        function = configurable.wrapped
        if not scope and f"{function.__module__}.{function.__name__}" in programs:
            yield configurable


def _bound() -> Iterator[_Name]:
    for key, values in CONFIG.items():
        for parameter in values:
            if provenance.places(key, parameter):
                yield key, parameter


def _scopes_of_references() -> set[str]:
    """Every scope that some reference enters, and so every macro that is referred to."""
    found = set()
    for reference in iterate_references(CONFIG):
        for depth in range(len(reference.scopes)):
            found.add("/".join(reference.scopes[: depth + 1]))
    return found


class _Walk:
    """What has been met on the way from a program.

    Attributes:
      read: bindings that a call would take.
      overruled: bindings that it would take if a binding of an inner scope did not hold.
      used: written names of what is configured, with their scopes.
      offered: names that could have been bound: macros, and parameters of what is used.
    """

    def __init__(self) -> None:
        self.read: set[_Name] = set()
        self.overruled: dict[_Name, set[_Name]] = {}
        self.used: set[str] = set()
        self.offered: set[str] = set()
        self._seen: set[tuple[str, tuple[str, ...]]] = set()

    def macro(self, name: str) -> None:
        """Walks from a macro that the command reads."""
        self.offered.add(name)
        if (name, MACRO) in CONFIG:
            self.call(REGISTRY[MACRO], tuple(name.split("/")))

    def call(self, configurable: Any, scopes: tuple[str, ...]) -> None:
        """Walks through what a call of a configurable in these scopes evaluates."""
        if (configurable.selector, scopes) in self._seen:
            return
        self._seen.add((configurable.selector, scopes))
        if configurable.selector != CONSTANT:
            self._offer(configurable, scopes)
        for parameter, value in bindings_of(configurable, scopes).items():
            self._take(configurable.selector, scopes, parameter)
            for reference in iterate_references(value):
                self.call(reference.configurable, tuple(reference.scopes) or scopes)

    def _offer(self, configurable: Any, scopes: tuple[str, ...]) -> None:
        if configurable.selector == MACRO:
            self.offered.add("/".join(scopes))
            return
        # What builds a macro's value stands in a scope of the macro's name, which nobody writes.
        outer = [scope for scope in scopes if (scope, MACRO) not in CONFIG]
        name = "/".join([*outer, _short(configurable.selector)])
        self.used.add(name)
        parameters = inspect.signature(configurable.wrapped).parameters
        self.offered |= {f"{name}.{parameter}" for parameter in parameters}

    def _take(self, selector: str, scopes: tuple[str, ...], parameter: str) -> None:
        keys = [("/".join(scopes[:depth]), selector) for depth in range(len(scopes) + 1)]
        binders = [key for key in keys if parameter in CONFIG.get(key, {})]
        *outer, holding = binders
        self.read.add((holding, parameter))
        for place in provenance.places(holding, parameter)[-1:]:
            if place.base_key:
                self.read.add((place.base_key, parameter))
        for key in outer:
            self.overruled.setdefault((key, parameter), set()).add((holding, parameter))

    def message(self, key: Key, parameter: str, place: Place) -> str:
        """Says that a binding is not read, and what would be."""
        scope, selector = key
        name = scope if selector == MACRO else _written(key, parameter)
        shown = "it" if place.line is None else name
        near = nearest(name, self.offered - {name})
        if selector == MACRO:
            if name in T5X_NAMES:
                return f"{place}: {name} is T5X's; here {T5X_NAMES[name]}."
            if replaced := self._replaced(name):
                return f"{place}: {replaced}"
            if name in PURPOSES:  # it is no slip: other commands or other files read it
                near = self._parameter(name)
                return f"{place}: nothing reads {shown} here ({name}: {PURPOSES[name]}).{near}"
            return f"{place}: nothing reads {shown}.{self._parameter(name) or near}"
        if inner := sorted(self.overruled.get((key, parameter), ())):
            held = " and ".join(_written(holding, parameter) for holding, _ in inner)
            where = provenance.places(*inner[0])[-1]
            return f"{place}: {held}, bound in {where}, holds in its place: bind that."
        if _whole(key) not in self.used:
            return f"{place}: {_whole(key)} is not used, so that nothing reads {shown}.{near}"
        return f"{place}: nothing reads {shown}.{near}"

    def _replaced(self, name: str) -> str:
        """Of a macro that could replace one that is read here, what keeps it from that."""
        file, other = REPLACING.get(name, ("", ""))
        if other not in self.offered:
            return ""
        after = f"give --gin_file={file} after the run's file"
        held = provenance.places((other, MACRO), "value")[-1:]
        if name not in _scopes_of_references() or not held:
            return f"nothing reads {name} yet: {after}, and no {other}."
        if held[0].line is None:
            return f"{other} is given too, and holds in place of {name}: give one of the two."
        return f"{other}, bound in {held[0]}, holds in place of {name}: {after}."

    def _parameter(self, macro: str) -> str:
        """` Did you mean ...?` of parameters that a macro is named after, which it is not here."""
        called = [one for one in self.offered if one.rpartition(".")[2] == macro.lower()]
        return f" Did you mean {' or '.join(sorted(called))}?" if called else ""


def _short(selector: str) -> str:
    return ".".join(selector.split(".")[-2:])


def _whole(key: Key) -> str:
    scope, selector = key
    return "/".join(filter(None, [scope, _short(selector)]))


def _written(key: Key, parameter: str) -> str:
    scope, selector = key
    return "/".join(filter(None, [scope, f"{_short(selector)}.{parameter}"]))
